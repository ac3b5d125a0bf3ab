"""A2A 0.1, whose clients choose the ids of their tasks: ``tasks/send`` and what goes with it, over JSON-RPC only.

A task keeps the server's id. The client's is an alias: the id of the message that made the task is made of it, so that
it is unique to its client and agent, stored with the task or not at all, and a request that is repeated finds it. What
0.1 and 0.3 call alike (``tasks/get``) is 0.3's if the server knows the id, and 0.1's if it is an alias.

============  ==========================================================
``aliases``   ids of 0.1's messages, and the task that an alias names
``results``   0.3's objects → 0.1's
``methods``   every method of 0.1
============  ==========================================================
"""
