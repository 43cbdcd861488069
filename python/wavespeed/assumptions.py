"""What compiled code assumes besides the sizes and kinds of tensors: functions, constants, options of the model.

torch can check these in the process that compiled, but cannot keep its checks for another one. So they are read off its
guards, each as a place, written as a Python expression, with what must lie there. In memory that is the very object; on
disk it is a text that describes it (stable_text.py).
"""

from __future__ import annotations

import ast
import builtins
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from . import stable_text

Place = str
"""For example G['__import_comfy_dot_ldm_dot_flux_dot_math'].optimized_attention; G are the globals of the code."""

KEPT_BY_TORCH = frozenset({"TENSOR_MATCH", "SHAPE_ENV", "GLOBAL_STATE"})
IN_GLOBAL_STATE = frozenset({"GRAD_MODE", "DETERMINISTIC_ALGORITHMS", "FSDP_TRAINING_STATE"})
UNDER_GRADIENTS = frozenset({"AUTOGRAD_SAVED_TENSORS_HOOKS"})
MODES = frozenset({"TORCH_FUNCTION_STATE", "DEFAULT_DEVICE"})
"""Function modes, one of which is the default device. There must be none; it is checked at each call."""

KINDS = {
    "TYPE_MATCH": ("type",),
    "SEQUENCE_LENGTH": ("type", "length"),
    "DICT_KEYS_MATCH": ("type", "keys"),
    "MAPPING_KEYS_CHECK": ("type", "keys"),
    "CONSTANT_MATCH": ("equal",),
    "EQUALS_MATCH": ("equal",),
    "NONE_MATCH": ("equal",),
    "BOOL_MATCH": ("equal",),
    "ID_MATCH": ("same",),
    "FUNCTION_MATCH": ("same",),
    "CLASS_MATCH": ("same",),
    "MODULE_MATCH": ("same",),
    "BUILTIN_MATCH": ("same",),
    "CLOSURE_MATCH": ("code",),
    "DICT_CONTAINS": ("has",),
    "DICT_NOT_CONTAINS": ("lacks",),
    "HASATTR": ("attribute",),
    "DUPLICATE_INPUT": ("alias",),
}
"""torch's guards and what is to be checked for each."""

KEYWORDS = {"has": "key", "lacks": "key", "attribute": "attr", "alias": "source_b"}
"""Under which name a guard holds what else it is about."""

BUILTINS = re.compile(r"G\['__builtins_dict__[^']*'\]")
MISSING = (AttributeError, LookupError, TypeError)
"""What is raised on the way to a place that is not there in a call."""
ROOTS = ("G", "BUILTINS", "forward", "block", "args", "kwargs")

Step = Callable[[list[Any]], Any]
"""From what all steps before it gave to what this one gives."""


class UnknownAssumptionError(Exception):
    """torch checks something that cannot be checked here, so its own checks must stay."""


@dataclass(frozen=True)
class Assumption:
    """kind: one of the words in KINDS. key: of a dict (has, lacks), of an attribute, or the other place (alias)."""

    place: Place
    kind: str
    key: str = ""


def _root(guard: Any) -> str:
    """Name of the argument that a guard is about; empty for what does not hang on one."""
    from torch._dynamo.source import get_local_source_name

    return get_local_source_name(guard.orig_guard.originating_source) or ""


def of_guards(guards: Any) -> tuple[list[Assumption], list[bool]]:
    """Assumptions beside what torch keeps, and for each guard whether torch keeps it.

    The block and its forward are left out: the block's signature and the region stand for them. What a class
    inherits (type(block...) in a place) is not part of it.
    """
    found: dict[Assumption, None] = {}
    kept = []
    for guard in guards:
        of_block = _root(guard) == "block" and not guard.name.startswith(("type(", "dict(type("))
        of_instance = of_block or guard.name == "forward"
        by_torch = guard.guard_type in KEPT_BY_TORCH and not guard.is_global
        kept.append(by_torch and not of_instance)
        if not (by_torch or of_instance or guard.guard_type in IN_GLOBAL_STATE | UNDER_GRADIENTS | MODES):
            found.update(dict.fromkeys(_of_guard(guard)))
    return list(found), kept


def _place(name: str) -> Place:
    return BUILTINS.sub("BUILTINS", name)


def _of_guard(guard: Any) -> list[Assumption]:
    from torch._dynamo.guards import strip_local_scope

    kinds = KINDS.get(guard.guard_type)
    if kinds is None or not guard.has_value:
        raise UnknownAssumptionError(f"torch checks {guard.name} by {guard.guard_type}")
    place = _place(guard.name)
    if kinds[0] in KEYWORDS:
        key = guard.orig_guard.create_fn.keywords[KEYWORDS[kinds[0]]]
        if kinds[0] == "alias":
            key = _place(strip_local_scope(key.name))
        if not isinstance(key, str):
            raise UnknownAssumptionError(f"torch checks {guard.name} for {key!r}")
        return [Assumption(place, kinds[0], key)]
    if kinds == ("code",) and not isinstance(guard.value, types.FunctionType):
        kinds = ("same",)
    return [Assumption(place, kind) for kind in kinds]


class _Path:
    """Steps to all places of one piece of code; common beginnings are walked once."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._known: dict[Any, int] = {}

    def _step(self, key: Any, step: Step) -> int:
        """Position of the result; key: what the step does."""
        if key not in self._known:
            self._known[key] = len(ROOTS) + len(self.steps)
            self.steps.append(step)
        return self._known[key]

    def to(self, assumption: Assumption) -> int:
        """Position of what is compared."""
        start = self._to_place(assumption.place)
        kind, key = assumption.kind, assumption.key
        if kind == "alias":
            other = self._to_place(key)
            return self._step((start, kind, other), lambda values: values[start] is values[other])
        steps: dict[str, Step] = {
            "code": lambda values: values[start].__code__,
            "type": lambda values: type(values[start]),
            "length": lambda values: len(values[start]),
            "keys": lambda values: list(values[start]),
            "has": lambda values: key in values[start],
            "lacks": lambda values: key not in values[start],
            "attribute": lambda values: hasattr(values[start], key),
        }
        return self._step((start, kind, key), steps[kind]) if kind in steps else start

    def _to_place(self, place: Place) -> int:
        try:
            return self._to_node(ast.parse(place, mode="eval").body)
        except SyntaxError as problem:
            raise UnknownAssumptionError(f"torch checks {place}") from problem

    def _to_node(self, node: ast.expr) -> int:
        """Names, attributes, constant subscripts and type(...): what the places of guards are made of."""
        if isinstance(node, ast.Name) and node.id in ROOTS:
            return ROOTS.index(node.id)
        if isinstance(node, ast.Attribute):
            start, name = self._to_node(node.value), node.attr
            return self._step((start, "attribute of", name), lambda values: getattr(values[start], name))
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            start, key = self._to_node(node.value), node.slice.value
            return self._step((start, "item", key), lambda values: values[start][key])
        if isinstance(node, ast.Call) and len(node.args) == 1 and ast.unparse(node.func) in ("type", "dict"):
            start = self._to_node(node.args[0])
            if ast.unparse(node.func) == "dict":  # a copy of what is looked into says the same
                return start
            return self._step((start, "type", ""), lambda values: type(values[start]))
        raise UnknownAssumptionError(f"torch checks {ast.unparse(node)}")

    def walk(self, code_globals: dict[str, Any], call: Mapping[str, Any]) -> list[Any]:
        values = [code_globals, vars(builtins), *(call[name] for name in ROOTS[2:])]
        for step in self.steps:
            values.append(step(values))
        return values


BY_IDENTITY = frozenset({"same", "code", "type"})
TRUE_OR_FALSE = frozenset({"has", "lacks", "alias"})


class Assumptions:
    """Assumptions about one piece of compiled code, with what each of them must give in this process."""

    def __init__(self, found: list[Assumption], code_globals: dict[str, Any], call: Mapping[str, Any]) -> None:
        """call: the arguments forward, block, args and kwargs of a call for which all of them hold.

        UnknownAssumptionError where a place cannot be found or nothing can be said about what lies there.
        """
        self.found = found
        self._globals = code_globals
        self._path = _Path()
        self._ends = [self._path.to(assumption) for assumption in found]
        try:
            values = self._path.walk(code_globals, call)
        except MISSING as problem:
            raise UnknownAssumptionError(f"something that the code assumes is missing: {problem}") from problem
        self._expected = [values[end] for end in self._ends]
        self._same: list[tuple[int, Any]] = []
        self._equal: list[tuple[int, type, Any]] = []
        for assumption, end, value in zip(found, self._ends, self._expected, strict=True):
            if assumption.kind in BY_IDENTITY:
                self._same.append((end, value))
                continue
            if (assumption.kind in TRUE_OR_FALSE and not value) or stable_text.of_value(value) is None:
                raise UnknownAssumptionError(f"{assumption.place} is not what the code assumes")
            self._equal.append((end, type(value), value))

    def hold(self, call: Mapping[str, Any]) -> bool:
        """Runs at every call of a block."""
        if torch._C._len_torch_function_stack() != 0:
            return False
        try:
            values = self._path.walk(self._globals, call)
        except MISSING:
            return False
        return all(values[end] is value for end, value in self._same) and all(
            type(values[end]) is kind and values[end] == value for end, kind, value in self._equal
        )

    def texts(self) -> list[str | None]:
        """What each of them gives, as a text for another process; None for one that has no such text."""
        texts: list[str | None] = []
        for assumption, value in zip(self.found, self._expected, strict=True):
            if assumption.kind in ("same", "code") and assumption.place.startswith(("args", "kwargs")):
                texts.append(None)  # what comes with a call, such as the function of another node, may be anything
            elif assumption.kind == "code":
                texts.append(stable_text.of_code(value))
            else:
                texts.append(stable_text.of_value(value))
        return texts

    def first_other(self, call: Mapping[str, Any]) -> str:
        """Place of the first assumption that does not hold in this call; empty when all hold."""
        for assumption, expected in zip(self.found, self._expected, strict=True):
            try:
                found = Assumptions([assumption], self._globals, call)._expected[0]
            except UnknownAssumptionError:
                return assumption.place
            if assumption.kind in BY_IDENTITY:
                holds = found is expected
            else:
                holds = type(found) is type(expected) and found == expected
            if not holds:
                return assumption.place
        return ""
