"""What a prompt came to, the same for a server and for an executor without one, and what both can do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

Prompt = dict[str, dict[str, Any]]
"""ComfyUI's API format: node id -> {"class_type": ..., "inputs": {...}}."""


@dataclass(frozen=True)
class PromptError:
    """Why a prompt failed. For a rejected prompt, message holds every node's reasons and node is the first of them."""

    node: str
    node_type: str
    type: str
    message: str
    traceback: str = ""

    def __str__(self) -> str:
        where = f"node {self.node} ({self.node_type}): " if self.node else ""
        return f"{where}{self.type}: {self.message}"


@dataclass(frozen=True)
class Result:
    status: Literal["success", "error", "rejected", "interrupted"]
    seconds: float
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What output nodes reported: node id -> for example {"images": [...]}."""
    error: PromptError | None = None
    cached: tuple[str, ...] = ()
    """Nodes that did not run because nothing about them had changed."""
    texts: tuple[tuple[str, str], ...] = ()
    """(node id, text) of every text that was put on a node while the prompt ran."""

    def texts_of(self, node: str) -> list[str]:
        return [text for owner, text in self.texts if owner == node]

    @classmethod
    def from_history(
        cls, messages: list[list[Any]], outputs: dict[str, Any], seconds: float, texts: list[tuple[str, str]]
    ) -> Result:
        """From the messages of ComfyUI's executor: execution_start, execution_cached, execution_error, ..."""
        by_kind: dict[str, dict[str, Any]] = {kind: data for kind, data in messages}  # noqa: C416  (lists, not tuples)
        status: Literal["success", "error", "interrupted"] = "success"
        error = None
        if problem := by_kind.get("execution_error"):
            status = "error"
            error = PromptError(
                node=str(problem["node_id"]),
                node_type=problem["node_type"],
                type=problem["exception_type"],
                message=problem["exception_message"].strip(),
                traceback="".join(problem["traceback"]),
            )
        elif "execution_interrupted" in by_kind:
            status = "interrupted"
        cached = tuple(by_kind.get("execution_cached", {}).get("nodes", ()))
        return cls(status, seconds, outputs, error, cached, tuple(texts))

    @classmethod
    def rejected(cls, error: dict[str, Any] | str, node_errors: dict[str, Any]) -> Result:
        """From what ComfyUI's validation says about a prompt."""
        reasons = [
            f"{problem['message']}: {problem['details']}" if problem.get("details") else problem["message"]
            for node in node_errors.values()
            for problem in node["errors"]
        ]
        if isinstance(error, dict):
            kind, text = error.get("type", "rejected"), error.get("message", "")
            if error.get("details"):
                text += f" ({error['details']})"
        else:
            kind, text = "rejected", str(error)
        node, node_type = next(((key, value["class_type"]) for key, value in node_errors.items()), ("", ""))
        return cls("rejected", 0.0, error=PromptError(node, node_type, kind, "\n".join(reasons) or text))


class RejectedPromptError(RuntimeError):
    """ComfyUI does not accept the prompt; result says why."""

    def __init__(self, result: Result) -> None:
        super().__init__(str(result.error))
        self.result = result


class Runner(Protocol):
    """A running ComfyUI. Used in a with statement, which ends it."""

    base: Path

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def queue(self, prompt: Prompt, *, timeout: float = 600) -> Result:
        """Run a prompt to its end. TimeoutError (after interrupting it) when it takes longer."""
        ...

    def submit(self, prompt: Prompt) -> str:
        """Start a prompt and return its id for wait(). RejectedPromptError when ComfyUI does not accept it."""
        ...

    def wait(self, prompt_id: str, *, timeout: float = 600) -> Result: ...

    def interrupt(self) -> None:
        """Ask the running prompt to stop. wait() then returns a result with the status interrupted."""
        ...

    def object_info(self) -> dict[str, dict[str, Any]]:
        """Every node with its inputs and outputs, as the editor gets it."""
        ...

    def log(self) -> str:
        """Everything ComfyUI has printed so far."""
        ...

    def images(self, result: Result) -> list[Path]:
        """The files of the pictures that a prompt saved."""
        ...
