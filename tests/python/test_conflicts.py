"""Packs beside this one that bring the same node."""

from __future__ import annotations

from pathlib import Path

import pytest

from wavespeed import conflicts

MAPPING = 'NODE_CLASS_MAPPINGS = {"ApplyFBCacheOnModel": None}\n'


def pack(parent: Path, name: str, file: str = "__init__.py", text: str = MAPPING) -> Path:
    path = parent / name / file
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return parent / name


def test_packs_with_the_node_are_found_in_order(tmp_path: Path) -> None:
    second = pack(tmp_path, "b-fork", "fbcache_nodes.py")
    first = pack(tmp_path, "Comfy-WaveSpeed")
    copy = pack(tmp_path, "wavespeed-copy", "python/wavespeed/nodes.json", '{"id": "ApplyFBCacheOnModel"}')
    pack(tmp_path, "another-pack", text="NODE_CLASS_MAPPINGS = {}")
    (tmp_path / "file.py").write_text(MAPPING, encoding="utf-8")
    assert conflicts.conflicting_packs([str(tmp_path)]) == [first, second, copy]


def test_disabled_packs_do_not_count(tmp_path: Path) -> None:
    pack(tmp_path, "Comfy-WaveSpeed.disabled")
    assert conflicts.conflicting_packs([str(tmp_path)]) == []


def test_our_own_folder_does_not_count_by_any_name(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(conflicts.OWN_FOLDER, target_is_directory=True)
    assert conflicts.conflicting_packs([str(tmp_path)]) == []


@pytest.mark.parametrize("folders", [[], ["/no/such/folder"]])
def test_missing_folders_are_no_problem(folders: list[str]) -> None:
    assert conflicts.conflicting_packs(folders) == []


def test_a_file_that_is_not_text_is_no_problem(tmp_path: Path) -> None:
    folder = tmp_path / "strange"
    folder.mkdir()
    (folder / "__init__.py").write_bytes(b"\xff\xfe\x00")
    assert conflicts.conflicting_packs([str(tmp_path)]) == []


def test_the_own_files_would_be_recognised() -> None:
    """The rule must find a second copy of this pack."""
    assert any(
        conflicts.OUR_NODE in (conflicts.OWN_FOLDER / name).read_bytes()
        for name in conflicts.FILES
        if (conflicts.OWN_FOLDER / name).is_file()
    )
