"""Compiled code of earlier processes: under which name it is kept, and whether it is still what this process needs."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import time
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from . import ahead_of_time, native_kernels
from .assumptions import Assumption
from .code_store import UnusableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .ahead_of_time import AheadOfTimeCode, Call
    from .code_store import CodeStore

STARTED = time.time()
"""Source files that are newer than this may be other than the code in memory."""


def _digest(text: str | bytes, length: int = 32) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()[:length]


def environment(device: torch.device) -> list[str]:
    """What must be the same for code to be used again, each with its name."""
    from torch._inductor import config

    if device.type == "cpu":
        processor = f"{platform.machine()} with {torch.backends.cpu.get_cpu_capability()}"
    else:
        properties = torch.get_device_module(device).get_device_properties(device)
        processor = f"{device} {properties} {torch.version.cuda or torch.version.hip or ''}"
    own_files = sorted(Path(__file__).parent.glob("*.py"))
    return [
        f"torch {torch.__version__} ({(torch.version.git_version or '')[:12]})",
        f"{platform.python_implementation()} {platform.python_version()}",
        f"{platform.system()} on {processor}",
        f"inductor settings {_digest(repr(sorted(config.save_config_portable().items())), 16)}",
        f"WaveSpeed {_digest(b''.join(path.read_bytes() for path in own_files), 16)}",
    ]


def source_digests(names: list[str]) -> dict[str, str]:
    """By module, what its source file holds; UnusableError where that may not be the code in memory."""
    digests = {}
    for name in names:
        file = Path(getattr(sys.modules.get(name), "__file__", None) or "")
        if not file.is_file():
            raise UnusableError(f"the source file of {name} was not found")
        if file.stat().st_mtime > STARTED:
            raise UnusableError(f"{file.name} has changed since ComfyUI was started")
        digests[name] = _digest(file.read_bytes())
    return digests


class WarmStart:
    """store: None where nothing is to be kept. on_any_device: else on a CPU only, because nothing else was tried."""

    def __init__(self, store: CodeStore | None, *, on_any_device: bool = False) -> None:
        self.store = store
        self.on_any_device = on_any_device

    def is_for(self, device: torch.device) -> bool:
        return self.store is not None and (self.on_any_device or device.type == "cpu")

    @staticmethod
    def _name(identity: str, here: list[str]) -> tuple[str, str]:
        """Of what is compiled, and of where it runs."""
        return _digest(identity), _digest(json.dumps(here), 16)

    def load(
        self, identity: str, device: torch.device, function: Callable[..., Any], call: Call
    ) -> AheadOfTimeCode | None:
        """None where nothing was kept; UnusableError says why something that was is not used."""
        if self.store is None:
            return None
        here = environment(device)
        what, where = self._name(identity, here)
        content = self.store.read(f"{what}-{where}")
        if content is None:
            self._look_for_others(self.store, what, here)
            return None
        header, parts = _split(content)
        sources = header["sources"]
        now = source_digests(list(sources))
        if changed := [name for name in sources if now[name] != sources[name]]:
            raise UnusableError(f"the code of {' and '.join(changed)} has changed")
        found = [Assumption(*values) for values, _ in header["assumptions"]]
        kernels = dict(zip(header["kernels"], parts[1:], strict=True))
        with native_kernels.given(kernels, self.store):
            code = ahead_of_time.from_bytes(parts[0], function, found, list(sources), call)
        for (assumption, expected), text in zip(header["assumptions"], code.assumptions.texts(), strict=True):
            if text != expected:
                raise UnusableError(f"{assumption[0]} is another one than it was")
        return code

    def _look_for_others(self, store: CodeStore, what: str, here: list[str]) -> None:
        """UnusableError where the same was kept for another environment."""
        for name in store.names(f"{what}-"):
            content = store.read(name)
            there = _split(content)[0]["environment"] if content is not None else here
            other = [(old, new) for old, new in zip(there, here, strict=True) if old != new]
            if other:
                raise UnusableError(
                    f"it was made for {' and '.join(old for old, _ in other)}, "
                    f"and this is {' and '.join(new for _, new in other)}"
                )

    def keep(self, identity: str, device: torch.device, code: AheadOfTimeCode) -> None:
        """UnusableError says why it cannot be kept."""
        if self.store is None:
            return
        texts = code.assumptions.texts()
        for assumption, text in zip(code.assumptions.found, texts, strict=True):
            if text is None:
                raise UnusableError(f"{assumption.place} means something in this process only")
        here = environment(device)
        content = ahead_of_time.to_bytes(code)
        kernels = native_kernels.of_code(content)
        header = {
            "environment": here,
            "sources": source_digests(code.sources),
            "assumptions": [[astuple(a), text] for a, text in zip(code.assumptions.found, texts, strict=True)],
            "kernels": list(kernels),
        }
        self.store.write("-".join(self._name(identity, here)), _join(header, [content, *kernels.values()]))


def _join(header: dict[str, Any], parts: list[bytes]) -> bytes:
    text = json.dumps({**header, "sizes": [len(part) for part in parts]}).encode()
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def _split(content: bytes) -> tuple[dict[str, Any], list[bytes]]:
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    parts = []
    for size in header["sizes"]:
        parts.append(content[end : end + size])
        end += size
    return header, parts
