"""Files that outlive the process, in a folder of the user's own, and only believed when this user has written them.

What is kept here is code, so reading a file that somebody else has made would be running his. Each file begins with an
authentication code (HMAC-SHA256) under a key that lies elsewhere, so that a folder from another machine, or unpacked
from an archive, does not bring its own; nothing in a file is looked at before that code was checked.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER_VARIABLE = "WAVESPEED_CACHE_DIR"
OFF = "0"
BYTES_MAX = 1 << 30
"""Of all files together; the least recently used are deleted first."""
FILE_BYTES_MAX = 256 << 20
KEY_BYTES = CODE_BYTES = hashlib.sha256().digest_size
ENDING = ".code"
UNFINISHED = "unfinished-"
UNFINISHED_SECONDS = 3600
"""An unfinished file older than this was left by a process that ended while it wrote."""
IS_POSIX = os.name == "posix"
NO_LINK = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NONBLOCK", 0)
)


class UnusableError(Exception):
    """Half a sentence: why a file or the folder is not used."""


def _base(variable: str, windows_variable: str, fallback: str) -> Path:
    given = os.environ.get(variable if IS_POSIX else windows_variable, "")
    return Path(given) if Path(given).is_absolute() else Path.home() / fallback


def user_folder() -> Path:
    """Of compiled code."""
    if given := os.environ.get(FOLDER_VARIABLE, ""):
        return Path(given).expanduser().absolute()
    return _base("XDG_CACHE_HOME", "LOCALAPPDATA", ".cache") / "wavespeed" / "compiled"


def user_key_file() -> Path:
    return _base("XDG_CONFIG_HOME", "APPDATA", ".config") / "wavespeed" / "compiled_code.key"


def user_named_folder() -> bool:
    """Whether the user has asked for compiled code to be kept, and not only left it at that."""
    return os.environ.get(FOLDER_VARIABLE, "") not in ("", OFF)


def user_store() -> CodeStore | None:
    """None where the user wants nothing kept, or has no folder of his own."""
    if os.environ.get(FOLDER_VARIABLE, "") == OFF:
        return None
    try:
        return CodeStore(user_folder(), user_key_file())
    except RuntimeError:  # Path.home(): no home folder is known
        return None


def _check_owner(status: os.stat_result, what: str) -> None:
    """UnusableError where another user could have written it, or can."""
    if not IS_POSIX:
        return  # the folders of a user are his own there
    if status.st_uid != os.geteuid():
        raise UnusableError(f"{what} belongs to another user")
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        wanted = 0o700 if stat.S_ISDIR(status.st_mode) else 0o600
        raise UnusableError(f"other users may use {what} (mode {mode:03o}, it must be {wanted:03o})")


def _read(path: Path, bytes_max: int) -> bytes:
    """FileNotFoundError where there is none; UnusableError for what only looks like a file of ours."""
    try:
        descriptor = os.open(path, os.O_RDONLY | NO_LINK)
    except FileNotFoundError:
        raise
    except OSError as problem:  # also a link
        raise UnusableError(f"{path.name} cannot be opened ({problem.strerror})") from problem
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UnusableError(f"{path.name} is no file")
        _check_owner(status, path.name)
        if status.st_size > bytes_max:
            raise UnusableError(f"{path.name} has {status.st_size} bytes, at most {bytes_max} are read")
        return file.read(bytes_max)


def _write(path: Path, content: bytes, replace: bool) -> None:
    """All of it or nothing, also when several processes write at once. Not replace: the first one wins."""
    descriptor, name = tempfile.mkstemp(prefix=UNFINISHED, dir=path.parent)  # made with mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            Path(name).replace(path)
        else:
            os.link(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


class CodeStore:
    """Nothing is created before something is written."""

    def __init__(self, folder: Path, key_file: Path, bytes_max: int = BYTES_MAX) -> None:
        self.folder = folder
        self.key_file = key_file
        self.bytes_max = bytes_max

    def _key(self, create: bool) -> bytes:
        if create and not self.key_file.exists():
            self.key_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):  # another process was quicker; its key is the one
                _write(self.key_file, secrets.token_bytes(KEY_BYTES), replace=False)
        try:
            key = _read(self.key_file, KEY_BYTES)
        except FileNotFoundError:
            raise UnusableError(f"its key {self.key_file} is missing") from None
        if len(key) != KEY_BYTES:
            raise UnusableError(f"its key {self.key_file} is cut off")
        return key

    def _check_folder(self) -> None:
        try:
            status = os.lstat(self.folder)
        except FileNotFoundError:
            raise
        except OSError as problem:
            raise UnusableError(f"{self.folder} cannot be used ({problem.strerror})") from problem
        if not stat.S_ISDIR(status.st_mode):
            raise UnusableError(f"{self.folder} is a file or a link and no folder")
        _check_owner(status, str(self.folder))

    @staticmethod
    def _code(key: bytes, name: str, content: bytes) -> bytes:
        """The name is part of it, so that no file can stand in for another."""
        return hmac.new(key, hashlib.sha256(name.encode()).digest() + content, hashlib.sha256).digest()

    def read(self, name: str) -> bytes | None:
        """None where nothing was kept under this name; UnusableError for what must not be used."""
        path = self.folder / f"{name}{ENDING}"
        try:
            self._check_folder()
            content = _read(path, FILE_BYTES_MAX)
        except FileNotFoundError:
            return None
        key = self._key(create=False)
        code, content = content[:CODE_BYTES], content[CODE_BYTES:]
        if not hmac.compare_digest(code, self._code(key, name, content)):
            raise UnusableError(f"{path.name} is damaged or was not written by this user on this machine")
        with contextlib.suppress(OSError):  # where nothing can be written, nothing is deleted either
            os.utime(path)  # for the order in which files are deleted
        return content

    def write(self, name: str, content: bytes) -> None:
        """UnusableError where it cannot be kept."""
        bytes_max = min(self.bytes_max, FILE_BYTES_MAX) - CODE_BYTES
        if len(content) > bytes_max:
            raise UnusableError(f"it has {len(content)} bytes, at most {bytes_max} are kept")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_folder()
            code = self._code(self._key(create=True), name, content)
            _write(self.folder / f"{name}{ENDING}", code + content, replace=True)
            self._delete_oldest(keep=name)
        except OSError as problem:
            raise UnusableError(f"{self.folder} cannot be written ({problem.strerror})") from problem

    @contextmanager
    def temporary_file(self, content: bytes, ending: str) -> Iterator[Path]:
        """Something that was read from here as a file for others that take nothing else."""
        descriptor, name = tempfile.mkstemp(prefix=UNFINISHED, suffix=ending, dir=self.folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def names(self, beginning: str) -> list[str]:
        """Of what is kept; for saying why something is not there."""
        return sorted(path.name.removesuffix(ENDING) for path in self.folder.glob(f"{beginning}*{ENDING}"))

    def _delete_oldest(self, keep: str) -> None:
        files = []
        for path in self.folder.iterdir():
            try:
                status = path.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # another process deletes as well
            if path.name.startswith(UNFINISHED) and time.time() - status.st_mtime > UNFINISHED_SECONDS:
                path.unlink(missing_ok=True)
            elif path.name.endswith(ENDING):
                files.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total > self.bytes_max and path.name != f"{keep}{ENDING}":
                path.unlink(missing_ok=True)
                total -= size
