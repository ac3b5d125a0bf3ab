"""Requests that nobody would write by hand, made by hypothesis from the protobuf descriptors of A2A.

==============  =========================================================================
``strategies``  messages of any descriptor as ProtoJSON
``older``       params of the methods of A2A 0.3 and 0.1
``addresses``   paths, queries and headers
``breaking``    what breaks JSON and bytes
``requests``    what is asked: an operation over every binding, or one request of one door
``doors``       asks it, in this process, and never waits for the end of a stream
``properties``  what must hold of every answer
==============  =========================================================================

What is found once is kept as a file in ``tests/protocol/corpus`` and asked again by ``test_corpus``. A test that fails
prints a line that begins with ``case:``. Put its JSON into a file with a name that says what was wrong, and add ``why``
(what went wrong), ``accepted`` (whether the request is to be done) and, where it is refused, ``fields`` (those that
the error may name). In place of ``http`` or ``grpc`` a case may have ``method`` and ``params``: an operation of A2A
1.0, asked over every binding that can say it.
"""
