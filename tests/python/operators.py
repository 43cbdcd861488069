"""The operators that the tests have at hand."""

from __future__ import annotations

import pytest
import torch

from wavespeed import _native, operations

LOADED = operations.load(_native.core)
HAS_SHIM = LOADED.executor.startswith("native CPU kernels")
IS_TORCH_NEW = torch.__version__ >= (2, 10)
needs_shim = pytest.mark.skipif(not HAS_SHIM, reason=f"no native operators here: {LOADED.executor}")
