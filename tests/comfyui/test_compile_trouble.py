"""When compiling or compiled code is stopped: what must reach ComfyUI does, nothing stays behind, the next run works.

A compiler that is killed: test_warm_start.py. One that is missing: tests/python/test_compile_preflight.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from compiling import Compiles, compiled, fresh_compiler  # noqa: F401
from in_process import USUAL, assert_nothing_is_left
from test_compile import sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from in_process import ComfyUI

raised: dict[str, BaseException | None] = {"traced": None, "run": None}
"""What the operator below raises while a block is traced, and while it runs."""


@torch.library.custom_op("wavespeed_tests::trouble", mutates_args=())
def trouble(value: torch.Tensor) -> torch.Tensor:
    if raised["run"] is not None:
        raise raised["run"]
    return value * 1.5


@trouble.register_fake
def _(value: torch.Tensor) -> torch.Tensor:
    if raised["traced"] is not None:
        raise raised["traced"]
    return torch.empty_like(value)


@pytest.fixture(autouse=True)
def _no_trouble() -> Iterator[None]:
    yield
    raised.update(traced=None, run=None)


@pytest.fixture
def _trouble_in_blocks(comfy: ComfyUI, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator runs in every block of Flux."""
    from comfy.ldm.flux.layers import QKNorm

    forward = QKNorm.forward

    def with_trouble(self: Any, q: torch.Tensor, *others: torch.Tensor) -> Any:
        return forward(self, trouble(q), *others)

    monkeypatch.setattr(QKNorm, "forward", with_trouble)


def test_cancel_while_a_block_is_being_compiled(comfy: ComfyUI, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compile goes on to its end and is kept; the block after it does not run."""
    from comfy import model_management

    model = comfy.model("flux_dev")
    behind = comfy.cached(compiled(comfy, model), USUAL)
    plain = sample(comfy.cached(model, USUAL))
    send = comfy.texts.send

    def cancel(kind: str, **data: Any) -> None:
        send(kind, **data)
        if str(data.get("text")).startswith("Compiling SingleStreamBlock"):
            model_management.interrupt_current_processing()

    with monkeypatch.context() as patching:
        patching.setattr(comfy.texts, "send", cancel)
        with Compiles() as compiles, pytest.raises(model_management.InterruptProcessingException):
            sample(behind)
    assert compiles.graphs == 2
    assert_nothing_is_left(model)
    with Compiles() as compiles:
        assert torch.equal(sample(behind), plain)
    assert compiles.graphs == 0


@pytest.mark.usefixtures("_trouble_in_blocks")
@pytest.mark.parametrize("when", raised)
def test_cancel_passes_through(comfy: ComfyUI, when: str) -> None:
    """ComfyUI itself asks for it only in what runs, never in what is being traced."""
    from comfy import model_management

    kind = model_management.InterruptProcessingException if when == "run" else KeyboardInterrupt
    model = comfy.model("flux_dev")
    behind = compiled(comfy, model)
    plain = sample(model)
    raised[when] = kind()
    with pytest.raises(kind):
        sample(behind)
    assert_nothing_is_left(model)
    raised[when] = None
    assert torch.equal(sample(behind), plain)
    assert "compiled 100 % of calls" in comfy.texts.last()


@pytest.mark.usefixtures("_trouble_in_blocks")
def test_out_of_memory_passes_through(comfy: ComfyUI) -> None:
    """ComfyUI makes room and says so; the code is as good as before, and was counted."""
    model = comfy.model("flux_dev")
    behind = compiled(comfy, model)
    plain = sample(model)
    raised["run"] = torch.OutOfMemoryError("out of memory")
    with Compiles() as compiles, pytest.raises(torch.OutOfMemoryError):
        sample(behind)
    assert compiles.graphs == 1
    assert "1 compile (" in comfy.texts.last()
    assert_nothing_is_left(model)
    raised["run"] = None
    with Compiles() as compiles:
        assert torch.equal(sample(behind), plain)
    assert compiles.graphs == 1
    assert "compiled 100 % of calls · 1 compile (" in comfy.texts.last()


@pytest.mark.usefixtures("_trouble_in_blocks")
def test_what_fails_while_it_is_traced_runs_as_it_is(comfy: ComfyUI) -> None:
    model = comfy.model("flux_dev")
    raised["traced"] = RuntimeError("this operator cannot be traced")
    latent = sample(compiled(comfy, model, fullgraph=True))
    assert torch.equal(latent, sample(model))
    text = comfy.texts.last()
    for block in ("DoubleStreamBlock", "SingleStreamBlock"):
        assert text.count(f"{block} cannot be compiled and runs as it is: ") == 1
    assert "compiled 0 % of calls" in text


def test_an_object_passes_on_what_stops_it(comfy: ComfyUI, monkeypatch: pytest.MonkeyPatch) -> None:
    """A VAE's decoder: ComfyUI answers out-of-memory by decoding in tiles."""
    import tiny_objects

    vae = tiny_objects.vae()
    behind = compiled(comfy, vae, is_patcher=False, object_to_patch="decoder")
    module = vae.first_stage_model.decoder.mid.block_1
    forward = type(module).forward

    def with_trouble(self: Any, *args: Any) -> torch.Tensor:
        return trouble(forward(self, *args))

    monkeypatch.setattr(type(module), "forward", with_trouble)
    latent = torch.randn((1, 4, 48, 48), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        plain = vae.decode(latent)
        raised["run"] = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            behind.decode(latent)
        raised["run"] = None
        with Compiles() as compiles:
            assert torch.equal(behind.decode(latent), plain)
    assert compiles.graphs == 0
