"""Where blobs' bytes stand: the database, a folder, or S3, each one of Django's storages.

A storage saves from a stream, opens a seekable file that reads no more than it is asked for, and raises OSError alone.
"""
