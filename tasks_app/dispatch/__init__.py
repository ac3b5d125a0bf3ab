"""D4: admits what may enter the broker now, shallowly, and publishes it."""
