"""The command line: `python -m stack up|run|down|status|reset|services`."""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import time
from collections.abc import Sequence

from stack.application import Stack
from stack.errors import AlreadyRunning, StackError
from stack.interrupts import end_like_ctrl_c
from stack.logs import Follower, tail
from stack.paths import default_state_dir
from stack.reset import reset
from stack.services import Services
from stack.supervision import Stopped


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 could not, 2 something is missing on this machine."""
    options = _parser().parse_args(arguments)
    end_like_ctrl_c()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    try:
        return int(options.run(options))
    except StackError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except subprocess.TimeoutExpired as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; what had been started is stopped.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stack", description="Start, watch and stop the processes.")
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, run, text in (
        ("up", _up, "start everything in the background"),
        ("run", _run, "start everything in the foreground until Ctrl-C"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--port", type=int, help="the web process' port (A2A_PORT, 8000)")
        command.set_defaults(run=run)
    commands.add_parser("down", help="stop everything").set_defaults(run=_down)
    commands.add_parser("status", help="a line per process").set_defaults(run=_status)
    command = commands.add_parser("reset", help="delete the embedded data and the logs")
    command.add_argument("--all", action="store_true", help="the test services' data too")
    command.set_defaults(run=_reset)
    command = commands.add_parser("services", help="PostgreSQL, RabbitMQ and Redis for tests and development")
    choice = command.add_mutually_exclusive_group()
    choice.add_argument("--check", action="store_true", help="say what runs")
    choice.add_argument("--stop", action="store_true", help="stop them")
    command.set_defaults(run=_services)
    return parser


def _up(options: argparse.Namespace) -> int:
    stack = Stack(port=options.port, say=print)
    try:
        _start(stack)
    except AlreadyRunning as error:
        print(error)
        return 0 if options.port is None or stack.url.endswith(f":{options.port}") else 1
    print("Stop it with: python -m stack down")
    return 0


def _run(options: argparse.Namespace) -> int:
    stack = Stack(port=options.port, say=print)
    try:
        _start(stack)
    except AlreadyRunning as error:
        print(error)
        return 1
    try:
        print("Stop it with Ctrl-C.")
        _follow(stack)
        print("supervisord has ended.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        _report(stack.stop())


def _start(stack: Stack) -> None:
    started = time.monotonic()
    stack.start()
    try:
        stack.wait_ready()
        for info in stack.laggards():
            print(f"Warning: {info.name} is {info.state}; its log ends:\n{tail(stack.supervisor.log_file(info.name))}")
    except BaseException:
        stack.stop()
        raise
    count = len(stack.supervisor.processes())
    print(f"Ready at {stack.url} in {time.monotonic() - started:.1f} s: {count} processes, logs in {stack.log_dir}")


def _follow(stack: Stack) -> None:
    follower = Follower(stack.log_dir)
    while stack.supervisor.is_alive():
        for line in follower.new_lines():
            print(line)
        time.sleep(0.3)


def _down(options: argparse.Namespace) -> int:
    stopped = Stack().stop()
    _report(stopped)
    if Services().supervisor.is_alive():
        print("The test services keep running; stop them with: python -m stack services --stop")
    return 0


def _report(stopped: Sequence[Stopped]) -> None:
    for process in stopped:
        print(f"stopped {process.name} (pid {process.pid})")
    if not stopped:
        print("Nothing was running.")


def _status(options: argparse.Namespace) -> int:
    stack = Stack()
    infos = stack.supervisor.processes()
    for info in infos:
        print(f"{info.name:<16} {info.state:<9} {info.description}")
    for orphan in stack.supervisor.orphans():
        print(f"{orphan.name:<16} ORPHAN    pid {orphan.pid}; supervisord is gone: run python -m stack down")
    if not infos:
        print("Not running.")
        return 1
    print(f"{stack.url}")
    for name, target in stack.targets().items():
        print(f"{name:<16} metrics   http://{target}/metrics")
    return 0 if all(info.state == "RUNNING" for info in infos) else 1


def _reset(options: argparse.Namespace) -> int:
    for path in reset(default_state_dir(), everything=options.all):
        print(f"deleted {path}")
    return 0


def _services(options: argparse.Namespace) -> int:
    services = Services(say=print)
    if options.stop:
        _report(services.stop())
        return 0
    if options.check:
        answers = services.check()
        for name, (_, text) in answers.items():
            print(f"{name:<11} {text}")
        return 0 if all(running for running, _ in answers.values()) else 1
    started = time.monotonic()
    for name, value in services.ensure().items():
        print(f"{name}={value}")
    print(f"Ready in {time.monotonic() - started:.1f} s; the same lines are in {services.env_file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
