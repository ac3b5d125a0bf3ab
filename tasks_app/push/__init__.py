"""Push notifications (A2A 1.0, sections 3.1.7 to 3.1.10, 4.3, 13.2): configs, what is sent, and where it may go.

==============  =====================================================================
values          what the parts hand each other
sealing         secrets at rest
wire            a2a types ↔ values; what a client may ask for
guard           which addresses may be connected to
configs         verbs of clients: create, get, list, delete
operations      the four A2A operations, for every binding
outbox          verbs of deliveries: claim, advance, fail, release, resume
message         body and headers of a notification
==============  =====================================================================

``workers/push.py`` sends them.
"""
