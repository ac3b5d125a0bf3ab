"""What the demonstration sends: the files that ship in pydicom's wheel, or any folder the user names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

MANIFEST = Path(__file__).with_name("manifest.json")
DATA = "pydicom/data/"
DICOM = "application/dicom"
_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One file to send. ``decodes`` is None where nobody tried yet; ``reason`` is the agent's code if it is False."""

    name: str
    path: Path
    media_type: str
    decodes: bool | None = None
    reason: str | None = None


def studies(*, every_file: bool = False) -> list[Study]:
    """The files of the manifest, by name: those named ``*.dcm``, or every file that ships beside them.

    Raises ``FileNotFoundError`` if the installed pydicom lacks one.
    """
    root = data_folder()
    return [_study(entry, root) for entry in manifest()["files"] if every_file or entry["name"].endswith(".dcm")]


def folder(path: Path) -> list[Study]:
    """The DICOM, PNG and JPEG files below ``path``, by name; known by their first bytes, not by their suffix."""
    found = []
    for file in sorted(path.rglob("*")):
        media_type = sniffed(file) if file.is_file() and file.name != "DICOMDIR" else None
        if media_type is not None:
            found.append(Study(name=file.relative_to(path).as_posix(), path=file, media_type=media_type))
    return found


def sniffed(path: Path) -> str | None:
    """The media type of a file this agent may read; None for anything else, or if it cannot be opened."""
    from workers.agents.imaging.dicom_object import looks_like_dicom
    from workers.agents.imaging.raster import media_type

    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return None
    return media_type(head) or (DICOM if looks_like_dicom(head) else None)


def manifest() -> dict[str, Any]:
    """The committed listing: package, version, counts, and ``files``, each with the fields of its line."""
    content: dict[str, Any] = json.loads(MANIFEST.read_text(encoding="utf-8"))
    return content


def data_folder() -> Path:
    """Where the installed pydicom keeps its data."""
    return Path(str(distribution("pydicom").locate_file(DATA)))


def _study(entry: dict[str, Any], root: Path) -> Study:
    path = root / entry["name"]
    if not path.is_file():
        raise FileNotFoundError(f"pydicom {manifest()['version']} ships {entry['name']}; the installed one does not")
    return Study(
        name=entry["name"],
        path=path,
        media_type=entry["media_type"] or "application/octet-stream",
        decodes=entry["decodes"],
        reason=entry["reason"],
    )
