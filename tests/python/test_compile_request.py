"""Requests of Compile Model+ and the torch at hand: what is allowed exists there, what is dangerous never passes."""

from __future__ import annotations

import json
import typing
from typing import Any

import pytest
import torch._inductor
import torch._inductor.config as inductor

from wavespeed import _native

pytestmark = pytest.mark.skipif(_native.core is None, reason=_native.reason)

CORE = _native.core
MODES = ("", "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
HOSTILE = (
    "/anywhere/x",
    "sh -c 'id'",
    "x86-64 -wrapper sh,-c,'id'",
    "off -wrapper sh",
    ["sh"],
    {"a": 1},
    3.5,
    -(10**9),
    None,
)


def request(**widgets: Any) -> tuple[str, dict[str, Any], str]:
    usual = {"compiler": "", "backend": "", "mode": "", "options": "", "fullgraph": False, "dynamic": False}
    return CORE.compile_request(**{**usual, **widgets})


def test_every_allowed_option_exists_in_torch() -> None:
    assert set(CORE.compile_option_names()) <= set(inductor._config)


def test_texts_are_allowed_only_for_options_that_take_a_list_of_names() -> None:
    """A new text option may end up on a command line; it needs a look before it enters the table."""
    texts = {name for name in CORE.compile_option_names() if isinstance(inductor.get_config_copy()[name], str)}
    assert texts == {
        "max_autotune_conv_backends",
        "max_autotune_gemm_backends",
        "max_autotune_gemm_search_space",
        "mixed_mm_choice",
    }


def test_torch_takes_the_type_of_every_allowed_option() -> None:
    for name in CORE.compile_option_names():
        given = {}
        for value in (True, 1, "ATEN", "aten", "DEFAULT"):
            try:
                given = request(options=json.dumps({name: value}))[1]
                break
            except ValueError:
                continue
        assert list(given) == [name]
        kind = inductor._config[name].value_type
        allowed = typing.get_args(kind) or (kind,)
        assert any(given[name] == one or (isinstance(one, type) and isinstance(given[name], one)) for one in allowed)


@pytest.mark.parametrize("mode", MODES)
def test_modes_are_expanded_as_torch_does(mode: str) -> None:
    assert request(mode=mode)[1] == torch._inductor.list_mode_options(mode or "default")


def test_no_option_of_torch_takes_a_hostile_value() -> None:
    for name in sorted(inductor._config):
        for value in HOSTILE:
            with pytest.raises(ValueError, match="options"):
                request(options=json.dumps({name: value}))


@pytest.mark.parametrize(
    "name", ["cpp.cxx", "cpp.march", "trace.debug_dir", "save_args", "post_grad_custom_post_pass", "guard_filter_fn"]
)
def test_a_refusal_says_why_and_what_is_near(name: str) -> None:
    with pytest.raises(ValueError, match=rf'"{name}" is refused, because .*The nearest option that is allowed is "'):
        request(options=json.dumps({name: True}))
