"""What inductor needs and this machine lacks: found out before anything is traced, and said with what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

TRITON_DEVICES = ("cuda", "xpu")


class CannotCompileError(Exception):
    """A sentence for the user."""


def check(backend: str, device: torch.device) -> None:
    """Looks for programs only: whether they work, torch finds out when it compiles."""
    import torch.utils._triton

    if backend != "inductor":
        return
    if device.type == "cpu":
        _check_cpp_compiler()
    elif device.type in TRITON_DEVICES and not torch.utils._triton.has_triton_package():
        raise CannotCompileError("inductor needs Triton for this GPU, and it is not installed. Install triton.")


def _check_cpp_compiler() -> None:
    import torch._inductor.cpp_builder
    import torch._inductor.exc

    find: Callable[[], str] | None = getattr(torch._inductor.cpp_builder, "get_cpp_compiler", None)
    if find is None:  # an older torch; it says so itself
        return
    try:
        find()
    except torch._inductor.exc.InvalidCxxCompiler:
        names = torch._inductor.config.cpp.cxx
        words = " or ".join(str(name) for name in (names if isinstance(names, tuple) else [names]) if name)
        raise CannotCompileError(
            f"inductor needs a C++ compiler on a CPU, and {words or 'none'} was not found. "
            "Install one, or name it in the environment variable CXX."
        ) from None
