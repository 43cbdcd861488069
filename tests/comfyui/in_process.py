"""ComfyUI's own code in this process: the pack loaded as ComfyUI does it, tiny models with and without its node.

Every run is followed by the check that nothing of the cache is left in the model, also when the run failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tiny_models
import torch
from blocks import BlockCalls

from comfyui_base import ARGUMENTS
from comfyui_tree import ROOT
from comfyui_worker import prepare_modules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from comfyui_tree import ComfyUITree

COUNTS = re.compile(r"(\d+) evaluations?: (\d+) computed, (\d+) reused")
STEPS = 28
NODE = "ApplyFBCacheOnModel"
CACHE_NODE_ID = "cache"
USUAL = 0.12
"""The threshold of the published workflows."""
NEVER = 1e-30
"""A threshold that no change stays below except none at all."""


@dataclass
class NodeTexts:
    """Takes the texts that nodes send to the editor."""

    sent: list[tuple[str, str]] = field(default_factory=list)

    def send(self, kind: str, *, node: str = "", text: str = "", **_data: Any) -> None:
        if kind == "text":
            self.sent.append((node, text))

    def last(self) -> str:
        return self.sent[-1][1] if self.sent else ""


@dataclass(frozen=True)
class LoadedPack:
    """What ComfyUI has registered from one folder."""

    nodes: dict[str, type]
    log: str


@dataclass(frozen=True)
class Run:
    """What a sampling run came to. calls: how often each executed block really ran, in execution order."""

    latent: torch.Tensor
    calls: tuple[int, ...]
    text: str

    @property
    def counts(self) -> tuple[int, int, int]:
        """(evaluations, computed, reused), as the node says."""
        found = COUNTS.search(self.text)
        assert found is not None, f"The node did not say what it did: {self.text!r}"
        return int(found[1]), int(found[2]), int(found[3])

    @property
    def reused(self) -> int:
        return self.counts[2]


class ComfyUI:
    """One per process: ComfyUI reads its command line when it is imported and keeps its state in global variables."""

    def __init__(self, tree: ComfyUITree, base: Path) -> None:
        self.tree = tree
        self.base = base
        self.texts = NodeTexts()
        arguments, sys.argv = sys.argv, ["comfyui", "--base-directory", str(base), *ARGUMENTS]
        try:
            prepare_modules(str(tree.path), self.texts)
            import comfy.utils
            import nodes
        finally:
            sys.argv = arguments
        comfy.utils.PROGRESS_BAR_ENABLED = False
        torch.set_num_threads(1)
        self.nodes: dict[str, type] = nodes.NODE_CLASS_MAPPINGS
        self.pack = self.load_pack(ROOT)
        self.nodes.update(self.pack.nodes)
        self._models: dict[str, Any] = {}

    def load_pack(self, folder: Path) -> LoadedPack:
        """What ComfyUI does with a folder in custom_nodes; the nodes of packs loaded before stay in force."""
        import nodes

        before = dict(self.nodes)
        for name in before:
            if getattr(self.nodes[name], "RELATIVE_PYTHON_MODULE", "").startswith("custom_nodes."):
                del self.nodes[name]
        kept = set(self.nodes)
        with captured_log() as lines:
            loaded = asyncio.run(nodes.load_custom_node(str(folder)))
        found = {name: node for name, node in self.nodes.items() if name not in kept}
        self.nodes.clear()
        self.nodes.update(before)
        log = "\n".join(lines)
        assert loaded, f"ComfyUI could not load the pack:\n{log}"
        return LoadedPack(found, log)

    def model_or_absent(self, family: str) -> Any:
        """A tiny model, built once: runs share it, and every run is checked to leave it as it was.

        Raises AbsentModelError where this ComfyUI does not have the family.
        """
        if family not in self._models:
            self._models[family] = tiny_models.build_or_absent(family)
        return self._models[family].clone()

    def model(self, family: str) -> Any:
        """The same, but the test is skipped where this ComfyUI does not have the family."""
        with tiny_models.skip_where_absent(family):
            return self.model_or_absent(family)

    def engine(self) -> Any:
        """What the loaded pack works with."""
        implementation = self.nodes[NODE].run.__self__  # type: ignore[attr-defined]
        return implementation.engine

    def descriptor(self, model: Any) -> Any | None:
        """What the pack knows about a model; None for a class without a descriptor."""
        return self.engine().architectures.get(type(model.model.diffusion_model).__name__)

    def call(self, node: type | str, **inputs: Any) -> Any:
        """First output of a node, of the old and of the new kind."""
        node_class: Any = self.nodes[node] if isinstance(node, str) else node
        if hasattr(node_class, "execute"):
            return node_class.execute(**inputs).result[0]
        return getattr(node_class(), node_class.FUNCTION)(**inputs)[0]

    def cached(self, model: Any, threshold: float = USUAL, **inputs: Any) -> Any:
        """The model behind our node."""
        given = {
            "object_to_patch": "diffusion_model",
            "residual_diff_threshold": threshold,
            "unique_id": CACHE_NODE_ID,
            **inputs,
        }
        return self.call(NODE, model=model, **given)

    def sample(self, model: Any, family: str = "flux_dev", **how: Any) -> Run:
        """A whole run as core's KSampler makes it: see sample_latent for how."""
        return self._observed(model, family, lambda: self.sample_latent(model, family, **how))

    def sample_latent(
        self,
        model: Any,
        family: str,
        *,
        steps: int = STEPS,
        cfg: float = 1.0,
        sampler: str = "euler",
        scheduler: str = "simple",
        seed: int = 1,
        batch: int = 1,
        positive: Any = None,
        negative: Any = None,
        callback: Any = None,
    ) -> torch.Tensor:
        import comfy.sample

        empty = self.empty_latent(family, batch)
        return comfy.sample.sample(
            model,
            comfy.sample.prepare_noise(empty, seed),
            steps,
            cfg,
            sampler,
            scheduler,
            positive or tiny_models.conditioning(family, seed=1),
            negative or tiny_models.conditioning(family, seed=2),
            empty,
            denoise=1.0,
            callback=callback,
            disable_pbar=True,
            seed=seed,
        )

    def evaluate(
        self, model: Any, family: str, evaluations: list[Evaluation], *, cfg: float = 1.0, **conds: Any
    ) -> Evaluated:
        """Evaluates the guider at chosen points instead of following a schedule: a sampler of our own."""
        import comfy.sample
        import comfy.samplers

        results: list[torch.Tensor] = []
        calls: list[tuple[int, ...]] = []
        counter = self.count_blocks(model, family)

        def sampler(
            denoise: Any, x: torch.Tensor, _sigmas: Any, extra_args: Any = None, **_unused: Any
        ) -> torch.Tensor:
            for evaluation in evaluations:
                before = counter.counts()
                evaluation.before()
                noise = torch.Generator().manual_seed(evaluation.seed)
                point = x + evaluation.distance * torch.randn(x.shape, generator=noise)
                sigma = torch.full((x.shape[0],), evaluation.sigma)
                denoised = denoise(point, sigma, **(extra_args or {}))
                results.append((point - denoised) / evaluation.sigma)
                calls.append(tuple(after - earlier for after, earlier in zip(counter.counts(), before, strict=True)))
            return x

        empty = self.empty_latent(family)

        def run() -> torch.Tensor:
            with counter:
                return comfy.sample.sample_custom(
                    model,
                    comfy.sample.prepare_noise(empty, 1),
                    cfg,
                    comfy.samplers.KSAMPLER(sampler),
                    torch.tensor([1.0, 0.0]),
                    conds.get("positive") or tiny_models.conditioning(family, seed=1),
                    conds.get("negative") or tiny_models.conditioning(family, seed=2),
                    empty,
                    disable_pbar=True,
                    seed=1,
                )

        observed = self._observed(model, family, run)
        return Evaluated(results, calls, observed)

    @staticmethod
    def empty_latent(family: str, batch: int = 1) -> Any:
        """A tensor, or ComfyUI's nested tensor of several for models of several streams."""
        described = tiny_models.FAMILIES[family]
        latents = [torch.zeros((batch * first, *rest)) for first, *rest in (described.latent, *described.more_latents)]
        if len(latents) == 1:
            return latents[0]
        from comfy.nested_tensor import NestedTensor

        return NestedTensor(latents)

    @staticmethod
    def count_blocks(model: Any, family: str) -> BlockCalls:
        description = tiny_models.FAMILIES[family]
        return BlockCalls(model.model.diffusion_model, description.stages, description.method)

    def _observed(self, model: Any, family: str, run: Callable[[], torch.Tensor]) -> Run:
        diffusion_model = model.model.diffusion_model
        names = list(diffusion_model.state_dict())
        del self.texts.sent[:]
        try:
            with self.count_blocks(model, family) as counter, torch.inference_mode():
                latent = run()
        finally:
            assert_nothing_is_left(model)
            assert list(diffusion_model.state_dict()) == names
        return Run(one_tensor(latent), counter.counts(), self.texts.last())


@dataclass(frozen=True)
class Evaluation:
    """One call of the guider, at a point that lies `distance` times seeded noise away from the start."""

    sigma: float = 1.0
    distance: float = 0.0
    seed: int = 0
    before: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Evaluated:
    """outputs: what the model predicted at each evaluation; calls: of every block in each of them."""

    outputs: list[torch.Tensor]
    calls: list[tuple[int, ...]]
    run: Run


def one_tensor(latent: Any) -> torch.Tensor:
    """The latent itself, or the latents of several streams one behind the other."""
    if isinstance(latent, torch.Tensor):
        return latent
    return torch.cat([part.flatten(1) for part in latent.unbind()], 1)


def assert_nothing_is_left(model: Any) -> None:
    """No attribute of ours on any module of the model, no wrapper of ours in the options of any run."""
    for name, module in model.model.named_modules():
        left = {"_compiled_call_impl", "forward", "_forward", "forward_gen"} & set(vars(module))
        assert not left, f"{left} is left on {name or 'the model'}"
    wrappers = model.model_options.get("transformer_options", {}).get("wrappers", {})
    for kind, entries in wrappers.items():
        assert not entries.get("wavespeed_first_block_cache"), f"a {kind} wrapper is left in the options of the model"


def tensors_alive() -> int:
    """Tensors that Python knows of, after everything unreachable has gone."""
    gc.collect()
    return sum(1 for item in gc.get_objects() if issubclass(type(item), torch.Tensor))


def native_objects_alive() -> int:
    """Sessions and hooks of the native module, whichever copy of the pack made them."""
    gc.collect()
    kinds = [type(item) for item in gc.get_objects()]
    return sum(1 for kind in kinds if kind.__name__ in ("Session", "Hook") and "_core" in kind.__module__)


def relative_difference(tensor: torch.Tensor, reference: torch.Tensor) -> float:
    """Largest difference relative to the largest value; NaN when anything is NaN."""
    tensor, reference = tensor.double(), reference.double()
    return ((tensor - reference).abs().max() / reference.abs().max()).item()


def difference_of_norms(tensor: torch.Tensor, reference: torch.Tensor) -> float:
    """Relative, as norms, for results that agree but for rounding; NaN when anything is NaN."""
    return ((tensor.double() - reference.double()).norm() / reference.double().norm()).item()


@contextlib.contextmanager
def captured_log() -> Iterator[list[str]]:
    """Everything that is logged meanwhile, as lines of level and text."""
    lines: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.levelname}: {record.getMessage()}")

    handler, root = Collect(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
