"""WaveSpeed for ComfyUI: First Block Cache. ComfyUI's side of the pack; the engine is the native module _core."""

from __future__ import annotations

__version__ = "2.0.0"
