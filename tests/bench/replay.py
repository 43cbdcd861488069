"""What policies would have done in recorded runs, without the model.

    build/venv/bin/python tests/bench/replay.py output/wavespeed_traces/*.wstrace

ComfyUI writes these files when it is started with WAVESPEED_TRACE=1 (docs/policies.md, "Traces"). Per policy, over all
traces: the share computed, the change that the policy expected of the residual where it left an evaluation out, and the
error that it made there, both relative and as means over those evaluations. The path is that of the full run: errors do
not add up here as they do in pictures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))

from wavespeed import _native

POLICIES: tuple[tuple[str, dict[str, float]], ...] = (
    *(("classic", {"threshold": threshold}) for threshold in (0.035, 0.07, 0.1)),
    *(("classic", {"speedup": speedup}) for speedup in (1.5, 2.0, 3.0)),
    *(("forecast", {"threshold": threshold}) for threshold in (0.06, 0.09, 0.13)),
    *(("forecast", {"speedup": speedup}) for speedup in (1.5, 2.0, 3.0)),
)


def replayed(traces: list[bytes], strategy: str, knob: dict[str, float]) -> dict[str, object]:
    runs = [_native.core.replay_trace(trace, strategy, **knob) for trace in traces]
    left_out = [(predicted, actual) for run in runs for _, computed, predicted, actual in run if not computed]
    computed = [sum(computed for _, computed, _, _ in run) / len(run) for run in runs]
    means = [statistics.fmean(column) for column in zip(*left_out, strict=True)] or [0.0, 0.0]
    return {
        "strategy": strategy,
        **knob,
        "computed": statistics.fmean(computed),
        "predicted": means[0],
        "actual": means[1],
        "left_out": len(left_out),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", nargs="+", type=Path)
    chosen = parser.parse_args()
    if _native.core is None:
        parser.error(_native.reason)
    traces = [path.read_bytes() for path in chosen.traces]
    lines = [replayed(traces, strategy, knob) for strategy, knob in POLICIES]
    for line in lines:
        print(json.dumps(line))
    print(f"{len(traces)} traces")
    print(f"{'policy':28}{'computed':>10}{'expected':>12}{'error':>12}")
    for (strategy, knob), line in zip(POLICIES, lines, strict=True):
        name = f"{strategy}, {' '.join(f'{key} {value:g}' for key, value in knob.items())}"
        print(f"{name:28}{line['computed']:>10.1%}{line['predicted']:>12.4f}{line['actual']:>12.4f}")


if __name__ == "__main__":
    main()
