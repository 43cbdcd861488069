"""The built extension as a file: what it needs, what it exports, where it looks."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wavespeed import _native

pytestmark = [
    pytest.mark.skipif(_native.core is None, reason=_native.reason),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads ELF files"),
    pytest.mark.skipif(
        shutil.which("readelf") is None or shutil.which("nm") is None, reason="binutils is not installed"
    ),
]

NEEDED = re.compile(r"lib(c|m|pthread|dl|cjson|gcc_s)\.so[.\d]*|ld-linux[\w.-]*")
"""C library, its parts, and cJSON where the system's own is used; sanitizers come on top in a sanitizer build."""
SANITIZERS = re.compile(r"lib(asan|ubsan|tsan)\.so[.\d]*")

PRIVATE_BUT_STABLE = {
    "_Py_Dealloc", "_Py_NoneStruct", "_Py_TrueStruct", "_Py_FalseStruct", "_Py_NotImplementedStruct",
    "_PyObject_GC_New", "_PyObject_New", "_Py_IncRef", "_Py_DecRef", "_PyArg_ParseTuple_SizeT",
    "_PyArg_ParseTupleAndKeywords_SizeT", "_Py_BuildValue_SizeT", "_PyObject_CallFunction_SizeT",
    "_PyObject_CallMethod_SizeT",
}  # fmt: skip
"""Names with an underscore that belong to the stable ABI; the limited API's own macros expand to them."""

AFTER_3_10 = {
    "PyObject_Vectorcall", "PyObject_VectorcallMethod", "PyVectorcall_NARGS", "PyVectorcall_Call",
    "PyType_GetDict", "PyErr_GetRaisedException", "PyErr_SetRaisedException", "PyDict_GetItemRef",
    "PyObject_GetOptionalAttr", "PyType_GetName", "PyType_GetQualName", "PyObject_GetTypeData",
}  # fmt: skip
"""Calls that are easily written and would make the module fail to import on Python 3.10."""


def module_file() -> str:
    assert _native.core is not None
    return str(_native.core.__file__)


def lines_of(*command: str) -> list[str]:
    return subprocess.run([*command, module_file()], check=True, capture_output=True, text=True).stdout.splitlines()


def is_sanitizer_build() -> bool:
    return any(SANITIZERS.search(line) for line in lines_of("readelf", "-d", "-W"))


def test_the_file_name_promises_the_stable_abi() -> None:
    assert Path(module_file()).name == "_core.abi3.so"


def test_it_needs_nothing_but_the_c_library_and_cjson() -> None:
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", "\n".join(lines_of("readelf", "-d", "-W")))
    assert needed
    assert not [name for name in needed if not NEEDED.fullmatch(name) and not SANITIZERS.fullmatch(name)]


def test_it_carries_no_search_path_of_the_build_machine() -> None:
    paths = re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.*)\]", "\n".join(lines_of("readelf", "-d", "-W")))
    assert all(path == "$ORIGIN" for path in paths)


def test_it_exports_its_init_function_only() -> None:
    if is_sanitizer_build():
        pytest.skip("sanitizers export symbols of their own")
    exported = [line.split()[-1].split("@")[0] for line in lines_of("nm", "-D", "--defined-only")]
    assert exported == ["PyInit__core"]


def test_it_calls_the_stable_abi_of_3_10_only() -> None:
    wanted = {line.split()[-1].split("@")[0] for line in lines_of("nm", "-D", "--undefined-only")}
    private = {name for name in wanted if name.startswith("_Py")}
    assert private <= PRIVATE_BUT_STABLE
    assert not wanted & AFTER_3_10


def test_the_stack_is_not_executable() -> None:
    stack = [line for line in lines_of("readelf", "-l", "-W") if "GNU_STACK" in line]
    assert stack
    assert " RWE " not in stack[0]


def test_no_path_of_the_build_machine_is_in_it() -> None:
    repository = str(Path(__file__).resolve().parents[2]).encode()
    code = subprocess.run(["readelf", "-p", ".rodata", module_file()], check=True, capture_output=True).stdout
    assert repository not in code
