"""One line that says how far a training run is."""

from __future__ import annotations

import sys
import time


class Progress:
    """Shows step, running loss and time left on one line, and keeps every 100th line."""

    def __init__(self, steps: int, first_step: int) -> None:
        self.steps = steps
        self.first_step = first_step
        self.started = time.monotonic()

    def show(self, step: int, loss: float, learning_rate: float) -> None:
        """step counts the finished steps; loss is the running mean."""
        done = step - self.first_step
        elapsed = time.monotonic() - self.started
        left = elapsed / done * (self.steps - step)
        line = (
            f"step {step} of {self.steps}  loss {loss:.4f}  learning rate {learning_rate:.1e}  "
            f"{done / elapsed:.2f} steps/s  {left / 60:.1f} min left"
        )
        keep = step % 100 == 0 or step == self.steps
        if keep or sys.stdout.isatty():
            print(f"\r{line}", end="\n" if keep else "", flush=True)
