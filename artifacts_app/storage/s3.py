"""S3, and whatever speaks as it does. Credentials, region and endpoint are those of the AWS SDK's environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.core.files.base import File
from storages.backends.s3 import S3Storage

from artifacts_app.storage.seekable import Seekable

#: Of the SDK's own a call could wait for minutes.
TIMEOUTS = {"connect_timeout": 5, "read_timeout": 30}
ATTEMPTS_MAX = 3
#: Connections of a process.
POOL = 32
_MISSING = ("404", "NoSuchKey", "NotFound")


class ArtifactStorage(S3Storage):  # type: ignore[misc]  # it has no types
    """django-storages', but that it opens what is read without fetching all of it, and raises OSError alone."""

    def __init__(self, **options: Any) -> None:
        elsewhere = any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if elsewhere else "virtual"},
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS_MAX},
            max_pool_connections=POOL,
            **TIMEOUTS,
        )
        # With threads of its own the SDK holds ten parts of an upload in memory, and is no faster.
        transfer = TransferConfig(use_threads=False)
        super().__init__(file_overwrite=True, client_config=config, transfer_config=transfer, **options)

    def _save(self, name: str, content: Any) -> str:
        with _os_errors(name):
            return str(super()._save(name, content))

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        with _os_errors(name):
            found: Any = _Ranges(self.bucket.Object(self._normalize_name(name)))
            return File(found, name)

    def delete(self, name: str) -> None:
        with _os_errors(name):
            super().delete(name)

    def size(self, name: str) -> int:
        with _os_errors(name):
            return int(self.bucket.Object(self._normalize_name(name)).content_length)

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        with _os_errors(path):
            folders, names = super().listdir(path)
        return folders, names

    def address(self, name: str, *, expires_s: int, media_type: str, disposition: str) -> str:
        """Where whoever has it may fetch the bytes for so long, under this type and disposition."""
        said = {
            "Bucket": self.bucket_name,
            "Key": self._normalize_name(name),
            "ResponseContentType": media_type,
            "ResponseContentDisposition": disposition,
        }
        client = self.bucket.meta.client
        return str(client.generate_presigned_url("get_object", Params=said, ExpiresIn=expires_s))


class _Ranges(Seekable):
    """Reads an object by ranges; what follows on what was read comes from the same response."""

    def __init__(self, found: Any) -> None:
        super().__init__(int(found.content_length))
        self._found = found
        self._body: Any = None
        self._body_at = 0

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._size_bytes:
            return 0
        with _os_errors(self._found.key):
            if self._body is None or self._body_at != self._at:
                self._end()
                self._body = self._found.get(Range=f"bytes={self._at}-")["Body"]
            piece = self._body.read(len(buffer))
        buffer[: len(piece)] = piece
        self._at = self._body_at = self._at + len(piece)
        return len(piece)

    def close(self) -> None:
        self._end()
        super().close()

    def _end(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None


@contextmanager
def _os_errors(name: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _MISSING:
            raise FileNotFoundError(f"S3 has no {name}") from error
        raise OSError(f"S3: {error}") from error
    except BotoCoreError as error:
        raise OSError(f"S3: {error}") from error
