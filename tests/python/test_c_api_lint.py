"""Rules about C text that no compiler warning covers (CONTRIBUTING.md, "Rules")."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def code_of(path: Path) -> str:
    """The file without comments and without the content of its strings; line breaks stay."""
    pattern = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.DOTALL)

    def blank(match: re.Match[str]) -> str:
        text = match.group()
        return '""' if text.startswith('"') else "\n" * text.count("\n")

    return pattern.sub(blank, path.read_text(encoding="utf-8"))


def files(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((REPOSITORY / folder).rglob("*.[ch]"))]
    assert found
    return found


def places(pattern: str, paths: list[Path]) -> list[str]:
    """ "file:line text" of every match."""
    found = []
    for path in paths:
        for number, line in enumerate(code_of(path).splitlines(), start=1):
            if re.search(pattern, line):
                found.append(f"{path.relative_to(REPOSITORY)}:{number} {line.strip()}")
    return found


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"\bPy_RETURN_(NONE|TRUE|FALSE)\b", "returns a borrowed object on 3.10 and 3.11; write Py_NewRef"),
        (r"\bPy_X?SETREF\b", "not in the limited API; use WS_SET_REFERENCE"),
        (r"^\s*(static|extern)\s+(const\s+)?Py\w+\s*\*\s*(const\s+)?\w+\s*(=|;|\[)", "state belongs to the module"),
        (r"\bPyErr_(SetString|Format)\s*\([^;]*(->|\.)text\b", "a ws_error becomes an exception in errors.c only"),
        (r"\bPy(Sys_Write|Object_Print)\w*\s*\(", "the extension is silent; report.py speaks"),
        (r"\bPy(Tuple|List)_(GET|SET)_(ITEM|SIZE)\b", "not in the limited API"),
        (r"\bPyErr_Clear\s*\(\s*\)\s*;\s*$", "an exception is dropped only with a comment beside it"),
    ],
)
def test_the_extension_avoids(pattern: str, reason: str) -> None:
    found = [place for place in places(pattern, files("src/python")) if not place.startswith("src/python/errors.c")]
    if "PyErr_Clear" in pattern:
        # code_of() has removed the comments, so ask the file itself whether there was one.
        found = [place for place in found if not has_comment(place)]
    assert not found, reason


def has_comment(place: str) -> bool:
    name, rest = place.split(":", 1)
    line = (REPOSITORY / name).read_text(encoding="utf-8").splitlines()[int(rest.split()[0]) - 1]
    return "/*" in line


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"\b(printf|fprintf|vprintf|vfprintf|puts|putchar|perror)\s*\(", "never prints"),
        (r"\b(abort|exit|_Exit|quick_exit|assert|longjmp)\s*\(", "never aborts"),
        (r"\b(strcpy|strcat|sprintf|vsprintf|gets|strtok|alloca|setlocale)\s*\(", "unsafe"),
    ],
)
def test_core_and_kernels_avoid(pattern: str, reason: str) -> None:
    assert not places(pattern, files("src/core", "src/cpu", "include")), reason


def test_public_names_carry_the_prefix() -> None:
    for path in files("include"):
        text = code_of(path)
        names = re.findall(r"^(?!typedef)[a-z][\w\s*]*?\b(\w+)\s*\([^)]*\)[^;{]*;", text, re.MULTILINE)
        names += re.findall(r"^typedef\b[^;{]*?\(\*(\w+)\)", text, re.MULTILINE)
        assert [name for name in names if not name.startswith(("ws_", "WS_"))] == [], path.name
        macros = re.findall(r"^\s*#\s*define\s+(\w+)", text, re.MULTILINE)
        assert [name for name in macros if not name.startswith(("WS_", "WAVESPEED_"))] == [], path.name


def test_the_limited_api_level_is_set_in_one_place() -> None:
    """A file that set its own level would be built against another API than the rest."""
    assert not places(r"#\s*define\s+Py_LIMITED_API", files("src", "include"))
