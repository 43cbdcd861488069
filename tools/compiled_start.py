"""One start of ComfyUI with Compile Model+ on the demo model: what its first compiled step costs, as one JSON line.

    OMP_NUM_THREADS=1 build/venv/bin/python tools/compiled_start.py [--device cuda]

Where code of earlier starts is kept says WAVESPEED_CACHE_DIR; torch's own folder is TORCHINDUCTOR_CACHE_DIR.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from comfyui_here import ComfyUIHere

PROCESS_EVENTS = ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.system", "os.exec")


class Counts:
    """What is done from now on. traced: graphs, by Dynamo. written: graphs for which inductor has written code.

    processes: started, such as the C++ compiler.
    """

    def __init__(self) -> None:
        import torch._dynamo
        from torch._inductor.graph import GraphLowering

        self.written = self.processes = 0
        self._counters = torch._dynamo.utils.counters["stats"]
        self._before = self._counters["unique_graphs"]
        original = GraphLowering.codegen

        def codegen(lowering: Any) -> Any:
            self.written += 1
            return original(lowering)

        GraphLowering.codegen = codegen
        sys.addaudithook(self._hear)

    def _hear(self, event: str, _arguments: Any) -> None:
        self.processes += event in PROCESS_EVENTS

    @property
    def traced(self) -> int:
        return int(self._counters["unique_graphs"] - self._before)


def run_script(environment: dict[str, str], *script: str) -> dict[str, Any]:
    """The JSON line that a script prints in a new process."""
    tools = str(Path(__file__).resolve().parent)
    ran = subprocess.run(
        [sys.executable, *script],
        env={**os.environ, "PYTHONPATH": tools, **environment},
        stdout=subprocess.PIPE,
        text=True,
        timeout=600,
        check=True,
    )
    measured: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return measured


def start(device: str, environment: dict[str, str]) -> dict[str, Any]:
    """What main() prints in a new process."""
    return run_script(environment, __file__, "--device", device)


def digest(latent: Any) -> str:
    return hashlib.sha256(latent.cpu().numpy().tobytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    comfyui = ComfyUIHere(device=parser.parse_args().device)
    compiled = comfyui.with_compile()

    def step(model: Any) -> tuple[float, Any]:
        begin = time.perf_counter()
        latent = comfyui.sample(model, steps=1, cfg=1.0, size=128, subject="apple", seed=0)
        return time.perf_counter() - begin, latent

    step(comfyui.model)
    eager, plain = step(comfyui.model)
    begin = time.perf_counter()
    for compiler in ("torch._dynamo", "torch._inductor.compile_fx"):  # every process that compiles imports them
        importlib.import_module(compiler)
    imports = time.perf_counter() - begin
    counts = Counts()
    first, latent = step(compiled)
    node = comfyui.texts.last_text
    measured = {
        "imports": imports,
        "first step": first,
        "second step": step(compiled)[0],
        "eager step": eager,
        "traced": counts.traced,
        "written": counts.written,
        "processes": counts.processes,
        "latent": digest(latent),
        "eager latent": digest(plain),
        "node": node,
    }
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
