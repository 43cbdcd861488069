"""Other packs that bring a node of the same name: the one that ComfyUI loads last wins, in the file system's order."""

from __future__ import annotations

from pathlib import Path

OUR_NODE = b"ApplyFBCacheOnModel"
FILES = ("__init__.py", "fbcache_nodes.py", "python/wavespeed/nodes.json")
"""Where Comfy-WaveSpeed, its forks and copies of this pack name the node."""

OWN_FOLDER = Path(__file__).resolve().parents[2]


def conflicting_packs(custom_nodes_folders: list[str]) -> list[Path]:
    """Folders beside this one that bring the node as well, in alphabetical order."""
    found = []
    for parent in map(Path, custom_nodes_folders):
        if parent.is_dir():
            found += [folder for folder in sorted(parent.iterdir()) if _brings_our_node(folder)]
    return found


def _brings_our_node(folder: Path) -> bool:
    if folder.name.endswith(".disabled") or folder.resolve() == OWN_FOLDER:
        return False
    return any((folder / name).is_file() and OUR_NODE in (folder / name).read_bytes() for name in FILES)
