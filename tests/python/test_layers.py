"""Layers point one way (CONTRIBUTING.md, "Layers"): what a file includes or imports says where it belongs."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE_ENDINGS = {".c", ".h", ".cpp", ".cu"}

STANDARD_C = {
    f"{name}.h"
    for name in (
        "assert", "ctype", "errno", "fenv", "float", "inttypes", "limits", "math", "stdalign", "stdarg", "stdatomic",
        "stdbool", "stddef", "stdint", "stdio", "stdlib", "string",
    )
}  # fmt: skip
CJSON = {"cjson/cJSON.h", "cJSON.h"}
PROCESSOR = {"cpuid.h", "immintrin.h", "arm_neon.h", "intrin.h"}
LOADER = {"dlfcn.h"}
WINDOWS = {"windows.h"}
CLOCK = {"time.h"}
CUDA_TOOLKIT = {"cuda_fp16.h"}

FOREIGN_HEADERS = {
    "include": STANDARD_C,
    "src/core": STANDARD_C | CJSON,
    "src/cpu": STANDARD_C | PROCESSOR,
    "src/cuda": STANDARD_C | LOADER | WINDOWS | CLOCK | CUDA_TOOLKIT,
    "src/python": STANDARD_C | LOADER | {"Python.h"},
}
"""What each folder may include besides headers of the pack; src/torch has a rule of its own."""

PRIVATE_HEADERS = {
    "include": set(),
    "src/core": {"src/core"},
    "src/cpu": {"src/core", "src/cpu"},
    "src/cuda": {"src/core", "src/cuda"},
    "src/torch": {"src/torch"},
    "src/python": {"src/python"},
}
"""Whose headers besides include/wavespeed each folder may see."""


def sources(folder: str) -> list[Path]:
    return sorted(path for path in (REPOSITORY / folder).rglob("*") if path.suffix in SOURCE_ENDINGS)


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(encoding="utf-8"), re.MULTILINE)


def own_header(path: Path, name: str) -> Path | None:
    """The file of the pack that an include means; None for a header of somebody else."""
    for folder in (path.parent, REPOSITORY / "include", REPOSITORY / "src"):
        if (folder / name).is_file():
            return folder / name
    return None


def foreign(path: Path) -> list[str]:
    return [name for name in includes(path) if own_header(path, name) is None]


@pytest.mark.parametrize("folder", PRIVATE_HEADERS)
def test_c_files_see_private_headers_of_their_left_only(folder: str) -> None:
    allowed = PRIVATE_HEADERS[folder] | {"include/wavespeed"}
    for path in sources(folder):
        for name in includes(path):
            header = own_header(path, name)
            if header is not None:
                assert str(header.parent.relative_to(REPOSITORY)) in allowed, f"{path.name} includes {name}"


@pytest.mark.parametrize("folder", FOREIGN_HEADERS)
def test_c_files_include_standard_headers_and_what_their_layer_is_for(folder: str) -> None:
    files = sources(folder)
    assert files, f"{folder} has no source files: was it renamed?"
    found = {str(path.relative_to(REPOSITORY)): set(foreign(path)) - FOREIGN_HEADERS[folder] for path in files}
    assert not {name: headers for name, headers in found.items() if headers}


def test_the_shim_knows_torch_and_the_public_headers_only() -> None:
    files = sources("src/torch")
    assert files
    for path in files:
        for name in foreign(path):
            # Headers of the C++ standard library have no ending.
            allowed = name.startswith("torch/") or "." not in name or name in STANDARD_C
            assert allowed, f"{path.name} includes {name}"


def test_torch_is_included_by_the_shim_alone() -> None:
    others = [path for folder in ("include", "src") for path in sources(folder) if "torch" not in path.parent.parts]
    strangers = ("torch/", "ATen/", "c10/")
    assert not [path for path in others if any(name.startswith(strangers) for name in includes(path))]


def test_nothing_links_openmp_or_the_cuda_runtime() -> None:
    build_files = [REPOSITORY / "CMakeLists.txt", *(REPOSITORY / "cmake").rglob("*.cmake")]
    pattern = re.compile(r"fopenmp|OpenMP::|#\s*pragma\s+omp|<omp\.h>|cudart|cuda_runtime")
    files = [path for path in build_files if path.is_file()] + sources("src") + sources("include")
    assert not [str(path) for path in files if pattern.search(path.read_text(encoding="utf-8"))]


# ---- Python ------------------------------------------------------------------------------------------------------

PACKAGE = sorted((REPOSITORY / "python/wavespeed").glob("*.py"))


def module_level_imports(tree: ast.Module) -> list[ast.Import | ast.ImportFrom]:
    """Imports that run when the module is imported; `if TYPE_CHECKING:` does not."""
    found: list[ast.Import | ast.ImportFrom] = []
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(node)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)
    return found


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: path.name)
def test_modules_import_the_standard_library_torch_pillow_and_their_siblings(path: Path) -> None:
    """A name that ComfyUI moves must not take all nodes away, so nothing of ComfyUI is imported at module level."""
    for node in module_level_imports(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            continue
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or "."]
        for name in names:
            root = name.split(".")[0]
            assert root in sys.stdlib_module_names | {"torch", "PIL"}, f"{path.name} imports {name}"


def test_the_pack_is_never_imported_by_an_absolute_name() -> None:
    """ComfyUI gives the folder a name of its own; a second copy under the name `wavespeed` would be another pack."""
    for path in PACKAGE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not [alias.name for alias in node.names if alias.name.split(".")[0] == "wavespeed"], path.name
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                assert (node.module or "").split(".")[0] != "wavespeed", path.name


def test_the_entry_point_imports_the_nodes_and_nothing_else() -> None:
    nodes = module_level_imports(ast.parse((REPOSITORY / "__init__.py").read_text(encoding="utf-8")))
    assert [(node.level, node.module) for node in nodes if isinstance(node, ast.ImportFrom)] == [
        (1, "python.wavespeed.nodes")
    ]
    assert len(nodes) == 1
