"""The entries of Django's ``STORAGES`` that ``A2A_ARTIFACT_STORAGE`` means. Pure: the settings import it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

DATABASE, FILESYSTEM, S3 = KINDS = ("database", "filesystem", "s3")


def storages(places: Sequence[str], *, encryption: str) -> dict[str, dict[str, Any]]:
    """An entry for each place, by the place as it is written. ``encryption`` is what S3 is asked for, if anything.

    What means no place counts for nothing: a check (a2a.E018) reports it.
    """
    return {place: _entry(place, encryption) for place in places if is_place(place)}


def kind(place: str) -> str:
    """Which of :data:`KINDS` a place is."""
    if place == DATABASE:
        return DATABASE
    return S3 if urlsplit(place).scheme == S3 else FILESYSTEM


def is_place(place: str) -> bool:
    """Whether it is ``database``, ``s3://bucket`` or ``s3://bucket/folder``, or an absolute path."""
    if kind(place) == S3:
        return bool(urlsplit(place).netloc)
    return place == DATABASE or Path(place).is_absolute()


def _entry(place: str, encryption: str) -> dict[str, Any]:
    if kind(place) == DATABASE:
        return {"BACKEND": "artifacts_app.storage.database.DatabaseStorage"}
    url = urlsplit(place)
    if kind(place) == FILESYSTEM:
        return {"BACKEND": "artifacts_app.storage.filesystem.DurableStorage", "OPTIONS": {"location": place}}
    options: dict[str, Any] = {"bucket_name": url.netloc, "location": url.path.strip("/")}
    if encryption:
        options["object_parameters"] = {"ServerSideEncryption": encryption}
    return {"BACKEND": "artifacts_app.storage.s3.ArtifactStorage", "OPTIONS": options}
