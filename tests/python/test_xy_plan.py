"""The lists on First Block Cache XY: what they mean, and the sentence for what they cannot mean."""

from __future__ import annotations

import pytest

from wavespeed.xy_plan import CELLS_MAX, LINES_MAX, Column, Plan, Row, make_plan, read_names, read_numbers

SAMPLERS = ("euler", "heun", "dpmpp_2m")


def numbers(count: int) -> list[float]:
    return [1 + number / 10 for number in range(count)]


def refuse_small(value: float) -> None:
    if not value >= 1:
        raise ValueError(f"speedup is {value:g}; it must be between 1 and 10.")


def test_columns_and_rows_stand_in_the_order_of_the_lists() -> None:
    plan = make_plan(["forecast", "classic"], [2.0, 1.5], [0.1], ["heun", "euler"], ["simple", "beta"])
    assert plan == Plan(
        columns=(
            Column("forecast", 0.0, 2.0),
            Column("forecast", 0.0, 1.5),
            Column("forecast", 0.1, 0.0),
            Column("classic", 0.0, 2.0),
            Column("classic", 0.0, 1.5),
            Column("classic", 0.1, 0.0),
        ),
        rows=(Row("heun", "simple"), Row("heun", "beta"), Row("euler", "simple"), Row("euler", "beta")),
    )
    assert [column.knob for column in plan.columns[:3]] == ["speedup 2", "speedup 1.5", "threshold 0.1"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("euler", ["euler"]),
        (" euler ,heun", ["euler", "heun"]),
        ("heun, euler, heun,", ["heun", "euler"]),
        (",,dpmpp_2m,", ["dpmpp_2m"]),
        ("euler\n,heun", ["euler", "heun"]),
    ],
)
def test_names_are_read_with_any_spaces_and_each_once(text: str, names: list[str]) -> None:
    assert read_names("samplers", text, SAMPLERS) == names


@pytest.mark.parametrize("text", ["", "  ", ",", " , ,"])
def test_an_empty_list_of_names_is_answered_with_those_there_are(text: str) -> None:
    sentence = "samplers is empty; it takes one or several of these, with commas between them: euler, heun, dpmpp_2m."
    with pytest.raises(ValueError, match="empty") as caught:
        read_names("samplers", text, SAMPLERS)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("entry", ["eulr", "Euler", "euler;heun", "euler heun", "🦆"])
def test_an_unknown_name_is_answered_with_those_there_are(entry: str) -> None:
    with pytest.raises(ValueError, match="must be one of these") as caught:
        read_names("samplers", f"heun, {entry}", SAMPLERS)
    assert str(caught.value) == f"samplers holds {entry!r}; it must be one of these: euler, heun, dpmpp_2m."


def test_a_very_long_name_is_cut_in_the_sentence() -> None:
    with pytest.raises(ValueError, match="samplers holds") as caught:
        read_names("samplers", "x" * 100_000, SAMPLERS)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "numbers"), [("", []), (" , ", []), ("1.5, 2,3", [1.5, 2.0, 3.0]), ("2, 2.0, 2e0", [2.0])]
)
def test_numbers_are_read_each_once(text: str, numbers: list[float]) -> None:
    assert read_numbers("speedups", text, "2", refuse_small) == numbers


@pytest.mark.parametrize("entry", ["two", "1.5 2", "1;2", "2x", "--1"])
def test_what_is_no_number_is_answered_with_an_example(entry: str) -> None:
    with pytest.raises(ValueError, match="no number") as caught:
        read_numbers("speedups", f"2, {entry}", "1.5, 2, 3", refuse_small)
    assert str(caught.value) == (
        f"speedups holds {entry!r}, which is no number; "
        "it takes numbers with commas between them, for example 1.5, 2, 3."
    )


@pytest.mark.parametrize("entry", ["0.5", "-1", "nan", "-inf"])
def test_a_number_out_of_range_has_the_sentence_of_its_check(entry: str) -> None:
    with pytest.raises(ValueError, match=r"it must be between 1 and 10\.$"):
        read_numbers("speedups", f"2, {entry}", "2", refuse_small)


def test_a_grid_without_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="speedups and thresholds are both empty; give at least one number"):
        make_plan(["forecast"], [], [], ["euler"], ["simple"])


@pytest.mark.parametrize(("columns", "rows"), [(CELLS_MAX // 8, 8), (LINES_MAX, 2), (1, LINES_MAX)])
def test_a_grid_may_be_as_large_as_the_limits(columns: int, rows: int) -> None:
    plan = make_plan(["forecast"], numbers(columns), [], ["euler"], [str(row) for row in range(rows)])
    assert (len(plan.columns), len(plan.rows)) == (columns, rows)


@pytest.mark.parametrize(("speedups", "samplers"), [(LINES_MAX // 2, 1), (4, 8), (0, LINES_MAX + 1)])
def test_a_larger_grid_is_refused_with_what_makes_it_large(speedups: int, samplers: int) -> None:
    with pytest.raises(ValueError, match="at most 24 of each and 64 cells are allowed") as caught:
        make_plan(["forecast", "classic"], numbers(speedups), [0.1], [str(row) for row in range(samplers)], ["simple"])
    assert str(caught.value).startswith(
        f"The grid would have {2 * (speedups + 1)} columns (2 x {speedups + 1}: strategies, speedups and thresholds) "
        f"and {samplers} rows ({samplers} x 1: samplers, schedulers);"
    )
