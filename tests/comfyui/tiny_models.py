"""Tiny models and their conditioning by the name of their configuration."""

from __future__ import annotations

from typing import Any

import family
import pytest
from families import FAMILIES

__all__ = ["FAMILIES", "build", "conditioning"]


def build_or_absent(name: str, **how: Any) -> Any:
    """A ModelPatcher of a family, see family.build."""
    return family.build(FAMILIES[name], **how)


def build(name: str, **how: Any) -> Any:
    """The same; skips the test where this ComfyUI does not have the family."""
    try:
        return build_or_absent(name, **how)
    except family.AbsentModelError as problem:
        pytest.skip(f"This ComfyUI does not have {name}: {problem}.")


def conditioning(name: str, **how: Any) -> list[list[Any]]:
    """A CONDITIONING that the family understands, see family.conditioning."""
    return family.conditioning(FAMILIES[name], **how)
