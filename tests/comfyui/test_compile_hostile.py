"""Requests of Compile Model+ that would run something reach neither torch nor the disk."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from compiling import NODE, WIDGETS, compiled

if TYPE_CHECKING:
    from in_process import ComfyUI


@pytest.mark.parametrize(
    "inputs",
    [
        {"compiler": "input.evil.f"},
        {"compiler": "functools.partial"},
        {"compiler": "this.s"},
        {"backend": "dynamo_minifier_backend"},
        {"backend": "dynamo_accuracy_minifier_backend"},
        {"backend": "tvm"},
        {"mode": "max-autotune", "backend": "cudagraphs"},
        {"options": '{"cpp.cxx": ["sh -c \'touch x\'"]}', "backend": "inductor"},
        {"options": '{"cpp.march": "x86-64 -wrapper sh,-c,id"}', "backend": "inductor"},
        {"options": '{"cpp.march": "x86-64 -save-temps=cwd -dumpdir x"}', "backend": "inductor"},
        {"options": '{"cpp.enable_floating_point_contract_flag": "off -wrapper sh,-c,id"}', "backend": "inductor"},
        {"options": '{"cuda.cuda_cxx": "x"}', "backend": "inductor"},
        {"options": '{"aot_inductor.custom_op_libs": ["x"]}', "backend": "inductor"},
        {"options": '{"save_args": true}', "backend": "inductor"},
        {"options": '{"post_grad_custom_post_pass": "os.system"}', "backend": "inductor"},
        {"options": '{"inductor_choices_class": "os.system"}', "backend": "inductor"},
        {"options": "[1]", "backend": "inductor"},
        {"options": '{"max_autotune": "true"}', "backend": "inductor"},
        {"options": '{"trace.enabled": true, "trace.debug_dir": "x"}', "backend": "inductor"},
        {"options": '{"guard_filter_fn": "os.system"}', "backend": "inductor"},
        {"options": '{"max_autotune": true,}', "backend": "inductor"},
        {"object_to_patch": "diffusion_model.__class__"},
        {"object_to_patch": "a.b.c.d.e.f.g.h.i"},
    ],
)
def test_hostile_requests_reach_nothing(comfy: ComfyUI, inputs: dict[str, Any]) -> None:
    model = comfy.model("flux_dev")
    widgets = {**WIDGETS, **inputs}
    validated = {name: widgets[name] for name in ("object_to_patch", "compiler", "mode", "options", "backend")}
    with recorded_events() as events:
        sentence = comfy.nodes[NODE].VALIDATE_INPUTS(**validated)
        with pytest.raises(ValueError, match=r"\.$") as problem:
            compiled(comfy, model, **inputs)
    assert sentence == str(problem.value)
    assert sentence.endswith(".")
    assert events == []


EVENTS: list[str] | None = None


def _record(event: str, arguments: tuple[Any, ...]) -> None:
    written = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if EVENTS is not None and (
        written
        or event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.mkdir", "import")
    ):
        EVENTS.append(f"{event} {arguments[0]}")


class recorded_events:
    """Files opened for writing, processes and imports meanwhile. An audit hook cannot be removed, so there is one."""

    added = False

    def __enter__(self) -> list[str]:
        global EVENTS
        if not recorded_events.added:
            sys.addaudithook(_record)
            recorded_events.added = True
        EVENTS = []
        return EVENTS

    def __exit__(self, *_exception: object) -> None:
        global EVENTS
        EVENTS = None
