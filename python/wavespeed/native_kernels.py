"""Kernels that inductor's C++ compiler has made, to be kept with the code that calls them.

torch keeps their source only. Where its own folder is empty it would start the compiler again, and before that try out
which instructions the compiler knows. A kernel that is given here needs neither, and no compiler at all.
"""

from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .code_store import CodeStore

Kernels = dict[str, bytes]
"""Shared libraries, by what _name says of their source."""

_lock = threading.RLock()
_made: dict[str, tuple[str, Any]] = {}
"""By name, source and kernel of all that was made while recorded. inductor makes the same kernel only once."""


def _name(argument_types: Sequence[str], source: str) -> str:
    return hashlib.sha256("\n".join([*argument_types, source]).encode()).hexdigest()


@contextmanager
def _asked_first(answer: Callable[..., Any]) -> Iterator[None]:
    """Meanwhile inductor's generated code gets its kernels from here.

    answer: of argument types, source, and a function that makes the kernel in inductor's own way.
    """
    from torch._inductor.async_compile import AsyncCompile

    original = AsyncCompile.cpp_pybinding

    def cpp_pybinding(self: Any, argument_types: list[str], source: str) -> Any:
        return answer(argument_types, source, lambda: original(self, argument_types, source))

    with _lock:
        AsyncCompile.cpp_pybinding = cpp_pybinding
        try:
            yield
        finally:
            AsyncCompile.cpp_pybinding = original


@contextmanager
def recorded() -> Iterator[None]:
    """For what compiles code that is going to be kept."""

    def record(argument_types: list[str], source: str, make: Callable[[], Any]) -> Any:
        kernel = make()
        _made[_name(argument_types, source)] = source, kernel
        return kernel

    with _asked_first(record):
        yield


def of_code(content: bytes) -> Kernels:
    """Of code as torch keeps it, which holds the source of its kernels as it is."""
    found = {}
    for name, (source, kernel) in _made.items():
        if source.encode() in content:
            function = kernel.result() if hasattr(kernel, "result") else kernel
            found[name] = Path(function.__self__.__file__).read_bytes()
    return found


@contextmanager
def given(kernels: Kernels, store: CodeStore) -> Iterator[None]:
    """For what loads code."""
    from torch._inductor.codecache import CppPythonBindingsCodeCache

    def load(argument_types: list[str], source: str, make: Callable[[], Any]) -> Any:
        name = _name(argument_types, source)
        if name not in kernels:
            return make()
        with store.temporary_file(kernels[name], ".so") as path:
            library = CppPythonBindingsCodeCache._load_library(str(path), f"wavespeed_{name}")
        return getattr(library, CppPythonBindingsCodeCache.entry_function)

    with _asked_first(load):
        yield
