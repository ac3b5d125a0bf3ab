"""A command-line client of any A2A agent, made with the a2a-sdk."""
