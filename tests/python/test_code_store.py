"""What is kept on disk is believed only when this user wrote it, whole, on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wavespeed import code_store
from wavespeed.code_store import CODE_BYTES, CodeStore, UnusableError, user_store

NAME = "ab12-cd34"
CONTENT = b"code" * 1000


@pytest.fixture
def store(tmp_path: Path) -> CodeStore:
    return CodeStore(tmp_path / "cache" / "compiled", tmp_path / "config" / "code.key")


def path_of(store: CodeStore, name: str = NAME) -> Path:
    return store.folder / f"{name}{code_store.ENDING}"


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_nothing_is_made_before_something_is_kept(store: CodeStore, tmp_path: Path) -> None:
    assert store.read(NAME) is None
    assert store.names("") == []
    assert list(tmp_path.iterdir()) == []


def test_what_was_written_is_read_by_others_of_this_user(store: CodeStore) -> None:
    store.write(NAME, CONTENT)
    again = CodeStore(store.folder, store.key_file)
    assert again.read(NAME) == CONTENT
    assert again.read("other") is None
    assert again.names("ab12-") == [NAME]
    assert (mode(store.folder), mode(store.key_file), mode(path_of(store))) == (0o700, 0o600, 0o600)


def test_every_damaged_byte_is_noticed(store: CodeStore) -> None:
    store.write(NAME, b"some code")
    whole = path_of(store).read_bytes()
    for position in range(len(whole)):
        path_of(store).write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(UnusableError, match="is damaged or was not written by this user on this machine"):
            store.read(NAME)


@pytest.mark.parametrize("left", [0, 1, CODE_BYTES - 1, CODE_BYTES, CODE_BYTES + 5])
def test_a_file_that_is_cut_off_is_noticed(store: CodeStore, left: int) -> None:
    store.write(NAME, CONTENT)
    path_of(store).write_bytes(path_of(store).read_bytes()[:left])
    with pytest.raises(UnusableError, match="is damaged"):
        store.read(NAME)


def test_files_of_another_key_and_under_another_name_are_refused(store: CodeStore, tmp_path: Path) -> None:
    foreign = CodeStore(tmp_path / "foreign", tmp_path / "foreign.key")
    foreign.write(NAME, CONTENT)
    store.write(NAME, b"ours")
    path_of(store).write_bytes(path_of(foreign).read_bytes())
    with pytest.raises(UnusableError, match="was not written by this user"):
        store.read(NAME)
    store.write(NAME, b"ours")
    path_of(store).rename(path_of(store, "other"))
    with pytest.raises(UnusableError, match="was not written by this user"):
        store.read("other")


def test_a_folder_does_not_bring_its_own_key(store: CodeStore, tmp_path: Path) -> None:
    store.write(NAME, CONTENT)
    moved = CodeStore(store.folder, tmp_path / "another user" / "code.key")
    with pytest.raises(UnusableError, match=r"its key .* is missing"):
        moved.read(NAME)


def test_what_other_users_can_use_is_refused(store: CodeStore) -> None:
    store.write(NAME, CONTENT)
    for path, wrong, right in (
        (store.folder, 0o755, 0o700),
        (store.key_file, 0o644, 0o600),
        (path_of(store), 0o620, 0o600),
    ):
        path.chmod(wrong)
        with pytest.raises(UnusableError, match=rf"other users may use .*mode {wrong:o}, it must be {right:o}"):
            store.read(NAME)
        path.chmod(right)
    assert store.read(NAME) == CONTENT
    store.folder.chmod(0o777)
    with pytest.raises(UnusableError, match="other users may use"):
        store.write("new", CONTENT)
    assert not path_of(store, "new").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_files_of_another_user_are_refused(store: CodeStore) -> None:
    store.write(NAME, CONTENT)
    for path in (path_of(store), store.key_file, store.folder):
        os.chown(path, 12345, -1)
        with pytest.raises(UnusableError, match="belongs to another user"):
            store.read(NAME)
        os.chown(path, 0, -1)


def test_links_and_pipes_are_not_followed(store: CodeStore, tmp_path: Path) -> None:
    store.write(NAME, CONTENT)
    real = tmp_path / "real"
    path_of(store).rename(real)
    path_of(store).symlink_to(real)
    with pytest.raises(UnusableError, match="cannot be opened"):
        store.read(NAME)
    path_of(store).unlink()
    os.mkfifo(path_of(store), 0o600)
    with pytest.raises(UnusableError, match="is no file"):
        store.read(NAME)
    linked = CodeStore(tmp_path / "link", store.key_file)
    linked.folder.symlink_to(store.folder)
    with pytest.raises(UnusableError, match="is a file or a link and no folder"):
        linked.read(NAME)


def test_the_least_recently_used_are_deleted(store: CodeStore) -> None:
    size = len(CONTENT) + CODE_BYTES
    small = CodeStore(store.folder, store.key_file, bytes_max=3 * size)
    for age, name in enumerate(("first", "second", "third")):
        small.write(name, CONTENT)
        os.utime(path_of(small, name), (age, age))
    assert small.read("first") == CONTENT  # so the second is now the oldest
    small.write("fourth", CONTENT)
    assert small.names("") == ["first", "fourth", "third"]
    with pytest.raises(UnusableError, match=rf"it has {3 * size} bytes, at most {3 * size - CODE_BYTES} are kept"):
        small.write("large", bytes(3 * size))


def test_what_a_killed_process_left_is_deleted_later(store: CodeStore) -> None:
    store.write(NAME, CONTENT)
    old, new = (store.folder / f"{code_store.UNFINISHED}{name}" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(CONTENT)
    os.utime(old, (0, 0))
    store.write(NAME, CONTENT)
    assert (old.exists(), new.exists()) == (False, True)


WRITER = """
import sys
from pathlib import Path
from wavespeed.code_store import CodeStore
store = CodeStore(Path(sys.argv[1]), Path(sys.argv[2]))
sys.stdin.readline()
for _ in range(50):
    store.write("shared", sys.argv[3].encode() * 50_000)
    content = store.read("shared")
    assert content is not None and len(set(content)) == 1 and len(content) == 50_000, len(content)
"""


def test_processes_that_write_at_once(store: CodeStore) -> None:
    """They also race for the key, which none of them finds."""
    command = [sys.executable, "-c", WRITER, str(store.folder), str(store.key_file)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    writers = [
        subprocess.Popen([*command, letter], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for letter in "abc"
    ]
    results = [writer.communicate("go\n", timeout=300)[1] for writer in writers]
    assert results == [""] * 3
    assert [writer.returncode for writer in writers] == [0] * 3
    assert store.read("shared") in (b"a" * 50_000, b"b" * 50_000, b"c" * 50_000)
    assert [path.name for path in store.folder.iterdir()] == [path_of(store, "shared").name]


def test_where_the_folders_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "WAVESPEED_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    store = user_store()
    assert store is not None
    assert store.folder == tmp_path / "home/.cache/wavespeed/compiled"
    assert store.key_file == tmp_path / "home/.config/wavespeed/compiled_code.key"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative, so ignored")
    store = user_store()
    assert store is not None
    assert store.folder == tmp_path / "cache/wavespeed/compiled"
    assert store.key_file == tmp_path / "home/.config/wavespeed/compiled_code.key"
    monkeypatch.setenv("WAVESPEED_CACHE_DIR", str(tmp_path / "mine"))
    store = user_store()
    assert store is not None
    assert store.folder == tmp_path / "mine"
    monkeypatch.setenv("WAVESPEED_CACHE_DIR", "0")
    assert user_store() is None


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = CodeStore(tmp_path / "file" / "compiled", tmp_path / "code.key")
    with pytest.raises(UnusableError, match=r"cannot be written \(.*\)$"):
        store.write(NAME, CONTENT)
