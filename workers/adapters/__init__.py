"""Agents that are no functions of ours: executors written for the a2a-sdk, and agents elsewhere, reached over A2A.

What is imported here is light, for every process imports the modules that declare agents; the SDK's server and client
are imported by the worker that first runs such an agent.
"""

from workers.adapters.executor import executor_agent
from workers.adapters.remote import remote_agent

__all__ = ["executor_agent", "remote_agent"]
