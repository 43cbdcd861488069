"""Tiny models and their conditioning by the name of their configuration."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import family
import pytest
from families import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Iterator


def build_or_absent(name: str, *, sizes: dict[str, Any] | None = None, **how: Any) -> Any:
    """A ModelPatcher of a family, see family.build. sizes: instead of those of its configuration."""
    found = FAMILIES[name]
    return family.build(replace(found, config={**found.config, **(sizes or {})}), **how)


@contextlib.contextmanager
def skip_where_absent(name: str) -> Iterator[None]:
    try:
        yield
    except family.AbsentModelError as problem:
        pytest.skip(f"This ComfyUI does not have {name}: {problem}.")


def build(name: str, **how: Any) -> Any:
    """The same; skips the test where this ComfyUI does not have the family."""
    with skip_where_absent(name):
        return build_or_absent(name, **how)


def conditioning(name: str, **how: Any) -> list[list[Any]]:
    """A CONDITIONING that the family understands, see family.conditioning."""
    return family.conditioning(FAMILIES[name], **how)
