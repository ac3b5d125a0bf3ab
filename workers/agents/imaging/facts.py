"""The allow-list: which tags of a DICOM object may leave it, and in which form.

A tag that is not named here is never published. Names, identifiers, dates, UIDs and free text are not; codes are
published only in the form the standard gives them, numbers only as finite numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID

#: Defined terms of Modality, current and retired (DICOM PS3.3 C.7.3.1.1.1); anything else is not published.
_MODALITIES = """
ANN AR ASMT AU BDUS BI BMD CFM CR CT CTPROTOCOL DG DMS DOC DX ECG EEG EMG EOG EPS ES FID GM HC HD IO IOL IVOCT IVUS
KER KO LEN LS MG MR M3D NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS OT PA PLAN POS PR PT PX REG RESP RF RG RTDOSE
RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SEG SM SMR SR SRF STAIN TEXTUREMAP TG US VA XA XAPROTOCOL
XC AS CD CF CP CS DD DF DM DS EC FA FS LP MA MS OPR ST TV VF
"""
MODALITIES = frozenset(_MODALITIES.split())
_COLOUR_MODELS = "RGB YBR_FULL YBR_FULL_422 YBR_PARTIAL_420 YBR_PARTIAL_422 YBR_ICT YBR_RCT"
PHOTOMETRIC = frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", *_COLOUR_MODELS.split()})
_CODE = re.compile(r"[A-Z][A-Z ]{0,14}[A-Z]")

WHOLE = {"Rows": "rows", "Columns": "columns", "BitsStored": "bits_stored"}
REAL = {
    "SliceThickness": "slice_thickness_mm",
    "RescaleSlope": "rescale_slope",
    "RescaleIntercept": "rescale_intercept",
    "WindowCenter": "window_center",
    "WindowWidth": "window_width",
    "PixelSpacing": "pixel_spacing_mm",
}
#: Tags whose words must not reappear in a published code.
_IDENTIFYING = ("PatientName", "PatientID", "OtherPatientNames", "PatientBirthName", "AccessionNumber")


def technical(ds: Dataset, *, transfer_syntax: str, frame_count: int, frame_index: int) -> dict[str, Any]:
    """The publishable facts by name. Lengths in mm; window and rescale in output units; absent ones are left out."""
    facts: dict[str, Any] = {
        "modality": modality(ds),
        "photometric_interpretation": photometric(ds),
        "number_of_frames": frame_count,
        "body_part_examined": _body_part(ds),
        "transfer_syntax": syntax_name(transfer_syntax),
    }
    facts |= {name: whole(ds, tag) for tag, name in WHOLE.items()}
    for tag, name in REAL.items():
        found = reals(ds, tag, frame_index)
        facts[name] = found[0] if len(found) == 1 else found
    return {name: value for name, value in facts.items() if value not in (None, [])}


def modality(ds: Dataset) -> str | None:
    """A defined term of Modality, or None."""
    term = _text(ds, "Modality")
    return term if term in MODALITIES else None


def photometric(ds: Dataset) -> str | None:
    """A defined term of Photometric Interpretation, or None."""
    term = _text(ds, "PhotometricInterpretation")
    return term if term in PHOTOMETRIC else None


def syntax_name(uid: str) -> str:
    """The registered name of a transfer syntax; ``unknown`` for a private one."""
    name = UID(uid).name
    return "unknown" if name == uid else name


def whole(ds: Dataset, tag: str) -> int | None:
    """A tag's value as a whole number; None where it is absent or no such number."""
    try:
        return int(ds.get(tag))
    except Exception:  # a damaged element raises whatever its parser raises
        return None


def reals(ds: Dataset, tag: str, frame_index: int = 0) -> list[float]:
    """A tag's values as finite numbers, from the dataset or from its functional groups; [] where any is not."""
    for holder in _holders(ds, frame_index):
        try:
            value = holder.get(tag)
            if value is None or value == "":
                continue
            numbers = [float(v) for v in (value if hasattr(value, "__iter__") else [value])]
        except Exception:
            return []
        if len(numbers) <= 16 and all(map(math.isfinite, numbers)):
            return numbers
    return []


def _holders(ds: Dataset, frame_index: int) -> Iterator[Dataset]:
    """The dataset, then the items of the frame's and the shared functional groups (PS3.3 C.7.6.16)."""
    yield ds
    for name, index in (("PerFrameFunctionalGroupsSequence", frame_index), ("SharedFunctionalGroupsSequence", 0)):
        groups = ds.get(name)
        if not groups or index >= len(groups):
            continue
        for macro in ("PixelMeasuresSequence", "PixelValueTransformationSequence", "FrameVOILUTSequence"):
            items = groups[index].get(macro)
            if items:
                yield items[0]


def _body_part(ds: Dataset) -> str | None:
    term = _text(ds, "BodyPartExamined")
    if term is None or not _CODE.fullmatch(term) or set(term.split()) & _identifying_words(ds):
        return None
    return term


def _identifying_words(ds: Dataset) -> set[str]:
    values = (str(ds.get(tag, "")) for tag in _IDENTIFYING)
    return {word.upper() for value in values for word in re.split(r"[\s^=\\,.]+", value) if word}


def _text(ds: Dataset, tag: str) -> str | None:
    try:
        value = ds.get(tag)
    except Exception:
        return None
    return value.strip() if isinstance(value, str) else None
