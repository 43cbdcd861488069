"""A small model of blocks, built as ComfyUI builds its transformers, and sessions of the extension that hook it."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from wavespeed import _native, operations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WIDTH = 32
SLOT = "_compiled_call_impl"
SIGMA = torch.tensor([0.5])

DOUBLE = ((("img", 0), ("txt", 1)), ("img", "txt"), "img")
SINGLE = ((("x", 0),), None, "x")


class Block(nn.Module):
    """Counts its calls; `during` runs in the middle of each."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.calls = 0
        self.during: Callable[[], None] | None = None

    def change(self, state: torch.Tensor, vec: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.during is not None:
            self.during()
        return 0.3 * torch.tanh(self.linear(state) + vec)


class DoubleBlock(Block):
    def forward(self, img: torch.Tensor, txt: torch.Tensor, vec: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        img += self.change(img, vec)
        txt += 0.1 * img.mean(1, keepdim=True)
        return img, txt


class SingleBlock(Block):
    def forward(self, x: torch.Tensor, vec: torch.Tensor) -> torch.Tensor:
        x += self.change(x, vec)
        return x


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 8)

    def forward(self, x: torch.Tensor, vec: torch.Tensor) -> torch.Tensor:
        return self.linear(x + vec)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.img_in = nn.Linear(8, WIDTH)
        self.txt_in = nn.Linear(8, WIDTH)
        self.double_blocks = nn.ModuleList(DoubleBlock() for _ in range(3))
        self.single_blocks = nn.ModuleList(SingleBlock() for _ in range(2))
        self.final_layer = Head()
        self.by_keyword = False
        self.control: torch.Tensor | None = None
        """Added in place after the first double block, as a ControlNet does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        img, txt = self.img_in(x), self.txt_in(x[:, :2])
        vec = img.mean(1, keepdim=True)
        for number, block in enumerate(self.double_blocks):
            img, txt = block(img=img, txt=txt, vec=vec) if self.by_keyword else block(img, txt, vec)
            if number == 0 and self.control is not None:
                img += self.control
        state = torch.cat((txt, img), 1)
        for block in self.single_blocks:
            state = block(x=state, vec=vec) if self.by_keyword else block(state, vec=vec)
        return self.final_layer(state[:, txt.shape[1] :, ...], vec)

    def blocks(self) -> list[Block]:
        return [*self.double_blocks, *self.single_blocks]

    def calls(self) -> list[int]:
        """How often each block ran since the last question."""
        counted = [block.calls for block in self.blocks()]
        for block in self.blocks():
            block.calls = 0
        return counted

    def hooks(self) -> list[tuple[nn.Module, str, int]]:
        found = [(block, "block", 0) for block in self.double_blocks]
        found[0] = (self.double_blocks[0], "first", 0)
        found += [(block, "block", 1) for block in self.single_blocks]
        return [*found, (self.final_layer, "final", 0)]

    def slots(self) -> list[Any]:
        """What the call slots hold; "absent" where the instance has none."""
        return [module.__dict__.get(SLOT, "absent") for module in self.modules()]


def real_operations(**replaced: Any) -> Any:
    """The operators of the pack, some of them replaced."""
    native = operations.load(_native.core)
    names = [field.name for field in dataclasses.fields(native) if field.name != "executor"]
    return SimpleNamespace(**{name: getattr(native, name) for name in names} | replaced)


def open_session(model: Model, **settings: Any) -> Any:
    arguments = {
        "threshold": 0.1,
        "sigma_start": 1.0,
        "sigma_end": 0.0,
        "max_consecutive_hits": -1,
        "metric": "output",
        "stages": (DOUBLE, SINGLE),
        "hooks": model.hooks(),
        "operations": real_operations(),
    } | settings
    return _native.core.Session(**arguments)


def keys(*conds: int) -> tuple[tuple[int, int, int, int, int], ...]:
    return tuple((cond, 7, 100 + cond, 0, 0) for cond in conds)


def call(session: Any, model: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, conds: tuple[int, ...] = (0,),
         sigma: torch.Tensor = SIGMA) -> torch.Tensor:  # fmt: skip
    """One call of the model, as run.py makes it."""
    if not session.open_call(keys(*conds), sigma):
        return model(x)
    completed = run_again = False
    try:
        result = model(x)
        completed = True
    finally:
        run_again = session.close_call(completed)
    return model(x) if run_again else result


def evaluate(session: Any, model: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, **more: Any) -> torch.Tensor:
    session.begin_evaluation()
    return call(session, model, x, **more)


def picture(seed: int = 1, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 6, 8, generator=torch.Generator().manual_seed(seed))


COMPUTED = [1, 1, 1, 1, 1]
REUSED = [1, 0, 0, 0, 0]


@contextmanager
def watching(module: nn.Module, callback: Callable[[tuple[Any, ...], Any], Any]) -> Iterator[None]:
    """Calls back with (args, result) of every forward of a module."""
    handle = module.register_forward_hook(lambda _module, args, result: callback(args, result) and None)
    yield
    handle.remove()
