"""The variants of one region that were compiled ahead of time, here or in an earlier process: one for a single picture,
one for a batch, and the like.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from . import ahead_of_time, block_signature, dynamic_shapes, native_kernels
from .assumptions import UnknownAssumptionError
from .code_store import UnusableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .ahead_of_time import AheadOfTimeCode, Call
    from .compile_regions import Request
    from .warm_start import WarmStart

VARIANTS_MAX = 4
"""More than these are left to torch, which learns what differs between calls."""


class Variants:
    """remarks: sentences for the user about what could not be loaded, kept or made."""

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        request: Request,
        signature: Any,
        warm_start: WarmStart,
    ) -> None:
        """function: what is compiled, of forward, block, args and kwargs."""
        self.name = name
        self.function = function
        self.request = request
        self.signature = signature
        self.warm_start = warm_start
        self.codes: list[AheadOfTimeCode] = []
        self.layouts: set[str] = set()
        """Of calls for which there is code. What else differs between two of them is left to torch, which learns it."""
        self.remarks: list[str] = []
        # CUDA graphs are recorded while code runs, and nothing of them can be kept. Where nothing is to be kept, the
        # ordinary way is better: what is compiled ahead of time does not use torch's own cache.
        with_cuda_graphs = bool(request.options.get("triton.cudagraphs"))
        wanted = request.backend == "inductor" and not with_cuda_graphs and warm_start.store is not None
        self.possible = wanted and ahead_of_time.is_possible()

    def fitting(self, call: Call) -> AheadOfTimeCode | None:
        return next((code for code in self.codes if code.fits(call)), None)

    def may_grow(self, call: Call) -> bool:
        no_modes = torch._C._len_torch_function_stack() == 0  # code that is kept is made and used without
        if not self.possible or not no_modes or len(self.codes) >= VARIANTS_MAX:
            return False
        if not self.warm_start.is_for(ahead_of_time.device_of(call)):
            return False
        return dynamic_shapes.layout(call["args"], call["kwargs"]) not in self.layouts

    def _add(self, code: AheadOfTimeCode, call: Call) -> None:
        self.codes.append(code)
        self.layouts.add(dynamic_shapes.layout(call["args"], call["kwargs"]))

    def why_none_fits(self, call: Call) -> str:
        """Empty for the first variant."""
        return self.codes[-1].why_not(call) if self.codes else ""

    def load(self, call: Call) -> AheadOfTimeCode | None:
        identity = self._identity(call)
        if identity is None:
            return None
        try:
            code = self.warm_start.load(identity, ahead_of_time.device_of(call), self.function, call)
            if code is not None and not code.fits(call):
                raise UnusableError(f"it was made for another call ({code.why_not(call)})")
        except UnusableError as problem:
            self.remarks.append(f"The code of {self.name} from before is not used, because {problem}.")
            return None
        except Exception as problem:  # whatever torch raises, the code can still be compiled
            self.remarks.append(f"The code of {self.name} from before does not load: {first_line(problem)}")
            return None
        if code is not None:
            self._add(code, call)
        return code

    def compile(self, call: Call) -> AheadOfTimeCode | None:
        """None where torch cannot do it ahead of time; then it is not asked again."""
        try:
            with dynamic_shapes.marked(call["args"], call["kwargs"]), native_kernels.recorded():
                dynamic = True if self.request.dynamic else None
                code = ahead_of_time.compile_call(self.function, self.request.options, dynamic, call)
            if not code.fits(call):
                raise UnknownAssumptionError(f"it does not take the call that made it ({code.why_not(call)})")
        except Exception as problem:  # whatever torch raises, the ordinary way is still there
            self.possible = False
            self.remarks.append(f"{self.name} is compiled again after each start: {first_line(problem)}")
            return None
        self._add(code, call)
        self._keep(code, call)
        return code

    def _keep(self, code: AheadOfTimeCode, call: Call) -> None:
        identity = self._identity(call)
        try:
            if identity is None:
                raise UnusableError("something in it is known in this process only")
            self.warm_start.keep(identity, ahead_of_time.device_of(call), code)
        except UnusableError as problem:
            self.remarks.append(f"{self.name} is compiled again after the next start, because {problem}.")
        except Exception as problem:  # whatever torch raises, the code itself is good
            self.remarks.append(f"{self.name} is compiled again after the next start: {first_line(problem)}")

    def _identity(self, call: Call) -> str | None:
        """What is compiled, as a text that is the same in another process."""
        signature = block_signature.text(self.signature)
        if signature is None:
            return None
        forward = call["forward"]
        layout = dynamic_shapes.layout(call["args"], call["kwargs"])
        parts = [f"{forward.__module__}.{forward.__qualname__}", self.request.canonical, layout, signature]
        return "\n".join(parts)


def first_line(problem: BaseException) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return lines[0] if lines else type(problem).__name__
