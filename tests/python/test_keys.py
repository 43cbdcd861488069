"""Keys tell stored entries apart: equal for what is computed alike, different for everything else."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from wavespeed import keys

POSITIVE, NEGATIVE = uuid.UUID(int=(5 << 64) | 9), uuid.UUID(int=3)


def options(**more: Any) -> dict[str, Any]:
    return {"cond_or_uncond": [0, 1], "uuids": [POSITIVE, NEGATIVE], "sample_sigmas": torch.ones(3)} | more


def patch_a(args: Any) -> Any:
    return args


def patch_b(args: Any) -> Any:
    return [args]


def test_one_key_per_row_group_with_index_and_uuid() -> None:
    first, second = keys.call_keys(options(), None)
    assert first[:3] == (0, 5, 9)
    assert second[:3] == (1, 0, 3)
    assert first[3] == 0, "no context window"
    assert first[3:] == second[3:]
    assert all(0 <= number < 1 << 64 for number in first[1:] + second[1:])


def test_a_cond_alone_has_the_key_it_has_in_a_batch() -> None:
    """ComfyUI splits a batch in another way when free memory changes."""
    both = keys.call_keys(options(), None)
    alone = keys.call_keys(options(cond_or_uncond=[1], uuids=[NEGATIVE]), None)
    assert alone == both[1:]


@pytest.mark.parametrize(
    "broken",
    [{"cond_or_uncond": []}, {"uuids": None}, {"uuids": [POSITIVE]}, {"cond_or_uncond": None}],
)
def test_without_conds_and_uuids_there_are_no_keys(broken: dict[str, Any]) -> None:
    assert keys.call_keys(options(**broken), None) is None
    assert keys.call_keys({}, None) is None


def test_uuids_of_another_type_are_hashed() -> None:
    (key,) = keys.call_keys(options(cond_or_uncond=[0], uuids=["text"]), None)
    (same,) = keys.call_keys(options(cond_or_uncond=[0], uuids=["text"]), None)
    (other,) = keys.call_keys(options(cond_or_uncond=[0], uuids=["other"]), None)
    assert key == same != other
    assert all(0 <= number < 1 << 64 for number in key[1:])


def test_a_cond_without_one_of_its_inputs_has_another_key() -> None:
    all_inputs = keys.call_keys(options(), None, ["c_crossattn", "ref_audio"])
    assert all_inputs == keys.call_keys(options(), None, ["ref_audio", "c_crossattn"])
    assert all_inputs != keys.call_keys(options(), None, ["c_crossattn"])


WINDOW = SimpleNamespace(index_list=[0, 1, 2])


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({}, {"context_window": WINDOW}),
        ({"context_window": WINDOW}, {"context_window": SimpleNamespace(index_list=[1, 2, 3])}),
        ({}, {"patches_replace": {"dit": {("double_block", 3): patch_a}}}),
        (
            {"patches_replace": {"dit": {("double_block", 3): patch_a}}},
            {"patches_replace": {"dit": {("double_block", 4): patch_a}}},
        ),
        ({"patches": {"double_block": [patch_a]}}, {"patches": {"double_block": [patch_b]}}),
        ({"patches": {"double_block": [patch_a]}}, {"patches": {"double_block": [patch_a, patch_a]}}),
        ({}, {"run_vnegative": True}),
        ({"skip_layers": [1]}, {"skip_layers": [2]}),
        ({}, {"stg_indexes": [3]}),
        ({}, {"a2v_cross_attn": False}),
    ],
)
def test_what_changes_the_computation_changes_the_key(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert keys.call_keys(options(**left), None) != keys.call_keys(options(**right), None)
    assert keys.call_keys(options(**right), None) == keys.call_keys(options(**right), None)


def test_what_changes_from_step_to_step_does_not_change_the_key() -> None:
    left = options(
        sigmas=torch.tensor([0.9]), wrappers={}, callbacks={}, total_blocks=3, patches={}, patches_replace={}
    )
    right = options(sigmas=torch.tensor([0.1]))
    assert keys.call_keys(left, None) == keys.call_keys(right, None)


def test_a_patch_made_anew_for_every_call_is_the_same_patch() -> None:
    def make(strength: float) -> Any:
        return lambda args: args * strength

    left = options(patches_replace={"dit": {("single_block", 0): make(1.0)}})
    right = options(patches_replace={"dit": {("single_block", 0): make(1.0)}})
    assert keys.call_keys(left, None) == keys.call_keys(right, None)


def test_patches_may_be_objects_and_bound_methods() -> None:
    class Patch:
        def __call__(self, args: Any) -> Any:
            return args

        def method(self, args: Any) -> Any:
            return args

    by_object = keys.call_keys(options(patches={"input": [Patch()]}), None)
    by_method = keys.call_keys(options(patches={"input": [Patch().method]}), None)
    assert by_object == keys.call_keys(options(patches={"input": [Patch()]}), None)
    assert by_method == keys.call_keys(options(patches={"input": [Patch().method]}), None)
    assert by_object != by_method


def test_the_strength_of_weight_hooks_is_part_of_the_key() -> None:
    hook = SimpleNamespace(strength=1.0)
    group = SimpleNamespace(hooks=[hook])
    before = keys.call_keys(options(), group)
    assert before == keys.call_keys(options(), group)
    assert before != keys.call_keys(options(), None)
    hook.strength = 0.5
    assert before != keys.call_keys(options(), group)
