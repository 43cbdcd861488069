"""What CMake's files say about how the C sources are compiled, for tests that compile them with another compiler."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def setting(file: str, name: str) -> list[str]:
    """The words of `set(name ...)` in a file of the folder cmake."""
    text = (REPOSITORY / "cmake" / file).read_text(encoding="utf-8")
    found = re.search(rf"^set\({name}\s+([^)]*)\)", text, re.MULTILINE)
    assert found is not None, f"cmake/{file} does not set {name}"
    return found[1].split()
