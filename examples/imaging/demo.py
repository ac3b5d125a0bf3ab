"""``make demo``: starts the whole stack, analyses a batch of real images by priority, and shows it live.

Everything goes through the real API, as any client's would. Ctrl-C stops what was started.
"""

from __future__ import annotations

import argparse
import os
import secrets
import statistics
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from examples.imaging import gallery
from examples.imaging.batch import ENDED, PRIORITIES, Batch, NotAccepted, Sent, planned
from examples.imaging.inputs import Study, folder, studies
from stack import AlreadyRunning, Stack, StackError
from stack.interrupts import end_like_ctrl_c

COLOURS = {"critical": "red", "high": "yellow", "normal": "green", "low": "blue"}
PREVIEWS = Path("previews")
COUNT = 300
LOOK_S = 0.4
GIVE_UP_S = 900
ADMIN = "admin"

console = Console(highlight=False)


def main() -> int:
    """0 when every task of the batch completed; 1 when one did not; 2 for bad arguments or nothing to analyse."""
    options = _arguments()
    end_like_ctrl_c()
    stack = Stack(say=console.print, port=options.port)
    started_here = False
    try:
        started_here = _start(stack)
        password = _admin_password(stack)
        with httpx.Client(base_url=stack.url, timeout=60) as client:
            code = _analyse(client, options)
        _say_where(stack, password, started_here=started_here and not options.exit)
        if started_here and not options.exit:
            _wait(stack)
        return code
    except StackError as error:
        console.print(f"[red]{error}[/red]")
        return error.exit_code
    except (NotAccepted, httpx.HTTPError) as error:
        console.print(f"[red]The server did not do its part: {type(error).__name__}: {error}[/red]")
        return 1
    except KeyboardInterrupt:
        return 0 if started_here and not options.exit else 130
    finally:
        if started_here:
            console.print("Stopping everything …")
            stack.stop()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--exit", action="store_true", help="end when the batch has ended, with an exit code")
    parser.add_argument("--count", type=int, default=COUNT, help=f"how many tasks ({COUNT})")
    parser.add_argument("--folder", type=Path, help="analyse the DICOM, PNG and JPEG files below this folder instead")
    parser.add_argument("--port", type=int, help="the port of the web process (A2A_PORT or 8000)")
    options = parser.parse_args()
    if options.count < 1:
        parser.error("--count must be at least 1")
    if options.folder is not None and not options.folder.is_dir():
        parser.error(f"--folder: {options.folder} is no folder")
    return options


def _start(stack: Stack) -> bool:
    """Whether this call started the stack; one that runs already is used as it is."""
    began = time.monotonic()
    console.print("[bold]Starting PostgreSQL, Redis and the processes[/bold] (about 15 seconds)")
    try:
        stack.start()
    except AlreadyRunning as error:
        console.print(f"{error} Using it.")
        return False
    stack.wait_ready()
    console.print(f"Ready at {stack.url} after {time.monotonic() - began:.1f} s")
    return True


def _analyse(client: httpx.Client, options: argparse.Namespace) -> int:
    known = folder(options.folder) if options.folder else studies()
    good = [study for study in known if study.decodes is not False]
    if not good:
        console.print(f"[red]There is no DICOM, PNG or JPEG file below {options.folder}.[/red]")
        return 2
    batch = Batch(client, planned(good, options.count))
    _submit(batch)
    _watch(batch)
    _show_order(batch)
    page = gallery.write(batch, PREVIEWS)
    _show_failures(client, [study for study in known if study.decodes is False])
    failed = [sent for sent in batch.plan if sent.status != "completed"]
    for sent in failed[:10]:
        console.print(f"[red]{sent.study.name}: {sent.status}: {(sent.task.get('error') or {}).get('message')}[/red]")
    colour = "red" if failed else "green"
    console.print(f"[bold {colour}]{len(batch.plan) - len(failed)} of {len(batch.plan)} tasks completed.[/]")
    console.print(f"Previews: {page.resolve()}")
    return 1 if failed else 0


def _submit(batch: Batch) -> None:
    console.print(f"\n[bold]Submitting {len(batch.plan)} images[/bold], the most urgent ones last")
    with _progress() as progress:
        bar = progress.add_task("submitted", total=len(batch.plan))
        batch.submit(lambda: progress.advance(bar))


def _watch(batch: Batch) -> None:
    """Live bars, one for each priority, until every task has ended."""
    console.print("\n[bold]Working[/bold]")
    deadline = time.monotonic() + GIVE_UP_S
    with _progress() as progress:
        bars = {name: _bar(progress, batch, name) for name in PRIORITIES}
        while not batch.is_done():
            time.sleep(LOOK_S)
            batch.refresh()
            for name, bar in bars.items():
                progress.update(bar, completed=_work_done(batch, name))
            if time.monotonic() > deadline:
                console.print(f"[red]Not done after {GIVE_UP_S} s; giving up.[/red]")
                return


def _bar(progress: Progress, batch: Batch, priority: str) -> TaskID:
    total = sum(1 for sent in batch.plan if sent.priority == priority)
    return progress.add_task(f"[{COLOURS[priority]}]{priority}[/]", total=total)


def _work_done(batch: Batch, priority: str) -> float:
    own = [sent for sent in batch.plan if sent.priority == priority]
    return sum(1.0 if sent.status in ENDED else float(sent.task.get("progress", 0.0)) for sent in own)


def _progress() -> Progress:
    columns = (TextColumn("{task.description:>10}"), BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def _show_order(batch: Batch) -> None:
    """One mark for each task in the order of its start, and how the priorities fared."""
    order = batch.by_start()
    strip = Text()
    for sent in order:
        strip.append(sent.priority[0].upper(), style=COLOURS[sent.priority])
    console.print("\n[bold]The order in which they started[/bold] (Critical, High, Normal, Low):")
    console.print(strip)
    first = min(datetime.fromisoformat(sent.task["run_after"]) for sent in batch.plan)
    for name in PRIORITIES:
        own = [(place, sent) for place, sent in enumerate(order, 1) if sent.priority == name]
        if own:
            waited = statistics.median(_waited_s(sent, first) for _, sent in own)
            sent_at = [number for number, sent in enumerate(batch.plan, 1) if sent.priority == name]
            console.print(
                f"[{COLOURS[name]}]{name:>10}[/] sent as {min(sent_at)}-{max(sent_at)}, "
                f"started as {own[0][0]}-{own[-1][0]}, median wait {waited:.2f} s"
            )
    overtaken = _overtaken(order, batch.plan)
    console.print(f"The critical ones overtook {overtaken} tasks that had been sent before them.")


def _waited_s(sent: Sent, since: datetime) -> float:
    return (datetime.fromisoformat(sent.task["started_at"]) - since).total_seconds()


def _overtaken(order: list[Sent], plan: list[Sent]) -> int:
    """How many tasks that were sent before the last critical one started after it."""
    places = [place for place, sent in enumerate(order) if sent.priority == "critical"]
    if not places:
        return 0
    sent_before = {sent.id for sent in plan if sent.priority != "critical"}
    return sum(1 for sent in order[max(places) + 1 :] if sent.id in sent_before)


def _show_failures(client: httpx.Client, broken: list[Study]) -> None:
    """The files that carry no image, apart: each fails its own task, readably."""
    if not broken:
        return
    batch = Batch(client, [Sent(study, "normal") for study in broken])
    console.print(f"\n[bold]{len(broken)} files that carry no image[/bold], sent apart: each fails its own task")
    batch.submit()
    while not batch.is_done():
        time.sleep(LOOK_S)
        batch.refresh()
    for sent in batch.plan[:5]:
        console.print(f"  {sent.study.name}: {sent.status}: {(sent.task.get('error') or {}).get('message', '')}")
    counted: dict[str, int] = {}
    for sent in batch.plan:
        counted[sent.status] = counted.get(sent.status, 0) + 1
    console.print("  … in all: " + ", ".join(f"{count} {status}" for status, count in counted.items()))


def _admin_password(stack: Stack) -> str | None:
    """The generated password of the local admin; made with the data, kept beside it for its owner only."""
    path = stack.state_dir / "admin-password"
    if path.is_file():
        password = path.read_text().strip()
    else:
        password = secrets.token_urlsafe(9)
        path.touch(mode=0o600)
        path.write_text(password)
    environment = {**os.environ, **stack.env, "DJANGO_SUPERUSER_PASSWORD": password}
    command = [sys.executable, "manage.py", "ensure_admin", ADMIN]
    done = subprocess.run(command, env=environment, check=False)  # noqa: S603 (our own command)
    return password if done.returncode == 0 else None


def _say_where(stack: Stack, password: str | None, *, started_here: bool) -> None:
    console.print(f"\nAdmin:  [link]{stack.url}/admin/[/link]  login [bold]{ADMIN}[/] [bold]{password}[/]")
    flower = stack.env.get("A2A_FLOWER_PORT")
    if flower:
        console.print(f"Flower: http://127.0.0.1:{flower}/")
    if started_here:
        console.print("Stop it with [bold]Ctrl-C[/bold].")


def _wait(stack: Stack) -> None:
    while stack.supervisor.is_alive():
        time.sleep(0.5)
    console.print("[red]The supervisor has ended.[/red]")


if __name__ == "__main__":
    sys.exit(main())
