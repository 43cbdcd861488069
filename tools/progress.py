"""What every longer step of the tools shows: which step it is, and that it is still alive."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HEARTBEAT_SECONDS = 15


class CommandError(RuntimeError):
    """A command failed. The text holds the end of what it printed."""


def say(text: str) -> None:
    """Print a line at once: CMake and CI read us through a pipe, which Python would fill up first."""
    print(text, flush=True)


def run_quietly(
    command: Sequence[str | Path],
    log: Path,
    *,
    timeout: float | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a command with its output in a log file, with a sign of life every 15 s. CommandError when it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if environment is None else dict(environment),
        )
        try:
            while True:
                passed = time.monotonic() - started
                left = HEARTBEAT_SECONDS if timeout is None else min(HEARTBEAT_SECONDS, timeout - passed)
                try:
                    code = process.wait(max(left, 0))
                    break
                except subprocess.TimeoutExpired:
                    passed = time.monotonic() - started
                    if timeout is not None and passed >= timeout:
                        raise CommandError(f"no end after {timeout:.0f} s: {_short(command)}") from None
                    say(f"      ... {passed:.0f} s{_last_line(log)}")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if code != 0:
        tail = "\n".join(_lines(log)[-25:])
        raise CommandError(f"exit status {code}: {_short(command)}\n{tail}")


def _short(command: Sequence[str | Path]) -> str:
    return " ".join(str(part) for part in command)


def _lines(log: Path) -> list[str]:
    return [
        line
        for line in log.read_text(errors="replace").splitlines()
        if line.strip() and not line.startswith("WARNING: Location")
    ]


def _last_line(log: Path) -> str:
    lines = _lines(log)
    return f" ({lines[-1].strip()[:90]})" if lines else ""
