"""Many tasks followed at once, by their streams or by a webhook, without a gap when a connection breaks."""
