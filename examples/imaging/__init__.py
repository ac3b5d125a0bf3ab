"""The demonstration of the agent ``imaging``: its inputs, and which of them carry pixels."""
