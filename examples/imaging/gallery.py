"""Writes the previews of a batch into a folder, with a page that shows them all."""

from __future__ import annotations

import html
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from examples.imaging.batch import Batch, Sent

PAGE = """<!doctype html>
<meta charset="utf-8"><title>Previews</title>
<style>
  body {{ background: #111; color: #ccc; font: 14px system-ui, sans-serif; margin: 24px }}
  main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 16px }}
  figure {{ margin: 0 }} figcaption {{ margin-top: 4px; overflow-wrap: anywhere }}
  img {{ width: 100%; aspect-ratio: 1; object-fit: contain; background: #000; image-rendering: auto }}
</style>
<h1>{count} previews</h1>
<main>
{figures}
</main>
"""
FIGURE = '<figure><img src="{file}" alt="{name}" loading="lazy"><figcaption>{name}</figcaption></figure>'


def write(batch: Batch, folder: Path, progress: Callable[[], None] = lambda: None) -> Path:
    """One preview for each study of the batch; the page's path. What an earlier run left there is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    done = [sent for sent in batch.plan if sent.status == "completed"]
    first = {sent.study.name: sent for sent in sorted(done, key=lambda sent: sent.study.name)}
    with ThreadPoolExecutor(4) as pool:
        files = list(pool.map(lambda item: _save(batch, item[0], item[1], folder), enumerate(first.values())))
    figures = [
        FIGURE.format(file=html.escape(file), name=html.escape(name)) for file, name in files if file is not None
    ]
    page = folder / "index.html"
    page.write_text(PAGE.format(count=len(figures), figures="\n".join(figures)), encoding="utf-8")
    return page


def _save(batch: Batch, number: int, sent: Sent, folder: Path) -> tuple[str | None, str]:
    images = [a for a in batch.detail(sent)["artifacts"] if a["type"] == "image/png"]
    if not images:
        return None, sent.study.name
    stem = "".join(char if char.isalnum() or char in "-_" else "-" for char in Path(sent.study.name).stem)
    file = f"{number + 1:03d}-{stem}.png"
    (folder / file).write_bytes(batch.content(images[0]))
    return file, sent.study.name
