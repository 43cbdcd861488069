"""Run prompts through ComfyUI's own executor where its server is missing, with the same calls as comfyui_server.Server.

The executor lives in a process of its own (comfyui_worker.py): ComfyUI keeps its settings, packs and models in global
variables, so only a new process starts clean.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfyui_base import ARGUMENTS, START_SECONDS, RunningComfyUI
from comfyui_result import RejectedPromptError, Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comfyui_result import Prompt

WORKER = Path(__file__).with_name("comfyui_worker.py")
ANSWER_SECONDS = 120


class Executor(RunningComfyUI):
    """ComfyUI's executor with chosen packs in a scratch base directory (a temporary one when base is None)."""

    log_name = "executor.log"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """As RunningComfyUI."""
        super().__init__(*arguments, **options)
        self._process: subprocess.Popen[str] | None = None
        self._changed = threading.Condition()
        self._answers: list[dict[str, Any]] = []
        self._gone = False

    def submit(self, prompt: Prompt) -> str:
        prompt_id = str(uuid.uuid4())
        self._send(kind="prompt", prompt_id=prompt_id, prompt=prompt)
        answer = self._take(("accepted", "rejected"), prompt_id, ANSWER_SECONDS)
        if answer["kind"] == "rejected":
            raise RejectedPromptError(Result.rejected(answer["error"], answer["node_errors"]))
        self._started[prompt_id] = time.monotonic()
        return prompt_id

    def wait(self, prompt_id: str, *, timeout: float = 600) -> Result:
        try:
            ended = self._take(("ended",), prompt_id, timeout)
        except TimeoutError:
            self.interrupt()
            raise TimeoutError(f"The prompt was still running after {timeout:.0f} s and was interrupted.") from None
        seconds = time.monotonic() - self._started.pop(prompt_id)
        with self._changed:
            said = [item for item in self._answers if item["kind"] == "text" and item["prompt_id"] == prompt_id]
            self._answers = [item for item in self._answers if item not in said]
        texts = [(item["node"], item["text"]) for item in said]
        return Result.from_history(ended["messages"], ended["outputs"], seconds, texts)

    def interrupt(self) -> None:
        self._send(kind="interrupt")

    def object_info(self) -> dict[str, dict[str, Any]]:
        self._send(kind="object_info")
        return self._take(("object_info",), None, ANSWER_SECONDS)["nodes"]

    def stop(self) -> None:
        """End the process and, when the base directory was temporary, delete it. Safe to call twice."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()  # nothing in it needs saving
            self._process.wait()
        self._directory.remove()

    def _start(self) -> None:
        self._directory.prepare(self._packs, copy=self._copy)
        where = ["--base-directory", str(self.base)]
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(WORKER), str(self._tree.path), *where, *ARGUMENTS, *self._extra_args],
                cwd=self._tree.path,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                start_new_session=True,  # a Ctrl-C meant for the tests is not also one for the executor
            )
        threading.Thread(target=self._receive, args=(self._process,), name="comfyui-answers", daemon=True).start()
        self._take(("ready",), None, START_SECONDS)

    def _receive(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            with self._changed:
                self._answers.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._gone = True
            self._changed.notify_all()

    def _send(self, **command: Any) -> None:
        if self._process is None or self._process.stdin is None or self._process.poll() is not None:
            raise RuntimeError("ComfyUI's executor is not running: use it inside its with statement.")
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def _take(self, kinds: Sequence[str], prompt_id: str | None, timeout: float) -> dict[str, Any]:
        """Wait for an answer of one of these kinds, about this prompt, and take it out of the list."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for answer in self._answers:
                    if answer["kind"] in kinds and answer.get("prompt_id") == prompt_id:
                        self._answers.remove(answer)
                        return answer
                if self._gone:
                    raise RuntimeError(f"ComfyUI's executor ended:\n{self.log()[-3000:]}")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"ComfyUI's executor gave no answer in {timeout:.0f} s:\n{self.log()[-3000:]}")
                self._changed.wait(left)
