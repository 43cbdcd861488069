"""Start a real ComfyUI server on this machine's loopback and use it as a client does.

with Server(find_comfyui(), [pack]) as server:
    result = server.queue(prompt)
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from typing import TYPE_CHECKING, Any

from comfyui_base import BaseDirectory
from comfyui_events import EventListener
from comfyui_result import RejectedPromptError, Result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from comfyui_result import Prompt
    from comfyui_tree import ComfyUITree

START_SECONDS = 300
# Core's choice on a CPU is the sub-quadratic attention, which no GPU user has and which breaks compiled graphs.
ARGUMENTS = ("--cpu", "--disable-api-nodes", "--database-url", "sqlite:///:memory:", "--use-pytorch-cross-attention")
# Nothing asks a model hub for files, and Python's prints arrive in the log when they happen. One thread: the models of
# the demo and the tests are so small that a second one makes them slower, and on a busy machine it waits in a loop.
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}


class Server:
    """A ComfyUI server with chosen packs in a scratch base directory (a temporary one when base is None)."""

    def __init__(
        self,
        tree: ComfyUITree,
        packs: Sequence[Path] = (),
        base: Path | None = None,
        *,
        copy: bool = False,
        extra_args: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """copy: packs are copied into custom_nodes instead of linked. extra_args: for main.py."""
        self._tree = tree
        self._packs = packs
        self._copy = copy
        self._extra_args = extra_args
        self._environment = {**os.environ, **ENVIRONMENT, **(environment or {})}
        self._directory = BaseDirectory(base)
        self._client = uuid.uuid4().hex
        self._process: subprocess.Popen[bytes] | None = None
        self._events: EventListener | None = None
        self._started: dict[str, float] = {}
        self.base = self._directory.path
        self.log_file = self.base / "server.log"
        self.url = ""

    def __enter__(self) -> Server:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def queue(self, prompt: Prompt, *, timeout: float = 600) -> Result:
        try:
            prompt_id = self.submit(prompt)
        except RejectedPromptError as rejection:
            return rejection.result
        return self.wait(prompt_id, timeout=timeout)

    def submit(self, prompt: Prompt) -> str:
        try:
            answer = self._request("/prompt", {"prompt": prompt, "client_id": self._client})
        except urllib.error.HTTPError as refusal:
            reasons = json.loads(refusal.read())
            raise RejectedPromptError(Result.rejected(reasons["error"], reasons.get("node_errors") or {})) from None
        self._started[answer["prompt_id"]] = time.monotonic()
        return answer["prompt_id"]

    def wait(self, prompt_id: str, *, timeout: float = 600) -> Result:
        events = self._need_events()
        if not events.wait_for_end(prompt_id, timeout):
            self.interrupt()
            raise TimeoutError(f"The prompt was still running after {timeout:.0f} s and was interrupted.")
        seconds = time.monotonic() - self._started.pop(prompt_id)
        # The last event comes a moment before the record.
        for _ in range(200):
            if record := self._request(f"/history/{prompt_id}").get(prompt_id):
                return Result.from_history(
                    record["status"]["messages"], record["outputs"], seconds, events.texts(prompt_id)
                )
            time.sleep(0.05)
        raise TimeoutError(f"The server has no record of the prompt {prompt_id}, which it said had ended.")

    def interrupt(self) -> None:
        self._request("/interrupt", {})

    def object_info(self) -> dict[str, dict[str, Any]]:
        return self._request("/object_info")

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def images(self, result: Result) -> list[Path]:
        return self._directory.images(result)

    def stop(self) -> None:
        """End the server and, when the base directory was temporary, delete it. Safe to call twice."""
        if self._events is not None:
            self._events.stop()
            self._events = None
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._directory.remove()

    def _start(self) -> None:
        self._directory.prepare(self._packs, copy=self._copy)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        where = ["--listen", "127.0.0.1", "--port", str(port), "--base-directory", str(self.base)]
        command = [sys.executable, str(self._tree.path / "main.py"), *where, *ARGUMENTS, *self._extra_args]
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._tree.path,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C meant for the tests is not also one for the server
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None:
                raise RuntimeError(f"ComfyUI ended with status {self._process.returncode}:\n{self.log()[-3000:]}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"ComfyUI did not answer within {START_SECONDS} s:\n{self.log()[-3000:]}")
            time.sleep(0.3)
        self._events = EventListener(f"{self.url}/ws?clientId={self._client}")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            self._request("/system_stats")
            return True
        return False

    def _request(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """GET, or POST with a body. The answer is JSON or nothing."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        # A proxy of the environment is not for the loopback.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as response:
            answer = response.read()
        return json.loads(answer) if answer else {}

    def _need_events(self) -> EventListener:
        if self._events is None:
            raise RuntimeError("The server is not running: use it inside its with statement.")
        return self._events


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
