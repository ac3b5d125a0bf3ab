"""Agents to copy: one that asks, one that streams, and an executor of the a2a-sdk."""
