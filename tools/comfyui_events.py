"""Listen to what a ComfyUI server tells the editor over its websocket: when a prompt ends, and texts on nodes."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
import time
from collections import defaultdict

import aiohttp

BINARY_TEXT = 3
"""ComfyUI's BinaryEventTypes.TEXT: the length of the node id, the node id, the text."""
CONNECT_SECONDS = 30


class EventListener:
    """Connected when the constructor returns. Texts are filed under the prompt that was running when they came."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._changed = threading.Condition()
        self._connected = False
        self._problem: BaseException | None = None
        self._running = ""
        self._ended: set[str] = set()
        self._texts: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._listen, name="comfyui-events", daemon=True)
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._connected or self._problem, CONNECT_SECONDS)
        if not self._connected:
            raise ConnectionError(f"The server's websocket does not answer: {self._problem}")

    def wait_for_end(self, prompt_id: str, timeout: float) -> bool:
        """False when the prompt is still running after timeout seconds. ConnectionError when the server has gone."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while prompt_id not in self._ended:
                if self._problem is not None:
                    raise ConnectionError(f"The server ended while a prompt was running: {self._problem}")
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def texts(self, prompt_id: str) -> list[tuple[str, str]]:
        with self._changed:
            return list(self._texts[prompt_id])

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10)

    def _listen(self) -> None:
        self._task = self._loop.create_task(self._receive())
        try:
            self._loop.run_until_complete(self._task)
            problem: BaseException = ConnectionError("the connection was closed")
        except BaseException as error:
            problem = error
        finally:
            self._loop.close()
        with self._changed:
            self._problem = problem
            self._changed.notify_all()

    async def _receive(self) -> None:
        # Pictures of the progress come as well, and may be large.
        async with aiohttp.ClientSession() as session, session.ws_connect(self._url, max_msg_size=0) as socket:
            async for message in socket:
                with self._changed:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        self._on_event(json.loads(message.data))
                    elif message.type is aiohttp.WSMsgType.BINARY:
                        self._on_binary(message.data)
                    self._changed.notify_all()

    def _on_event(self, event: dict[str, dict]) -> None:
        # The server greets with its status; from then on it knows us.
        self._connected = True
        data = event.get("data") or {}
        if event["type"] == "execution_start":
            self._running = data["prompt_id"]
        elif event["type"] in ("execution_success", "execution_error", "execution_interrupted"):
            self._ended.add(data["prompt_id"])

    def _on_binary(self, frame: bytes) -> None:
        (kind,) = struct.unpack_from(">I", frame)
        if kind != BINARY_TEXT:
            return
        (length,) = struct.unpack_from(">I", frame, 4)
        node, text = frame[8 : 8 + length].decode(), frame[8 + length :].decode()
        self._texts[self._running].append((node, text))
