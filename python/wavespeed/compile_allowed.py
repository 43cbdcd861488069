"""The file in which whoever runs the machine allows workflows further options of inductor.

It lies in ComfyUI's user folder itself, not in a user's folder below it: those are written to over the network. Its
text is checked by the native module (src/core/compile_allowed.c).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

NAME = "wavespeed_compile.json"
SIZE_MAX = 64 << 10


def text() -> str:
    """What the file says; empty where there is none. ValueError for a file that others could have written."""
    import folder_paths

    path = Path(folder_paths.get_user_directory()) / NAME
    try:
        # Not through a link, which may lead to a file that somebody else writes.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return ""
    except OSError as problem:
        raise ValueError(f"The file {NAME} is not read: {problem.strerror}.") from problem
    try:
        _check(os.fstat(handle))
        content = os.read(handle, SIZE_MAX + 1)
    finally:
        os.close(handle)
    if len(content) > SIZE_MAX:
        raise ValueError(f"The file {NAME} is not read: it is longer than {SIZE_MAX} bytes.")
    try:
        return content.decode()
    except UnicodeDecodeError as problem:
        raise ValueError(f"The file {NAME} is not read: byte {problem.start} is not UTF-8.") from problem


def _check(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"The file {NAME} is not read: it is not a plain file.")
    if os.name != "posix":
        return
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(found.st_mode)
        raise ValueError(
            f"The file {NAME} is not read, because others may write to it (its mode is {mode:o}). "
            f"Take that away: chmod go-w {NAME}."
        )
    if found.st_uid not in (0, os.geteuid()):
        raise ValueError(
            f"The file {NAME} is not read, because it belongs to user {found.st_uid}. It must belong to the user "
            f"{os.geteuid()}, who runs ComfyUI, or to the administrator."
        )
