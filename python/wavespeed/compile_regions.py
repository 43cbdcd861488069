"""Compiled code of blocks: one region per kind of block and request, shared by all models of the process.

A region never makes sampling fail: where torch cannot compile it, or where it gains nothing, its blocks run as they are
from then on, and a sentence says why.
"""

from __future__ import annotations

import inspect
import threading
import time
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from . import compile_preflight, dynamic_shapes
from .ahead_of_time import Call, device_of
from .region_variants import Variants, first_line
from .speed_trial import SpeedTrial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .ahead_of_time import AheadOfTimeCode
    from .warm_start import WarmStart

Progress = Callable[[str], AbstractContextManager[None]]
"""Shows on the node what takes a while, for as long as it takes."""

COMPILES_MAX = 16
"""More graphs than this in one region mean that something changes at each call; then compiling never ends. torch has a
lower limit of its own, at which it runs a region uncompiled without a word."""
REGIONS_MAX = 64
UNTIMED_BACKENDS = ("eager", "aot_eager")
"""They exist to find faults, not to be fast, so they are not compared with the uncompiled block."""


def no_progress(_text: str) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class Request:
    """What the user asked for, as the native module has checked it."""

    backend: str
    options: dict[str, Any]
    fullgraph: bool
    dynamic: bool
    canonical: str


@dataclass(frozen=True)
class Compile:
    """One compilation: how long it took and what torch says about why an earlier one did not fit."""

    seconds: float
    graphs: int
    reason: str


def _call(forward: Callable[..., Any], block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return forward(block, *args, **kwargs)


def _own_code(number: int) -> Callable[..., Any]:
    """_call with a code object of its own. torch keeps compiled code, and its limit of recompiles, per code object."""
    code = _call.__code__.replace(co_name=f"region_{number}")
    return types.FunctionType(code, globals(), code.co_name)


def _without_guards_on_the_block(guards: Sequence[Any]) -> list[bool]:
    """The block's signature has chosen the region, so what torch would check about the block is known already.

    Everything else stays: arguments, shapes, transformer_options, global settings. torch names what it checks by the
    arguments of _call; what is global begins with G.
    """
    return [guard.name != "block" and not guard.name.startswith(("block.", "block[")) for guard in guards]


def _can_drop_guards() -> bool:
    """Whether this torch takes guard_filter_fn, and weights as inputs of compiled code and not as parts of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer ones always do, and deprecate the switch
        inlined = getattr(torch._dynamo.config, "inline_inbuilt_nn_modules", True)
    return bool(inlined) and hasattr(torch.compiler, "skip_guard_on_all_nn_modules_unsafe")


def _limit() -> tuple[int, dict[str, int]]:
    """(how often a region may be compiled, arguments of torch.compile that say so).

    Where this torch takes no such argument, its own limit holds: its setting could only be changed for the prompt that
    runs the node.
    """
    if "recompile_limit" in inspect.signature(torch.compile).parameters:
        return COMPILES_MAX, {"recompile_limit": COMPILES_MAX}
    config = torch._dynamo.config
    return min(COMPILES_MAX, getattr(config, "recompile_limit", None) or config.cache_size_limit), {}


def _graphs() -> int:
    """How many graphs torch has compiled in this process; also by others, but not while a region is being called."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def _latest_reason() -> str:
    metrics = torch._dynamo.utils.get_compilation_metrics()
    return (metrics[-1].recompile_reason or "") if metrics else ""


def _problems() -> tuple[type[BaseException], ...]:
    """What torch raises when it cannot compile, before it has run anything."""
    found: list[type[BaseException]] = [torch._dynamo.exc.TorchDynamoException]
    inductor = getattr(getattr(torch, "_inductor", None), "exc", None)
    found += [getattr(inductor, name) for name in ("InductorError", "CppCompileError") if hasattr(inductor, name)]
    return tuple(found)


class Region:
    """The compiled form of `forward` for all blocks of one signature.

    signature: of the blocks, which takes the place of torch's checks of the block; None: torch checks everything.
    """

    def __init__(
        self,
        number: int,
        name: str,
        forward: Callable[..., Any],
        request: Request,
        signature: Any,
        warm_start: WarmStart,
    ) -> None:
        import torch._dynamo  # takes a second, so not before somebody compiles
        import torch._inductor.exc

        self.name = name
        self.forward = forward
        self.backend = request.backend
        self.stopped = ""
        """A sentence once the region runs uncompiled for good."""
        self.compiles: list[Compile] = []
        self.loads: list[float] = []
        """Seconds of each time that code of an earlier process was taken."""
        self.lock = threading.RLock()
        self.trial = SpeedTrial() if request.backend not in UNTIMED_BACKENDS else None
        self.compiles_max, limit = _limit()
        function = _own_code(number)
        options = dict(request.options)
        self.variants: Variants | None = None
        if signature is not None and _can_drop_guards():
            options["guard_filter_fn"] = _without_guards_on_the_block
            self.variants = Variants(name, function, request, signature, warm_start)
        self.compiled = torch.compile(
            function,
            backend=request.backend,
            fullgraph=request.fullgraph,
            dynamic=True if request.dynamic else None,
            options=options or None,
            **limit,
        )

    @property
    def is_warm(self) -> bool:
        return bool(self.compiles) or bool(self.loads) or bool(self.stopped)

    @property
    def remarks(self) -> list[str]:
        return self.variants.remarks if self.variants is not None else []

    def eager(self, block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.forward(block, *args, **kwargs)

    def call(
        self, block: Any, args: tuple[Any, ...], kwargs: dict[str, Any], progress: Progress = no_progress
    ) -> tuple[Any, bool]:
        """The block's result, and whether compiled code made it."""
        if self.stopped:
            return self.eager(block, args, kwargs), False
        with self.lock:
            try:
                return self._timed(block, args, kwargs, progress), True
            except (*_problems(), compile_preflight.CannotCompileError) as problem:
                self.stopped = f"{self.name} cannot be compiled and runs as it is: {first_line(problem)}"
                return self.eager(block, args, kwargs), False

    def _timed(self, block: Any, args: tuple[Any, ...], kwargs: dict[str, Any], progress: Progress) -> Any:
        def compiled(*args: Any, **kwargs: Any) -> Any:
            return self._compiled(block, args, kwargs, progress)

        if self.trial is None or not self.is_warm or self.trial.done:
            return compiled(*args, **kwargs)
        result = self.trial.call(partial(self.forward, block), compiled, args, kwargs)
        if self.trial.lost:
            milliseconds = (1000 * self.trial.compiled, 1000 * self.trial.eager)
            self.stopped = (
                f"{self.name} takes {milliseconds[0]:.2f} ms compiled and {milliseconds[1]:.2f} ms as it is, "
                "so it runs as it is."
            )
        return result

    def _compiled(self, block: Any, args: tuple[Any, ...], kwargs: dict[str, Any], progress: Progress) -> Any:
        call = {"forward": self.forward, "block": block, "args": args, "kwargs": kwargs}
        if self.variants is not None:
            code = self.variants.fitting(call) or self._new_variant(call, progress)
            if code is not None:
                return code(call)
        if not self.compiles:
            compile_preflight.check(self.backend, device_of(call))
        before = _graphs()
        begin = time.perf_counter()
        try:
            with (
                dynamic_shapes.marked(args, kwargs),
                nullcontext() if self.is_warm else progress(f"Compiling {self.name}"),
            ):
                return self.compiled(*call.values())
        finally:  # what was compiled counts, also when memory runs out or the user cancels while it is run
            if graphs := _graphs() - before:
                seconds = time.perf_counter() - begin
                others = self.variants.why_none_fits(call) if self.variants is not None else ""
                self._compiled_now(Compile(seconds, graphs, _latest_reason() or others))

    def _new_variant(self, call: Call, progress: Progress) -> AheadOfTimeCode | None:
        """Loaded, else compiled; None where torch has to do it in the ordinary way."""
        variants = self.variants
        if variants is None or not variants.may_grow(call):
            return None
        begin = time.perf_counter()
        with progress(f"Loading {self.name}"):
            code = variants.load(call)
        if code is not None:
            self.loads.append(time.perf_counter() - begin)
            self._restart_trial()
            return code
        compile_preflight.check(self.backend, device_of(call))
        begin = time.perf_counter()
        reason = variants.why_none_fits(call)
        with progress(f"Compiling {self.name}"):
            code = variants.compile(call)
        if code is not None:
            self._compiled_now(Compile(time.perf_counter() - begin, 1, reason))
        return code

    def _restart_trial(self) -> None:
        if self.trial is not None and not self.trial.done:
            self.trial.restart()

    def _compiled_now(self, compile_: Compile) -> None:
        self.compiles.append(compile_)
        self._restart_trial()
        if len(self.compiles) >= self.compiles_max:
            self.stopped = (
                f"{self.name} was compiled {self.compiles_max} times, because something about it changes at each call, "
                "and runs as it is from now on."
            )


class Regions:
    """All regions of the process; the least recently used ones are dropped."""

    def __init__(self, warm_start: WarmStart) -> None:
        self.warm_start = warm_start
        self._regions: OrderedDict[Any, Region] = OrderedDict()
        self._made = 0
        self._lock = threading.Lock()

    def get(self, name: str, forward: Callable[..., Any], request: Request, signature: Any) -> Region:
        """signature: of the block, or anything else that stands for what is compiled; None is for unsigned regions."""
        key = (forward, request.canonical, signature)
        with self._lock:
            region = self._regions.get(key)
            if region is None:
                self._made += 1
                region = Region(self._made, name, forward, request, signature, self.warm_start)
                self._regions[key] = region
                if len(self._regions) > REGIONS_MAX:
                    self._regions.popitem(last=False)
            self._regions.move_to_end(key)
            return region
