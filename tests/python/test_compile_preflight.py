"""Without a compiler nothing is traced in vain, the block runs as it is, and the sentence says what to install."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch._dynamo
import torch._inductor.cpp_builder

from wavespeed import compile_preflight
from wavespeed.compile_regions import Regions, Request
from wavespeed.warm_start import WarmStart

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def _no_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("PATH", str(tmp_path))
    torch._inductor.cpp_builder.cpp_compiler_search.cache_clear()
    yield
    torch._inductor.cpp_builder.cpp_compiler_search.cache_clear()


@pytest.mark.usefixtures("_no_programs")
@pytest.mark.parametrize("signature", [None, ("a block",)])
def test_a_missing_compiler_is_named_before_anything_is_traced(signature: Any) -> None:
    request = Request(backend="inductor", options={}, fullgraph=False, dynamic=False, canonical="backend=inductor")
    block = torch.nn.Linear(2, 2)
    region = Regions(WarmStart(None)).get("Linear", torch.nn.Linear.forward, request, signature)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    with torch.inference_mode():
        value = torch.randn(1, 2)
        result, compiled = region.call(block, (value,), {})
        assert torch.equal(result, block(value))
    assert not compiled
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs
    assert region.stopped.startswith(
        "Linear cannot be compiled and runs as it is: inductor needs a C++ compiler on a CPU, and "
    )
    assert region.stopped.endswith(" was not found. Install one, or name it in the environment variable CXX.")


@pytest.mark.usefixtures("_no_programs")
def test_other_backends_need_none() -> None:
    for backend in ("eager", "aot_eager", "cudagraphs"):
        compile_preflight.check(backend, torch.device("cpu"))


def test_a_missing_triton_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.utils._triton, "has_triton_package", lambda: False)
    with pytest.raises(compile_preflight.CannotCompileError, match="needs Triton for this GPU"):
        compile_preflight.check("inductor", torch.device("cuda"))
    compile_preflight.check("inductor", torch.device("cpu"))
