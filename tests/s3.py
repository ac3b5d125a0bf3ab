"""S3 for tests: moto's server, in this process. It checks no signatures, and honours addresses that have expired."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from moto.moto_api._internal.models import moto_api_backend
from moto.server import ThreadedMotoServer

from stack.ports import LOOPBACK, find_free

REGION = "us-east-1"
ACCESS_KEY, SECRET_KEY = "key", "secret"


class FakeS3:
    """A bucket on loopback; ``client`` looks into it. It keeps what it holds while it is stopped.

    What moto holds is the whole process's: one at a time.
    """

    bucket = "artifacts"

    def __init__(self) -> None:
        port = find_free()
        self.endpoint_url = f"http://{LOOPBACK}:{port}"
        self.client = boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name=REGION).client(
            "s3", endpoint_url=self.endpoint_url
        )
        self._server = ThreadedMotoServer(LOOPBACK, port, verbose=False)

    @property
    def env(self) -> dict[str, str]:
        """What boto3 reads, for processes of their own."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL_S3": self.endpoint_url,
        }

    def start(self) -> None:
        """Listens, on the same port each time."""
        self._server.start()

    def stop(self) -> None:
        """Refuses connections from now on; a request that runs is still answered."""
        self._server.stop()

    def empty(self) -> None:
        """Forgets all objects and all uploads that were not completed."""
        moto_api_backend.reset()
        self.client.create_bucket(Bucket=self.bucket)

    def keys(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [each["Key"] for page in pages for each in page.get("Contents", [])]

    def uploads(self) -> list[str]:
        """The keys of uploads in parts that were neither completed nor aborted."""
        return [each["Key"] for each in self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])]

    def head(self, key: str) -> dict[str, Any]:
        """What is known of an object: its ``ContentLength``, its ``ServerSideEncryption``."""
        return dict(self.client.head_object(Bucket=self.bucket, Key=key))

    def content(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read())


@contextmanager
def fake_s3() -> Iterator[FakeS3]:
    """One with an empty bucket. It takes half a second to stop: share it, and empty it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    made = FakeS3()
    made.start()
    try:
        made.empty()
        yield made
    finally:
        made.stop()
        moto_api_backend.reset()
