"""Run prompts through ComfyUI's own executor, for a ComfyUI without its server. comfyui_inprocess.py starts it.

    python comfyui_worker.py <ComfyUI's folder> <ComfyUI's arguments>...

Commands come as JSON lines on standard input, answers go as JSON lines to what was standard output; what ComfyUI prints
goes to the log. Packs are loaded from the base directory's custom_nodes, as main.py does it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import queue
import sys
import threading
import types
from pathlib import Path
from typing import Any

# The source distribution on the package registry leaves this module out. Its classes are auto-encoders that neither the
# demo's nor the tests' models use, so names without content are enough to import comfy.sd.
LEFT_OUT = "comfy.ldm.models.autoencoder"
LEFT_OUT_NAMES = ("AutoencoderKL", "AutoencodingEngine", "DiagonalGaussianRegularizer", "EmptyRegularizer")


class Answers:
    """Writes JSON lines to the original standard output, and sends everything else that is printed to the log."""

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def send(self, kind: str, **data: Any) -> None:
        with self._lock:
            self._stream.write(json.dumps({"kind": kind, **data}, default=str) + "\n")
            self._stream.flush()


class PromptServer:
    """The part of ComfyUI's server that its executor, its nodes and packs call."""

    instance: PromptServer

    def __init__(self, answers: Answers) -> None:
        from aiohttp import web

        self._answers = answers
        self.client_id: str | None = None
        self.last_node_id: str | None = None
        self.prompt_id = ""
        self.sockets_metadata: dict[str, Any] = {}
        self.routes = web.RouteTableDef()
        PromptServer.instance = self

    def send_sync(self, event: Any, data: Any, sid: str | None = None) -> None:
        """Progress for the editor, which is not here."""

    def send_progress_text(self, text: str | bytes, node_id: str, sid: str | None = None) -> None:
        text = text if isinstance(text, str) else bytes(text).decode()
        self._answers.send("text", prompt_id=self.prompt_id, node=str(node_id), text=text)


def prepare_modules(folder: str, answers: Answers) -> PromptServer:
    """Make ComfyUI importable, and supply what a source distribution lacks."""
    sys.path.insert(0, folder)
    import comfy.options

    comfy.options.enable_args_parsing()
    if not Path(folder, "comfy", "ldm", "models").is_dir():
        package = types.ModuleType(LEFT_OUT.rpartition(".")[0])
        package.__path__ = []
        module = types.ModuleType(LEFT_OUT)
        for name in LEFT_OUT_NAMES:
            setattr(module, name, type(name, (), {}))
        sys.modules.update({package.__name__: package, module.__name__: module})
    server = types.ModuleType("server")
    server.PromptServer = PromptServer  # type: ignore[attr-defined]
    sys.modules["server"] = server
    return PromptServer(answers)


class Worker:
    def __init__(self, server: PromptServer, answers: Answers) -> None:
        # Imported here: ComfyUI reads the command line and chooses its device when it is imported.
        import execution
        import nodes

        self._server = server
        self._answers = answers
        self._execution = execution
        self._nodes = nodes
        asyncio.run(nodes.init_extra_nodes(init_custom_nodes=True, init_api_nodes=False))
        arguments = {"lru": 0, "ram": 0.0}  # of caches that are not chosen; the executor looks at them all the same
        self._executor = execution.PromptExecutor(server, cache_type=execution.CacheType.CLASSIC, cache_args=arguments)

    def interrupt(self) -> None:
        self._nodes.interrupt_processing()

    def run_prompt(self, prompt_id: str, prompt: dict[str, Any]) -> None:
        valid, error, wanted, node_errors = asyncio.run(self._execution.validate_prompt(prompt_id, prompt, None))
        if not valid:
            self._answers.send("rejected", prompt_id=prompt_id, error=error, node_errors=node_errors)
            return
        self._answers.send("accepted", prompt_id=prompt_id)
        self._server.prompt_id = prompt_id
        self._executor.execute(prompt, prompt_id, {"client_id": "worker"}, wanted)
        outputs = self._executor.history_result["outputs"]
        self._answers.send("ended", prompt_id=prompt_id, messages=self._executor.status_messages, outputs=outputs)

    def object_info(self) -> dict[str, Any]:
        info = {}
        for name, node in self._nodes.NODE_CLASS_MAPPINGS.items():
            try:
                info[name] = self._node_info(name, node)
            except Exception:
                logging.exception("object_info leaves out the node %s", name)
        return info

    def _node_info(self, name: str, node: Any) -> dict[str, Any]:
        if hasattr(node, "GET_NODE_INFO_V1"):
            return node.GET_NODE_INFO_V1()
        inputs = node.INPUT_TYPES()
        return {
            "name": name,
            "display_name": self._nodes.NODE_DISPLAY_NAME_MAPPINGS.get(name, name),
            "description": getattr(node, "DESCRIPTION", ""),
            "category": getattr(node, "CATEGORY", "sd"),
            "python_module": getattr(node, "RELATIVE_PYTHON_MODULE", "nodes"),
            "input": inputs,
            "input_order": {kind: list(values) for kind, values in inputs.items()},
            "output": node.RETURN_TYPES,
            "output_is_list": getattr(node, "OUTPUT_IS_LIST", [False] * len(node.RETURN_TYPES)),
            "output_name": getattr(node, "RETURN_NAMES", node.RETURN_TYPES),
            "output_node": getattr(node, "OUTPUT_NODE", False),
        }


def main() -> None:
    answers = Answers()
    folder = sys.argv.pop(1)
    server = prepare_modules(folder, answers)
    worker = Worker(server, answers)
    commands: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def receive() -> None:
        # An interruption must arrive while the main thread samples.
        for line in sys.stdin:
            command = json.loads(line)
            if command["kind"] == "interrupt":
                worker.interrupt()
            else:
                commands.put(command)
        commands.put({"kind": "end"})

    threading.Thread(target=receive, daemon=True).start()
    answers.send("ready")
    while (command := commands.get())["kind"] != "end":
        if command["kind"] == "prompt":
            worker.run_prompt(command["prompt_id"], command["prompt"])
        elif command["kind"] == "object_info":
            answers.send("object_info", nodes=worker.object_info())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
