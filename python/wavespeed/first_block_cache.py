"""The cache nodes: check their inputs and hand back a clone of the model with one wrapper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import architecture, report
from .run import WRAPPER_KEY, Engine, Settings, outer_sample_wrapper

if TYPE_CHECKING:
    from collections.abc import Callable

    from .run import Run

STRATEGIES = ("classic", "forecast")
STRATEGIES_WITH_SPEEDUP = ("forecast", "classic")
"""The first choice is the default."""
CACHE_DEVICES = ("gpu", "cpu")
CHOICES = {"strategy": STRATEGIES, "cache_device": CACHE_DEVICES}
CHOICES_WITH_SPEEDUP = {"strategy": STRATEGIES_WITH_SPEEDUP, "cache_device": CACHE_DEVICES}
PATCHER_METHODS = ("clone", "add_wrapper_with_key", "remove_wrappers_with_key", "get_model_object")


def check_patcher(model: Any) -> None:
    """TypeError for what is no model that can be patched."""
    if not all(hasattr(model, name) for name in PATCHER_METHODS):
        raise TypeError(
            f"The model input is a {type(model).__name__}, not a diffusion model that ComfyUI can patch. "
            "Connect the MODEL output of a loader or of another model node."
        )


def without_cache(model: Any) -> Any:
    """A clone of the model with no cache, also where one was there."""
    from comfy.patcher_extension import WrappersMP

    patched = model.clone()
    patched.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, WRAPPER_KEY)
    return patched


def with_cache(engine: Engine, model: Any, settings: Settings, at_end: Callable[[Run], None] | None = None) -> Any:
    """A clone of the model with the cache. at_end is called with every run, before it is closed."""
    from comfy.patcher_extension import WrappersMP

    # The last of several such nodes wins; two caches in one model would measure each other.
    patched = without_cache(model)
    wrapper = outer_sample_wrapper(engine, settings, at_end)
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, WRAPPER_KEY, wrapper)
    return patched


class ApplyFirstBlockCache:
    """Implementation of the node ApplyFBCacheOnModel; names and meaning of the inputs as in Comfy-WaveSpeed.

    strategy and speedup are ours. The editor fills their defaults into old workflows, which so keep their pictures.
    """

    choices = CHOICES

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def validate(
        self,
        residual_diff_threshold: float = 0.0,
        start: float = 0.0,
        end: float = 1.0,
        max_consecutive_cache_hits: int = -1,
        speedup: float = 0.0,
    ) -> bool | str:
        """Before queueing: True, or the sentence that ComfyUI shows on the node.

        Values that come over a link are not known yet and arrive as None; they are checked when the node runs.
        """
        values = (residual_diff_threshold, start, end, max_consecutive_cache_hits, speedup)
        allowed = (0.0, 0.0, 1.0, -1, 0.0)
        known = (good if value is None else value for value, good in zip(values, allowed, strict=True))
        try:
            self.engine.core.check_options(*known)
        except (ValueError, TypeError, OverflowError) as problem:
            return str(problem)
        return True

    def run(
        self,
        model: Any,
        object_to_patch: str,
        residual_diff_threshold: float,
        start: float = 0.0,
        end: float = 1.0,
        max_consecutive_cache_hits: int = -1,
        strategy: str = STRATEGIES[0],
        speedup: float = 0.0,
        cache_device: str = CACHE_DEVICES[0],
        unique_id: str | None = None,
    ) -> tuple[Any]:
        check_patcher(model)
        for name, value in (("strategy", strategy), ("cache_device", cache_device)):
            if value not in CHOICES[name]:
                raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(CHOICES[name])}.")
        on = self.engine.core.check_options(residual_diff_threshold, start, end, max_consecutive_cache_hits, speedup)
        diffusion_model = self._object(model, object_to_patch)
        if not on:
            off = "max_consecutive_cache_hits" if max_consecutive_cache_hits == 0 else "residual_diff_threshold"
            report.show_on_node(f"Off: {off} is 0.", unique_id)
            return (model,)
        try:
            descriptor = architecture.find(self.engine.architectures, diffusion_model)
            # A class without a descriptor is looked at when it is sampled, if it is what ComfyUI samples.
            if descriptor is None and diffusion_model is not model.get_model_object("diffusion_model"):
                kind = type(diffusion_model).__name__
                raise architecture.UnsupportedModelError(f"object_to_patch names a {kind}, which is no diffusion model")
        except architecture.UnsupportedModelError as problem:
            report.tell(f"Passed through: {problem}.", unique_id)
            return (model,)
        settings = Settings(
            object_to_patch=object_to_patch,
            threshold=residual_diff_threshold,
            start=start,
            end=end,
            max_consecutive_hits=max_consecutive_cache_hits,
            strategy=strategy,
            speedup=speedup,
            cache_device=cache_device,
            node_id=unique_id,
        )
        return (with_cache(self.engine, model, settings),)

    @staticmethod
    def _object(model: Any, name: str) -> Any:
        try:
            return model.get_model_object(name)
        except AttributeError as problem:
            raise ValueError(
                f"object_to_patch is {name!r}, which this model ({type(model.model).__name__}) does not have. "
                "Use diffusion_model."
            ) from problem


class FirstBlockCache:
    """Implementation of the node WaveSpeedFirstBlockCache: a speedup instead of a threshold."""

    choices = CHOICES_WITH_SPEEDUP

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.by_threshold = ApplyFirstBlockCache(engine)

    def validate(
        self,
        speedup: float | None = None,
        start: float = 0.0,
        end: float = 1.0,
        max_consecutive_cache_hits: int = -1,
    ) -> bool | str:
        """As ApplyFirstBlockCache.validate."""
        try:
            if speedup is not None:
                self.engine.core.check_speedup(speedup)
        except (ValueError, TypeError) as problem:
            return str(problem)
        return self.by_threshold.validate(start=start, end=end, max_consecutive_cache_hits=max_consecutive_cache_hits)

    def run(
        self,
        model: Any,
        speedup: float,
        strategy: str = STRATEGIES_WITH_SPEEDUP[0],
        start: float = 0.0,
        end: float = 1.0,
        max_consecutive_cache_hits: int = -1,
        cache_device: str = CACHE_DEVICES[0],
        unique_id: str | None = None,
    ) -> tuple[Any]:
        self.engine.core.check_speedup(speedup)
        return self.by_threshold.run(
            model,
            object_to_patch="diffusion_model",
            residual_diff_threshold=0.0,
            start=start,
            end=end,
            max_consecutive_cache_hits=max_consecutive_cache_hits,
            strategy=strategy,
            speedup=speedup,
            cache_device=cache_device,
            unique_id=unique_id,
        )
