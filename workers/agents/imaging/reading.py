"""Bytes → :class:`Source`, by what they are and not by what they are declared to be."""

from __future__ import annotations

from workers.agents.imaging.dicom import looks_like_dicom, open_dicom
from workers.agents.imaging.errors import failure
from workers.agents.imaging.model import Source
from workers.agents.imaging.raster import media_type, open_raster


def open_image(data: bytes) -> Source:
    """The image in ``data``: header read, bounds checked, pixels not decoded yet.

    Raises :class:`tasks_app.agents.AgentError` with one of the codes of ``errors.SENTENCES``; its text never quotes
    the file.
    """
    if not data:
        raise failure("empty")
    if media_type(data):
        return open_raster(data)
    if looks_like_dicom(data):
        return open_dicom(data)
    raise failure("not_an_image")
