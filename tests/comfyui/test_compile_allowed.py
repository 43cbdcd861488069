"""The file that allows workflows further options: where it lies, who may have written it, what it may say."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from compiling import NODE, WIDGETS, compiled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from in_process import ComfyUI

FREEZING = {"options": [{"name": "freezing", "type": "boolean"}]}
ASKED = '{"freezing": false}'


@pytest.fixture
def file(comfy: ComfyUI) -> Iterator[Path]:
    import folder_paths

    path = Path(folder_paths.get_user_directory()) / "wavespeed_compile.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    yield path
    path.unlink(missing_ok=True)


def write(file: Path, content: Any, mode: int = 0o644) -> None:
    if isinstance(content, dict):
        content = json.dumps(content)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    file.chmod(mode)


def answer(comfy: ComfyUI, options: str = ASKED) -> bool | str:
    """What the node says to these options before queueing; building the node must agree."""
    names = ("object_to_patch", "compiler", "mode", "backend")
    said = comfy.nodes[NODE].VALIDATE_INPUTS(
        **{name: WIDGETS[name] for name in names if name != "backend"}, options=options
    )
    how = {"options": options, "backend": "inductor"}
    if said is True:
        compiled(comfy, comfy.model("flux_dev"), **how)
    else:
        with pytest.raises(ValueError, match=r"\.$") as problem:
            compiled(comfy, comfy.model("flux_dev"), **how)
        assert str(problem.value) == said
    return said


def test_without_the_file_the_refusal_names_it(comfy: ComfyUI, file: Path) -> None:
    assert "Only the file wavespeed_compile.json can allow more." in str(answer(comfy))


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o444])
def test_an_option_that_the_file_names_is_allowed(comfy: ComfyUI, file: Path, mode: int) -> None:
    write(file, FREEZING, mode)
    assert answer(comfy) is True
    assert '"freezing" must be true or false' in str(answer(comfy, '{"freezing": "sh"}'))
    assert "is refused, because" in str(answer(comfy, '{"cpp.cxx": ["sh"]}'))
    file.unlink()
    assert "is refused, because" in str(answer(comfy))


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_may_write_is_refused(comfy: ComfyUI, file: Path, mode: int) -> None:
    write(file, FREEZING, mode)
    assert answer(comfy) == (
        f"The file wavespeed_compile.json is not read, because others may write to it (its mode is {mode:o}). "
        "Take that away: chmod go-w wavespeed_compile.json."
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only the administrator can give a file away")
def test_a_file_of_another_user_is_refused(comfy: ComfyUI, file: Path) -> None:
    write(file, FREEZING)
    os.chown(file, 12345, -1)
    assert "because it belongs to user 12345" in str(answer(comfy))


def test_a_link_a_folder_and_a_pipe_are_refused(comfy: ComfyUI, file: Path, tmp_path: Path) -> None:
    write(tmp_path / "other.json", FREEZING)
    file.symlink_to(tmp_path / "other.json")
    assert "is not read: " in str(answer(comfy))
    file.unlink()
    os.mkfifo(file)
    assert "it is not a plain file" in str(answer(comfy))
    file.unlink()
    file.mkdir()
    assert "it is not a plain file" in str(answer(comfy))
    file.rmdir()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", '"freezing" is refused, because'),
        ("{", "wavespeed_compile.json: the text stops being JSON"),
        ({"option": []}, 'has the field "option", which is not known'),
        ({"options": [{"name": "freezing", "type": "path"}]}, "it must be boolean, integer or word"),
        (" " * 70000, "it is longer than 65536 bytes"),
        (b"\xff", "byte 0 is not UTF-8"),
    ],
)
def test_a_file_with_a_mistake_is_refused(comfy: ComfyUI, file: Path, content: Any, sentence: str) -> None:
    write(file, content)
    assert sentence in str(answer(comfy))
    assert answer(comfy, "") is True, "without options the file is not needed"


def test_an_option_that_torch_does_not_have_is_refused_in_a_sentence(comfy: ComfyUI, file: Path) -> None:
    write(
        file,
        {
            "options": [
                {"name": "no_such_option", "type": "boolean"},
                {"name": "freezing", "type": "integer", "minimum": 0, "maximum": 3},
            ]
        },
    )
    for options in ('{"no_such_option": true}', '{"freezing": 2}'):
        with pytest.raises(ValueError, match=r"torch .* does not take these options: .*\.$"):
            compiled(comfy, comfy.model("flux_dev"), options=options, backend="inductor")


def test_the_file_does_not_lie_where_users_write_over_the_network(comfy: ComfyUI, file: Path) -> None:
    """ComfyUI's userdata routes write below the folder of a user, which lies below this one."""
    import folder_paths

    users = Path(folder_paths.get_user_directory()) / "default"
    users.mkdir(exist_ok=True)
    write(users / file.name, FREEZING)
    assert "is refused, because" in str(answer(comfy))
    (users / file.name).unlink()
