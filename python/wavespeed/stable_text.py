"""Texts for things in memory that are equal in another process exactly when the things are: for keys of what is kept
on disk.

None where there is no such text, because nothing but this very object will do.
"""

from __future__ import annotations

import enum
import hashlib
import sys
import types
from typing import Any

import torch

PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)


def of_code(code: types.CodeType) -> str:
    """What code does, whatever file and line it stands in."""
    digest = hashlib.sha256(code.co_code)
    digest.update(repr((code.co_names, code.co_varnames, code.co_freevars)).encode())
    for constant in code.co_consts:
        digest.update(_of_constant(constant).encode())
    return digest.hexdigest()[:32]


def _of_constant(constant: Any) -> str:
    if isinstance(constant, types.CodeType):
        return of_code(constant)
    if isinstance(constant, frozenset):  # its order differs between processes
        return f"frozenset{sorted(map(_of_constant, constant))}"
    if isinstance(constant, tuple):
        return f"tuple{[_of_constant(item) for item in constant]}"
    return f"{type(constant).__name__} {constant!r}"


def of_named(value: Any) -> str | None:
    """Of a module, class, member of an enumeration, function or operator: its name, with the code of a function."""
    if isinstance(value, enum.Enum):
        return f"member {type(value).__module__}.{type(value).__qualname__}.{value.name}"
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__}"
    if isinstance(value, type):
        return f"class {value.__module__}.{value.__qualname__}"
    if isinstance(value, types.FunctionType):
        closure = _of_closure(value)
        defaults = of_value((value.__defaults__, value.__kwdefaults__))
        if closure is None or defaults is None:
            return None
        return f"function {value.__module__}.{value.__qualname__} {of_code(value.__code__)} {closure} {defaults}"
    if isinstance(value, types.BuiltinFunctionType):
        # torch.cat and its like name neither a module nor a class as their own.
        owners = (value.__self__, sys.modules.get(value.__module__ or ""), torch)
        named = (owner for owner in owners if isinstance(owner, (type, types.ModuleType)))
        owner = next((owner for owner in named if getattr(owner, value.__name__, None) is value), None)
        return f"builtin {owner.__name__}.{value.__name__}" if owner is not None else None
    if isinstance(value, types.MethodDescriptorType):
        return f"method {value.__objclass__.__qualname__}.{value.__name__}"
    if isinstance(value, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        return f"operator {value}"
    return None


def _of_closure(function: types.FunctionType) -> str | None:
    """Of classes, which methods that call super() close over; anything else may be what only this process has."""
    try:
        contents = [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:  # a cell that is empty
        return None
    return of_value(contents) if all(isinstance(value, type) for value in contents) else None


def of_value(value: Any) -> str | None:
    """Of plain values, named things, and tuples, lists and dicts of them."""
    if isinstance(value, PLAIN):
        return f"{type(value).__qualname__} {value!r}"
    if type(value) in (tuple, list):
        return _joined(type(value).__name__, value)
    if type(value) is dict:
        return _joined("dict", value.items())
    return of_named(value)


def _joined(kind: str, values: Any) -> str | None:
    texts = [of_value(value) for value in values]
    known = [text for text in texts if text is not None]
    # The lengths keep parts apart that contain the separator.
    return f"{kind}({','.join(f'{len(text)}:{text}' for text in known)})" if len(known) == len(texts) else None
