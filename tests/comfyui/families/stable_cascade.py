"""Stable Cascade: stage C makes the small latent, stage B the large one."""

from __future__ import annotations

from typing import Any

from family import Family

STAGE_C: dict[str, Any] = {
    "stable_cascade_stage": "c",
    "c_r": 16,
    "c_cond": 32,
    "c_hidden": [32, 32],
    "nhead": [2, 2],
    "blocks": [[2, 2], [2, 2]],
    "c_clip_text": 64,
    "c_clip_text_pooled": 32,
}
STAGE_B: dict[str, Any] = {
    "stable_cascade_stage": "b",
    "c_r": 16,
    "c_cond": 32,
    "c_hidden": [32, 32, 64, 64],
    "nhead": [-1, -1, 2, 2],
    "blocks": [[2, 1, 1, 1], [1, 1, 1, 2]],
    "c_clip": 32,
}

# Source: Stability-AI/StableCascade modules/stage_c.py, modules/stage_b.py and readme.md.
STAGE_C_PUBLISHED = {
    "c_r": 64,
    "c_cond": 2048,
    "c_hidden": [2048, 2048],
    "nhead": [32, 32],
    "blocks": [[8, 24], [24, 8]],
    "c_clip_text": 1280,
    "c_clip_text_pooled": 1280,
}
STAGE_B_PUBLISHED: dict[str, Any] = {
    "c_r": 64,
    "c_cond": 1280,
    "c_hidden": [320, 640, 1280, 1280],
    "nhead": [-1, -1, 20, 20],
    "blocks": [[2, 6, 28, 6], [6, 28, 6, 2]],
    "block_repeat": [[1, 1, 1, 1], [3, 3, 2, 2]],
    "c_clip": 1280,
}
KEPT = 3
TIMED = r"\.mapper"
FAMILIES = {
    "stable_cascade_c": Family(
        "comfy.ldm.cascade.stage_c.StageC",
        STAGE_C,
        ("down_blocks", "up_blocks"),
        latent=(1, 16, 8, 8),
        core_config="Stable_Cascade_C",
        published=STAGE_C_PUBLISHED,
        published_parameters=3.6,
        kept=KEPT,
        timed=TIMED,
    ),
    # It runs its up_blocks several times per call, so they are not counted.
    "stable_cascade_b": Family(
        "comfy.ldm.cascade.stage_b.StageB",
        STAGE_B,
        ("down_blocks",),
        latent=(1, 4, 32, 32),
        core_config="Stable_Cascade_B",
        published=STAGE_B_PUBLISHED,
        published_parameters=1.5,
        bypassed=("up_blocks",),
        kept=KEPT,
        timed=TIMED,
    ),
}
