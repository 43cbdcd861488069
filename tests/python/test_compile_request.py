"""Requests of Compile Model+ and the torch at hand: what is allowed exists there, what is dangerous never passes."""

from __future__ import annotations

import json
import re
import sys
import typing
from typing import TYPE_CHECKING, Any

import pytest
import torch._dynamo.config as dynamo
import torch._inductor
import torch._inductor.config as inductor

from wavespeed import _native

if TYPE_CHECKING:
    from collections.abc import Iterator

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


KEYS = sorted({*inductor._config, *dynamo._config})


@pytest.fixture
def events() -> Iterator[list[str]]:
    """Files opened for writing, processes, imports and connections meanwhile. An audit hook cannot be removed, so there
    is one, which records only for the list at hand."""
    global RECORDED
    if RECORDED is None:
        sys.addaudithook(_record)
    RECORDED = []
    yield RECORDED
    RECORDED = []


RECORDED: list[str] | None = None
FORBIDDEN = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.mkdir",
    "import",
    "socket.connect",
)


def _record(event: str, arguments: tuple[Any, ...]) -> None:
    written = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if RECORDED is not None and (written or event in FORBIDDEN):
        RECORDED.append(f"{event} {arguments[:1]}")


def test_no_option_of_torch_takes_a_hostile_value(events: list[str]) -> None:
    """Every key of inductor's and of dynamo's settings, with paths, commands and wrong types."""
    sentence = re.compile(r"options: .*\.$", re.DOTALL)
    for name in KEYS:
        for value in HOSTILE:
            with pytest.raises(ValueError, match=sentence):
                request(options=json.dumps({name: value}))
    assert events == []


def test_every_key_that_is_not_in_the_table_is_refused_by_name_whatever_its_value(events: list[str]) -> None:
    for name in sorted(set(KEYS) - set(CORE.compile_option_names())):
        for value in (True, False, 0, 1, 16, "", "default", "ATEN", *HOSTILE):
            with pytest.raises(ValueError, match=r"^options: ") as refusal:
                request(options=json.dumps({name: value}))
            assert str(refusal.value).startswith(f'options: "{name[:48]}" is refused, because ')
            near = re.search(r'The nearest option that is allowed is "([^"]+)"', str(refusal.value))
            assert near is not None
            assert near[1] in CORE.compile_option_names()
    assert events == []


def test_what_is_accepted_has_the_type_that_torch_wants() -> None:
    """The other half: nothing gets through an allowed name but a value of its kind, and no text that is not a word."""
    values = (True, False, 0, 1, 2, 64, 10**6, -1, 0.5, "", "ATEN", "ATEN,CPP", "ATEN;id", "default", *HOSTILE)
    usual = inductor.get_config_copy()
    for name in CORE.compile_option_names():
        accepted = []
        for value in values:
            try:
                accepted.append(request(options=json.dumps({name: value}))[1][name])
            except ValueError as refusal:
                assert name in str(refusal)  # noqa: PT017
        for value in accepted:
            assert type(value) in {type(usual[name])} | set(typing.get_args(inductor._config[name].value_type)) | {
                inductor._config[name].value_type
            }
            assert not isinstance(value, str) or re.fullmatch(r"[A-Za-z_,]+", value)


@pytest.mark.parametrize("options", ['{"dce": {"a": {"b": 1}}}', '{"a": [[1]]}', '{"dce": [[]]}'])
def test_options_are_two_levels_deep_at_most(options: str) -> None:
    with pytest.raises(ValueError, match="is nested deeper than 2 levels"):
        request(options=options)


@pytest.mark.parametrize(
    "name", ["cpp.cxx", "cpp.march", "trace.debug_dir", "save_args", "post_grad_custom_post_pass", "guard_filter_fn"]
)
def test_a_refusal_says_why_and_what_is_near(name: str) -> None:
    with pytest.raises(ValueError, match=rf'"{name}" is refused, because .*The nearest option that is allowed is "'):
        request(options=json.dumps({name: True}))
