"""Writes ``manifest.json``: every data file of pydicom's wheel, and whether the agent ``imaging`` decodes it.

``python -m examples.imaging.build_manifest``: the same wheel gives the same file, byte for byte. Nothing is
downloaded: what pydicom only registers for download does not stand in the wheel's record and is not listed.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from examples.imaging.inputs import DATA, MANIFEST, data_folder, sniffed
from tasks_app.agents import AgentError
from workers.agents.imaging.pipeline import Options, examine


def shipped() -> list[str]:
    """The names of the wheel's data files below ``pydicom/data``, code left out, sorted."""
    names = (file.as_posix() for file in distribution("pydicom").files or ())
    return sorted(name.removeprefix(DATA) for name in names if name.startswith(DATA) and ".py" not in Path(name).suffix)


def entry(name: str) -> dict[str, Any]:
    """One line of the manifest: the file is read, decoded, measured and rendered."""
    path = data_folder() / name
    data = path.read_bytes()
    reason, notes, found = None, [], sniffed(path)
    try:
        notes = examine(data, Options(), lambda fraction, step: None).report.get("notes", [])
    except AgentError as error:
        reason = error.code
    return {
        "name": name,
        "size_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "media_type": found,
        "decodes": reason is None,
        "reason": reason,
        "notes": notes,
    }


def build() -> dict[str, Any]:
    """The whole manifest."""
    files = [entry(name) for name in shipped()]
    outcomes = Counter((file["name"].endswith(".dcm"), file["reason"] or "decodes") for file in files)
    return {
        "package": "pydicom",
        "version": distribution("pydicom").version,
        "counts": {
            "dcm_files": {outcome: n for (is_dcm, outcome), n in sorted(outcomes.items()) if is_dcm},
            "other_files": {outcome: n for (is_dcm, outcome), n in sorted(outcomes.items()) if not is_dcm},
        },
        "files": files,
    }


def main() -> None:
    """Writes the manifest and prints its counts."""
    content = build()
    MANIFEST.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(content["counts"], indent=1))


if __name__ == "__main__":
    main()
