"""One sampling run with the cache: wrappers that open and close native sessions around ComfyUI's sampling.

Nothing survives a run. The session, its tensors and the hooks live between the beginning and the end of OUTER_SAMPLE;
the hooks are in the model only while it is being called.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from . import architecture, operations, report, trace
from .discovery import Discovery, UndiscoveredModelError
from .model_call import Member, ModelCall

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from .operations import Operations

WRAPPER_KEY = "wavespeed_first_block_cache"
SECONDS_BETWEEN_TEXTS = 0.5
NOISE_ADDING = ("ancestral", "sde", "ddpm", "lcm", "seeds_", "sa_solver")
"""Parts of the names of ComfyUI's samplers that add fresh noise in every step."""
SIGMA_ROUNDING = 1e-6
"""Sigmas of a schedule are fp32, those of start and end are not: a step exactly on one of them belongs to the range."""


@dataclass(frozen=True)
class Settings:
    """What the user typed on the node. Shared by all clones of the patched model, therefore immutable."""

    object_to_patch: str
    threshold: float
    start: float
    end: float
    max_consecutive_hits: int
    strategy: str
    speedup: float
    cache_device: str
    node_id: str | None


@dataclass(frozen=True)
class Engine:
    """The native module and what it works with; one per process."""

    core: ModuleType
    operations: Operations
    architectures: dict[str, architecture.Architecture]
    discovered: dict[type, architecture.Architecture] = field(default_factory=dict)
    """Of classes without a descriptor, found by watching a call of theirs in this process."""


class Run:
    """State of one sampling run. Several base models may take part in it (two-model guiders, one clone per GPU); each
    has a session of its own and decides alone."""

    def __init__(
        self, engine: Engine, settings: Settings, sigma_start: float, sigma_end: float, schedule: tuple[float, ...]
    ) -> None:
        self.engine = engine
        self.settings = settings
        self.sigma_start = sigma_start
        self.sigma_end = sigma_end
        self.schedule = schedule
        self.models: dict[int, Member | Discovery | str] = {}
        """What each base model, by its identity, is to this run; a str says why it is left alone."""
        self.evaluations = 0
        """Of the guider, also those in which the cache was off."""
        self.watching = False
        self.discovering = 0
        """Evaluations in which a model was being discovered; no session counts them."""
        self.unforeseeable = False
        self.trains = False
        """Gradients were recorded in calls of the model, and they would not flow through a reused state."""
        self.recording = trace.is_wanted()
        self.lock = threading.Lock()
        self.last_text = time.monotonic()

    @property
    def members(self) -> list[Member]:
        return [model for model in self.models.values() if isinstance(model, Member)]

    def model_for(self, base_model: Any) -> Member | Discovery | str:
        identity = id(base_model)
        with self.lock:
            if identity not in self.models:
                try:
                    self.models[identity] = self._join(self._diffusion_model(base_model))
                except architecture.UnsupportedModelError as problem:
                    self.models[identity] = str(problem)
            return self.models[identity]

    def _diffusion_model(self, base_model: Any) -> torch.nn.Module:
        return architecture.module_at(base_model, self.settings.object_to_patch)

    def _join(self, diffusion_model: torch.nn.Module) -> Member | Discovery:
        descriptor = architecture.find(self.engine.architectures, diffusion_model)
        if descriptor is None:
            descriptor = self.engine.discovered.get(type(diffusion_model))
        return Discovery(diffusion_model) if descriptor is None else self._open(descriptor, diffusion_model)

    def _open(self, descriptor: architecture.Architecture, diffusion_model: torch.nn.Module, **changed: Any) -> Member:
        plan = architecture.bind(descriptor, diffusion_model)
        settings: dict[str, Any] = {
            "threshold": self.settings.threshold,
            "sigma_start": self.sigma_start,
            "sigma_end": self.sigma_end,
            "max_consecutive_hits": self.settings.max_consecutive_hits,
            "strategy": self.settings.strategy,
            "speedup": self.settings.speedup,
            "schedule": self.schedule,
        }
        session = self.engine.core.Session(
            metric=descriptor.metric,
            stages=tuple(stage.layout() for stage in descriptor.stages),
            hooks=plan.hooks,
            operations=self.engine.operations,
            batch_dim=descriptor.batch_dim,
            offloads=self.settings.cache_device == "cpu",
            empty_arguments=descriptor.empty_arguments,
            final_part=descriptor.final_part,
            records=self.recording,
            **(settings | changed),
        )
        return Member(descriptor, plan.last_block, session)

    def predict_noise(self, executor: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """PREDICT_NOISE wrapper: once per model evaluation, whatever ComfyUI splits it into."""
        for member in self.members:
            member.session.begin_evaluation()
        self.evaluations += 1
        self.watching = False
        result = executor(*args, **kwargs)
        self.discovering += self.watching
        now = time.monotonic()
        if now - self.last_text > SECONDS_BETWEEN_TEXTS:
            self.last_text = now
            report.show_on_node(self.text(), self.settings.node_id)
        return result

    def apply_model(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """APPLY_MODEL wrapper, innermost: one call of the diffusion model.

        args: x (B, C, ...), sigma (B,), c_concat, c_crossattn, control, transformer_options.
        """
        if torch.is_grad_enabled():
            self.trains = True
            return executor(*args, **kwargs)
        model = "" if operations.is_capturing() else self.model_for(executor.class_obj)
        if isinstance(model, str):
            return executor(*args, **kwargs)
        call = ModelCall(executor, args, kwargs)
        return self._discover(model, call) if isinstance(model, Discovery) else call.run_cached(model)

    def _discover(self, discovery: Discovery, call: ModelCall) -> Any:
        self.watching = True
        identity, diffusion_model = id(call.base_model), self._diffusion_model(call.base_model)
        try:
            result, descriptor = discovery.run(
                call, lambda found, **changed: self._open(found, diffusion_model, **changed)
            )
        except UndiscoveredModelError as problem:
            with self.lock:
                self.models[identity] = str(problem)
            return problem.result
        if descriptor is not None:
            with self.lock:
                self.engine.discovered[type(diffusion_model)] = descriptor
                del self.models[identity]  # joins as a member at its next call
        return result

    def computed(self) -> float:
        """Evaluations that were computed; the mean where several models take part in each of them."""
        reused = [member.session.statistics()["reused"] for member in self.members]
        return self.evaluations - sum(reused) / max(1, len(reused))

    def text(self) -> str:
        lines = [
            report.run_line(
                member.descriptor.family,
                member.session.statistics(),
                self.settings.threshold,
                self.settings.strategy,
                self.settings.speedup,
                member.refusals,
            )
            for member in self.members
        ]
        if self.members and self.discovering:
            lines.append(f"{self.discovering} more were computed to find the model's blocks")
        if self.unforeseeable and self.members:
            lines.append(
                "This sampler adds new noise in every step, which no forecast foresees: expect larger differences."
            )
        lines += [f"Passed through: {reason}." for reason in self.models.values() if isinstance(reason, str)]
        if self.trains:
            lines.append("Passed through: gradients were recorded, as in training.")
        return " | ".join(lines) or "Passed through: the model was never called."

    def record(self) -> str:
        """Writes the traces of the run, if it has any."""
        traces = [(member.descriptor.family, member.session.trace()) for member in self.members]
        return " ".join(trace.write(family, found) for family, found in traces if found is not None)

    def close(self) -> None:
        for member in self.members:
            member.session.close()
        self.models.clear()


def adds_noise(sampler: Any) -> bool:
    """sampler: as OUTER_SAMPLE gets it. A sampler that has no function with a name is taken for one that adds none."""
    name = getattr(getattr(sampler, "sampler_function", None), "__name__", "")
    return any(part in name for part in NOISE_ADDING)


def outer_sample_wrapper(
    engine: Engine, settings: Settings, at_end: Callable[[Run], None] | None = None
) -> Callable[..., Any]:
    """OUTER_SAMPLE wrapper: one sampling run from beginning to end. at_end gets the run before it is closed."""

    def outer_sample(executor: Any, *args: Any, **kwargs: Any) -> Any:
        from comfy.patcher_extension import WrappersMP

        guider = executor.class_obj
        # Read here and not when the node runs: a node between ours and the sampler may change the schedule.
        sampling = guider.model_patcher.get_model_object("model_sampling")
        sigma_start, sigma_end = (float(sampling.percent_to_sigma(share)) for share in (settings.start, settings.end))
        # args: noise, latent_image, sampler, sigmas, ...
        schedule = tuple(args[3].tolist())
        chosen = trace.full_run(settings) if trace.is_wanted() else settings
        run = Run(engine, chosen, sigma_start * (1 + SIGMA_ROUNDING), sigma_end * (1 - SIGMA_ROUNDING), schedule)
        run.unforeseeable = not run.recording and settings.strategy == "forecast" and adds_noise(args[2])
        wrappers = guider.model_options.setdefault("transformer_options", {}).setdefault("wrappers", {})
        # The first wrapper of a kind is the outermost, so one added now is the innermost: it sees what other nodes made
        # of the call, and nothing of theirs runs between it and the model.
        added = {WrappersMP.PREDICT_NOISE: run.predict_noise, WrappersMP.APPLY_MODEL: run.apply_model}
        for kind, wrapper in added.items():
            wrappers.setdefault(kind, {})[WRAPPER_KEY] = [wrapper]
        try:
            return executor(*args, **kwargs)
        finally:
            for kind in added:
                del wrappers[kind][WRAPPER_KEY]
            try:
                report.tell(" | ".join(filter(None, (run.text(), run.record()))), settings.node_id)
                if at_end is not None:
                    at_end(run)
            finally:
                run.close()

    return outer_sample
