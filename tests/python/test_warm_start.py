"""Compiled code of an earlier start is taken when nothing has changed, and refused with a sentence when something has.

A start is a fresh Regions here, which knows nothing but the folder. Real processes: tests/comfyui/test_warm_start.py.
"""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch._dynamo
import torch._inductor.graph

from wavespeed import _native, ahead_of_time, assumptions, block_signature, warm_start
from wavespeed.code_store import CodeStore
from wavespeed.compile_model import CompileModel
from wavespeed.compile_regions import Compile, Region, Regions, Request
from wavespeed.run import Engine
from wavespeed.warm_start import WarmStart

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = """
import torch

FACTOR = 2.0

def activation(hidden):
    return torch.sigmoid(hidden) * hidden

class Block(torch.nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.randn(width))

    def forward(self, hidden, vec=None, transformer_options={}):
        hidden = activation(hidden * self.scale) * FACTOR * transformer_options.get("strength", 1.0)
        if "patch" in transformer_options:
            hidden = transformer_options["patch"](hidden)
        return hidden if vec is None else hidden + vec

class Chunk(torch.nn.Module):
    def forward(self, hidden, kept, position):
        earlier = kept[position[0]]
        kept[position[0]] = hidden[:, -1:]
        position[0] += 1
        return hidden * 2 if earlier is None else torch.cat([earlier, hidden], 1)
"""
REQUEST = Request(backend="inductor", options={}, fullgraph=False, dynamic=False, canonical="backend=inductor")


@pytest.fixture
def blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module that holds the class of the blocks, as if it had lain there since before the start."""
    name = f"block_of_{tmp_path.name}"  # torch remembers modules by name
    source = tmp_path / f"{name}.py"
    source.write_text(SOURCE)
    os.utime(source, (0, 0))
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.manual_seed(0)
    with torch.inference_mode():
        yield importlib.import_module(name)
    del sys.modules[name]


@pytest.fixture
def store(tmp_path: Path) -> CodeStore:
    return CodeStore(tmp_path / "compiled", tmp_path / "code.key")


@dataclass(frozen=True)
class Called:
    result: torch.Tensor
    traced: int
    written: int
    """Graphs that Dynamo has traced and that inductor has written code for meanwhile."""


written = 0


@pytest.fixture(autouse=True)
def _count_code(monkeypatch: pytest.MonkeyPatch) -> None:
    original = torch._inductor.graph.GraphLowering.codegen

    def codegen(self: Any) -> Any:
        global written
        written += 1
        return original(self)

    monkeypatch.setattr(torch._inductor.graph.GraphLowering, "codegen", codegen)


class Start:
    """One start of the process, and a block of it."""

    def __init__(self, store: CodeStore | None, block: torch.nn.Module) -> None:
        torch._dynamo.reset()
        signature = block_signature.of_block(block)
        regions = Regions(WarmStart(store))
        self.block = block
        self.region: Region = regions.get("Block", type(block).forward, REQUEST, signature)

    def called(self, *args: Any) -> Any:
        return self.region.call(self.block, args, {})[0]

    def call(self, tokens: int = 4, batch: int = 1, **kwargs: Any) -> Called:
        """Also checks the result against the uncompiled block."""
        hidden = torch.randn(batch, tokens, 8)
        before = self._counts()
        result, compiled = self.region.call(self.block, (hidden,), kwargs)
        assert compiled, self.region.stopped
        torch.testing.assert_close(result, self.block(hidden, **kwargs))
        after = self._counts()
        return Called(result, after[0] - before[0], after[1] - before[1])

    @staticmethod
    def _counts() -> tuple[int, int]:
        return torch._dynamo.utils.counters["stats"]["unique_graphs"], written

    @property
    def compiles(self) -> list[Compile]:
        return self.region.compiles

    @property
    def loads(self) -> int:
        return len(self.region.loads)

    @property
    def remarks(self) -> str:
        return " ".join(self.region.remarks)


def test_the_next_start_compiles_nothing(blocks: Any, store: CodeStore) -> None:
    first = Start(store, blocks.Block())
    called = first.call()
    assert (called.traced, called.written) == (1, 1)
    assert (len(first.compiles), first.loads, first.remarks) == (1, 0, "")
    second = Start(store, blocks.Block())  # other weights, other sizes
    for tokens in (4, 9, 30):
        called = second.call(tokens)
        assert (called.traced, called.written) == (0, 0)
    assert (second.compiles, second.loads, second.remarks) == ([], 1, "")


def test_variants_are_kept_side_by_side(blocks: Any, store: CodeStore) -> None:
    first = Start(store, blocks.Block())
    for batch in (1, 2, 3):
        first.call(batch=batch)
    assert len(first.compiles) == 2
    assert "size mismatch at index 0" in first.compiles[1].reason
    second = Start(store, blocks.Block())
    for batch in (3, 1, 2):
        assert second.call(batch=batch).written == 0
    assert (second.compiles, second.loads, second.remarks) == ([], 2, "")


def test_the_same_bits(blocks: Any, store: CodeStore) -> None:
    block = blocks.Block()
    results = []
    for _ in range(2):
        torch.manual_seed(1)
        results.append(Start(store, block).call().result)
    assert torch.equal(*results)


@pytest.mark.parametrize("damage", [lambda whole: whole[:-1] + b"x", lambda whole: whole[:100], lambda _: b""])
def test_a_damaged_file_is_replaced(blocks: Any, store: CodeStore, damage: Any) -> None:
    Start(store, blocks.Block()).call()
    (file,) = store.folder.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    second = Start(store, blocks.Block())
    second.call()
    assert (len(second.compiles), second.loads) == (1, 0)
    assert second.remarks == (
        f"The code of Block from before is not used, because {file.name} is damaged or was not written by this user "
        "on this machine."
    )
    third = Start(store, blocks.Block())
    third.call()
    assert (len(third.compiles), third.loads, third.remarks) == (0, 1, "")


def test_a_changed_source_is_noticed(blocks: Any, store: CodeStore) -> None:
    Start(store, blocks.Block()).call()
    source = Path(blocks.__file__)
    source.write_text(f"{SOURCE}# changed\n")
    os.utime(source, (0, 0))
    second = Start(store, blocks.Block())
    second.call()
    assert second.loads == 0
    assert second.remarks == (
        f"The code of Block from before is not used, because the code of {blocks.__name__} has changed."
    )


def test_a_source_that_may_not_be_what_runs_is_not_trusted(blocks: Any, store: CodeStore) -> None:
    Path(blocks.__file__).touch()
    first = Start(store, blocks.Block())
    first.call()
    because = f"{blocks.__name__}.py has changed since ComfyUI was started"
    assert first.remarks == f"Block is compiled again after the next start, because {because}."
    assert store.names("") == []


def test_a_function_that_another_pack_has_replaced_is_noticed(blocks: Any, store: CodeStore) -> None:
    Start(store, blocks.Block()).call()
    original = blocks.activation
    blocks.activation = lambda hidden: torch.tanh(hidden)
    second = Start(store, blocks.Block())
    second.call()
    assert second.loads == 0
    assert "activation is another one than it was." in second.remarks
    # And while code is in use.
    blocks.activation = original
    second.call()
    blocks.activation = lambda hidden: torch.cos(hidden)
    second.call()


def test_a_global_that_has_changed_is_noticed(blocks: Any, store: CodeStore) -> None:
    Start(store, blocks.Block()).call()
    blocks.FACTOR = 3.0
    second = Start(store, blocks.Block())
    second.call()
    assert second.loads == 0
    assert "FACTOR is another one than it was." in second.remarks
    blocks.FACTOR = 4.0
    second.call()


def test_options_of_the_model_are_noticed(blocks: Any, store: CodeStore) -> None:
    first = Start(store, blocks.Block())
    for strength in (1.0, 0.5):
        first.call(transformer_options={"strength": strength})
    second = Start(store, blocks.Block())
    for strength in (0.5, 1.0, 0.25, 3.0):
        second.call(transformer_options={"strength": strength})
    assert len(second.compiles) <= 3  # torch has learned that it changes
    second.call()
    second.call(vec=torch.ones(8))


def test_functions_of_other_nodes_are_not_kept(blocks: Any, store: CodeStore) -> None:
    first = Start(store, blocks.Block())
    for offset in (1, 2):
        first.call(transformer_options={"patch": lambda hidden, offset=offset: hidden + offset})
    assert "Block is compiled again after the next start, because kwargs['transformer_options']" in first.remarks
    assert store.names("") == []


def test_what_is_not_understood_is_left_to_torch(
    blocks: Any, store: CodeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(assumptions.KINDS, "CLOSURE_MATCH")
    first = Start(store, blocks.Block())
    first.call()
    first.call(9)
    assert len(first.compiles) == 1
    assert "Block is compiled again after each start: torch checks G['" in first.remarks
    assert store.names("") == []


@pytest.mark.parametrize("broken", ["to_bytes", "from_bytes"])
def test_what_torch_cannot_keep_or_load_is_compiled(
    blocks: Any, store: CodeStore, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*_arguments: Any) -> None:
        raise RuntimeError("torch has changed\nand says much more")

    monkeypatch.setattr(ahead_of_time, broken, fail)
    remarks = []
    for _ in range(2):
        start = Start(store, blocks.Block())
        start.call()
        assert len(start.compiles) == 1
        remarks.append(start.remarks)
    if broken == "to_bytes":
        assert remarks == ["Block is compiled again after the next start: torch has changed"] * 2
    else:
        assert remarks == ["", "The code of Block from before does not load: torch has changed"]


def test_code_for_another_torch_is_not_used(blocks: Any, store: CodeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    here = warm_start.environment(torch.device("cpu"))
    with monkeypatch.context() as patch:
        patch.setattr(warm_start, "environment", lambda _device: ["torch 2.12.0 (0123)", *here[1:]])
        Start(store, blocks.Block()).call()
    second = Start(store, blocks.Block())
    second.call()
    assert second.loads == 0
    because = f"it was made for torch 2.12.0 (0123), and this is {here[0]}"
    assert second.remarks == f"The code of Block from before is not used, because {because}."
    assert len(store.names("")) == 2
    third = Start(store, blocks.Block())
    third.call()
    assert (third.loads, third.remarks) == (1, "")


def test_a_default_device_is_noticed(blocks: Any, store: CodeStore) -> None:
    first = Start(store, blocks.Block())
    first.call()
    with torch.device("cpu"):
        first.call()
    assert len(store.names("")) == 1


@pytest.mark.skipif(_native.core is None, reason=_native.reason)
@pytest.mark.parametrize(
    ("folder", "on_cpu", "on_gpu"), [("", True, False), ("0", False, False), ("~/compiled", True, True)]
)
def test_code_for_a_gpu_is_kept_only_where_the_user_has_asked(
    monkeypatch: pytest.MonkeyPatch, folder: str, on_cpu: bool, on_gpu: bool
) -> None:
    """A tensor without data stands for one on a GPU."""
    monkeypatch.setenv("WAVESPEED_CACHE_DIR", folder)
    node = CompileModel(Engine(core=_native.core, operations=None, architectures={}))
    region = node.regions.get("Linear", torch.nn.Linear.forward, REQUEST, ("a block",))
    assert region.variants is not None
    for device, expected in (("cpu", on_cpu), ("meta", on_gpu)):
        call = {"args": (torch.empty(1, 2, device=device),), "kwargs": {}}
        assert region.variants.may_grow(call) is expected


def test_nothing_is_kept_where_nothing_is_wanted(blocks: Any) -> None:
    for _ in range(2):
        start = Start(None, blocks.Block())
        start.call()
        assert (len(start.compiles), start.loads, start.remarks) == (1, 0, "")


def test_what_is_written_into_the_lists_of_a_call_is_written(blocks: Any, store: CodeStore) -> None:
    """As the decoders of videos do: each piece leaves behind what the next one needs, and where it lies."""
    block = blocks.Chunk()
    for loads in (0, 2):
        start = Start(store, block)
        lists: list[tuple[list[Any], list[int]]] = [([None], [0]), ([None], [0])]
        for _ in range(4):
            hidden = torch.randn(1, 4, 8)
            results = []
            for call, (kept, position) in zip((block, start.called), lists, strict=True):
                position[0] = 0
                results.append(call(hidden, kept, position))
                assert position == [1]
            torch.testing.assert_close(*results)
            torch.testing.assert_close(lists[0][0], lists[1][0])
        assert (len(start.compiles), start.loads, start.remarks) == (2 - loads, loads, "")
