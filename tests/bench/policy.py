"""What a decision costs: policies replayed on traces whose sketches are single numbers, so that little else is left.

    build/venv/bin/python tests/bench/policy.py

The figure holds all that C does for one evaluation of a call with two prompts: the call is read from the trace, its
entries are found, the sums of two numbers are formed, the policy decides. Making and freeing the session is in it too,
shared among the evaluations of a run. One JSON line per policy, a table at the end; target: below 20 microseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))

from wavespeed import _native

CONDS = 2


def trace_of(steps: int) -> bytes:
    """As include/wavespeed/trace.h says: a probe and a residual that move on a parabola."""
    schedule = [1 - step / steps for step in range(steps + 1)]
    parts = [b"WSTRACE1", struct.pack(f"<II{steps + 1}d", 0x01020304, steps + 1, *schedule)]
    for step in range(steps):
        parts.append(struct.pack("<4sIq10d", b"CALL", CONDS, step + 1, 0.0, 0.0, 0.0, schedule[step], *[0.0] * 6))
        value = 1 + 0.02 * step + 0.001 * step * step
        parts += [struct.pack("<q4Q2Q2I2f", cond, 1, cond, 2, 3, 1, 1, 1, 1, value, 2 * value) for cond in range(CONDS)]
    return b"".join([*parts, struct.pack("<4sIq", b"END ", 0, steps)])


def microseconds(trace: bytes, strategy: str, knob: dict[str, float], repetitions: int) -> list[float]:
    """Per evaluation, of each repetition."""
    found = []
    for _ in range(repetitions):
        begun = time.perf_counter()
        evaluations = len(_native.core.replay_trace(trace, strategy, **knob))
        found.append(1e6 * (time.perf_counter() - begun) / evaluations)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repetitions", type=int, default=2000)
    chosen = parser.parse_args()
    if _native.core is None:
        parser.error(_native.reason)
    trace = trace_of(chosen.steps)
    rows = []
    for strategy in ("classic", "forecast"):
        for knob in ({"threshold": 0.08}, {"speedup": 2.0}):
            times = microseconds(trace, strategy, knob, chosen.repetitions)
            median, tenths = statistics.median(times), statistics.quantiles(times, n=10)
            line = {"strategy": strategy, **knob, "steps": chosen.steps, "microseconds": round(median, 3)}
            print(json.dumps(line))
            name = f"{strategy}, {next(iter(knob))}"
            rows.append(f"{name:24}{median:10.2f}{tenths[0]:10.2f}{tenths[-1]:10.2f}")
    print(f"{'microseconds/evaluation':24}{'median':>10}{'10 %':>10}{'90 %':>10}")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
