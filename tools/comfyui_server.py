"""Start a real ComfyUI server on this machine's loopback and use it as a client does.

with Server(find_comfyui(), [pack]) as server:
    result = server.queue(prompt)
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from typing import TYPE_CHECKING, Any

from comfyui_base import ARGUMENTS, START_SECONDS, RunningComfyUI
from comfyui_events import EventListener
from comfyui_result import RejectedPromptError, Result

if TYPE_CHECKING:
    from comfyui_result import Prompt


class Server(RunningComfyUI):
    """A ComfyUI server with chosen packs in a scratch base directory (a temporary one when base is None)."""

    log_name = "server.log"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """As RunningComfyUI."""
        super().__init__(*arguments, **options)
        self._client = uuid.uuid4().hex
        self._process: subprocess.Popen[bytes] | None = None
        self._events: EventListener | None = None
        self.url = ""

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
