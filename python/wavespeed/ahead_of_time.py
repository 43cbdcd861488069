"""Code that torch compiles ahead of time, from one call of a block: it can be kept as bytes and loaded again.

torch checks the tensors of a call, and assumptions.py the rest. All that is used here of torch is experimental; whoever
calls takes what it raises as "not possible", and compiles in the ordinary way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from . import dynamic_shapes
from .assumptions import Assumption, Assumptions, of_guards

if TYPE_CHECKING:
    from collections.abc import Callable

Call = dict[str, Any]
"""Arguments of a region's function: forward, block, args, kwargs."""


def device_of(call: Call) -> torch.device:
    tensors = dynamic_shapes.tensors_in((*call["args"], *call["kwargs"].values()))
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def is_possible() -> bool:
    """Whether this torch can do it. The module that does is imported with torch._dynamo."""
    module = getattr(torch._dynamo, "aot_compile", None)
    function = getattr(module, "AOTCompiledFunction", None)
    return all(hasattr(function, name) for name in ("serialize", "deserialize", "disable_guard_check", "source_info"))


class AheadOfTimeCode:
    """sources: names of the modules whose code was compiled, without torch's own."""

    def __init__(self, function: Any, assumptions: Assumptions, sources: list[str]) -> None:
        function.disable_guard_check()  # fits() has done it
        self.function = function
        self.guards = function._artifacts.guard_manager
        self.assumptions = assumptions
        self.sources = sources

    def fits(self, call: Call) -> bool:
        return bool(self.guards.check(call)) and self.assumptions.hold(call)

    def __call__(self, call: Call) -> Any:
        return self.function(**call)

    def why_not(self, call: Call) -> str:
        """What torch says about a call that does not fit, or the place where something else lies."""
        reasons = self.guards.check_verbose(call).verbose_code_parts
        return str(reasons[0]) if reasons else self.assumptions.first_other(call)


def compile_call(
    function: Callable[..., Any], options: dict[str, Any], dynamic: bool | None, call: Call
) -> AheadOfTimeCode:
    """function: of forward, block, args and kwargs; it must be compiled in one piece."""
    found: list[Assumption] = []

    def keep_guards(guards: Any) -> list[bool]:
        found[:], kept = of_guards(guards)
        return kept

    compiled = torch.compile(
        function,
        backend="inductor",
        fullgraph=True,
        dynamic=dynamic,
        options={**options, "guard_filter_fn": keep_guards},
    )
    made = compiled.aot_compile((tuple(call.values()), {}))
    sources = made.source_info().inlined_sources
    names = sorted({source.module for source in sources} - {function.__module__})
    sources.clear()  # torch would keep the text of whole modules with the code
    own = [name for name in names if name.split(".")[0] != "torch"]
    return AheadOfTimeCode(made, Assumptions(found, made.fn.__globals__, call), own)


def to_bytes(code: AheadOfTimeCode) -> bytes:
    return bytes(type(code.function).serialize(code.function).serialized_data)


def from_bytes(
    content: bytes, function: Callable[..., Any], found: list[Assumption], sources: list[str], call: Call
) -> AheadOfTimeCode:
    """content: is unpickled, so it must come from this user. call: one for which the code was looked up."""
    made_by = torch._dynamo.aot_compile.AOTCompiledFunction
    loaded = made_by.deserialize(content, f_globals=function.__globals__)
    return AheadOfTimeCode(loaded, Assumptions(found, loaded.fn.__globals__, call), sources)
