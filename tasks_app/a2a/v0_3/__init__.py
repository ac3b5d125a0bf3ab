"""A2A 0.3 on the operations of 1.0: requests are converted to 1.0, and what is answered back. 0.2 asks the same.

Requests are converted here, from JSON to JSON, so that what is wrong in them is refused by 0.3's name of the field and
with -32602, and numbers stay what they are; answers by the SDK, whose types of 0.3 they are (``a2a.compat.v0_3``).

================  ===================================================================================
``requests``      params of a JSON-RPC method of 0.3 → params of an operation
``results``       what an operation answers → 0.3's objects
``errors``        A2A's errors as 0.3 has them
``methods``       every method of 0.3, its operation and both conversions
``protojson``     0.3's protobuf, which its HTTP+JSON and gRPC bindings speak ↔ what JSON-RPC says there
``rest, grpc``    those two bindings
================  ===================================================================================
"""
