"""The answer never says more than the table: how a correlation runs along the axis, what is usable, which protocol."""

import math

import pytest

from study.evidence.report import answers, cell_rows
from study.evidence.store import Store
from tests import spoken

DEPTH, DECAY = "model.depth", "training.weight_decay"
ROW = {
    "estimator": "exact", "protocol": "p", "kind": "stationary", "usable": 5, "total": 5, "seeds": 5, "test_rows": 1,
    "rows_used": 50, "rows_total": 50, "undefined": "", "resampled": "seeds", "level": 95.0, "trials": 5,
}  # fmt: skip


def _row(depth=1, decay=0.1, **given):
    mean = given.get("spearman", 0.5)
    ends = {"spearman_low": mean - 0.1, "spearman_high": mean + 0.1}
    return {**ROW, DEPTH: depth, DECAY: decay, "spearman": mean, **ends, **given}


@pytest.fixture
def experiment(tmp_path):
    return spoken.experiment(tmp_path)


def test_a_single_setting_is_told_from_its_lowest_to_its_highest_cell(experiment):
    rows = [_row(depth, spearman=mean) for depth, mean in ((1, 0.7), (2, 0.9), (3, 0.4), (4, 0.5))]
    rows[1] |= {"usable": 3, "undefined": "2 collapsed"}
    first, second = answers.sentences(experiment, rows)
    assert first == (
        "Against leave-one-out retraining to a certified minimum (“p”), the mean Spearman correlation of exact predictions "
        "varies with depth between 0.400 [0.300, 0.500] (depth 3) and 0.900 [0.800, 1.000] (depth 2, 3 of 5 usable), whose "
        "intervals do not overlap."
    )
    assert second.startswith("Each cell is a mean over 5 seeds and 1 test row, 200 of 200 removals")
    counts, level = answers.remarks(experiment, rows)
    assert counts == "exact, p: 18 of 20 correlations are usable (2 collapsed)."
    assert level == "Intervals: 95% crossed bootstrap, resampling seeds in 4 of 4 cells."


def test_of_several_settings_the_steadiest_and_the_least_steady_are_told(experiment):
    courses = {0.1: (0.9, 0.8, 0.85), 1e-4: (0.9, 0.2, 0.3), 0.0: (0.5, 0.45, 0.35)}
    rows = [_row(d, decay, spearman=m) for decay, means in courses.items() for d, m in enumerate(means, 1)]
    first = answers.sentences(experiment, rows)[0]
    assert (
        "varies with depth least of 3 settings for λ = 10⁻¹: between 0.800 [0.700, 0.900] (depth 2) and 0.900 "
        "[0.800, 1.000] (depth 1), whose intervals overlap; most for λ = 10⁻⁴: between 0.200 [0.100, 0.300] (depth 2) and "
        "0.900 [0.800, 1.000] (depth 1), whose intervals do not overlap." in first
    )
    two = answers.sentences(experiment, rows[:6])[0]
    assert "varies with depth least for λ = 10⁻¹: " in two
    assert "; most for λ = 10⁻⁴: " in two
    one_left = [row | {"spearman": math.nan, "usable": 0} if row[DECAY] == 0.1 else row for row in rows[:6]]
    assert "varies with depth for λ = 10⁻⁴: between" in answers.sentences(experiment, one_left)[0]


def test_a_setting_that_goes_along_with_the_axis_is_none(experiment):
    rows = [_row(1, 0.1, spearman=0.9), _row(2, 0.2, spearman=0.4), _row(3, 0.3, spearman=0.6)]
    assert (
        "varies with depth between 0.400 [0.300, 0.500] (depth 2) and 0.900 [0.800, 1.000] (depth 1), whose intervals do not "
        "overlap." in answers.sentences(experiment, rows)[0]
    )


def test_without_two_cells_in_any_setting_all_cells_are_told_together(experiment, tmp_path):
    own = spoken.experiment(tmp_path / "own", spoken.SPEC.replace("[sweep]", '[sweep]\n"model.width" = [5, 8]'))
    chosen = ((1, 0.1, 5, 0.9), (2, 0.1, 8, 0.4), (1, 0.2, 8, 0.5), (3, 0.2, 5, 0.6))
    rows = [_row(depth, decay, spearman=mean) | {"model.width": width} for depth, decay, width, mean in chosen]
    assert (
        "lies between 0.400 [0.300, 0.500] (width 8, depth 2, λ = 0.1) and 0.900 [0.800, 1.000] (width 5, depth 1, λ = 0.1), "
        "whose intervals do not overlap over 4 cells." in answers.sentences(own, rows)[0]
    )
    row = _row(spearman=0.5, spearman_low=math.nan, spearman_high=math.nan, resampled="nothing")
    assert answers.sentences(experiment, [row])[0].endswith("is 0.500 in the one cell.")
    assert answers.remarks(experiment, [row])[-1] == "No interval in 1 of 1 cells: nothing there is a sample."


def test_a_difference_within_intervals_is_said_to_be_one(experiment):
    pearson = {"pearson": 0.9, "pearson_low": 0.3, "pearson_high": 0.99}
    rows = [_row(spearman=0.97, **pearson), _row(2, spearman=0.9, **pearson)]
    rows[1] |= {"pearson": 0.6}
    assert "0.970 [0.870, 1.070] (depth 1), whose intervals overlap." in answers.sentences(experiment, rows)[0]
    assert answers.remarks(experiment, rows)[0] == (
        "exact, p: the Pearson correlation varies with depth between 0.600 [0.300, 0.990] (depth 2) and 0.900 [0.300, "
        "0.990] (depth 1), whose intervals overlap."
    )
    rows[0] |= {"spearman_low": math.nan, "resampled": "nothing"}
    rows[1] |= {"resampled": "seeds, tests, rows"}
    assert "whose intervals are not both known" in answers.sentences(experiment, rows)[0]
    remarks = answers.remarks(experiment, rows)
    assert "Intervals: 95% crossed bootstrap, resampling seeds, tests and rows in 1 of 2 cells." in remarks
    assert "No interval in 1 of 2 cells: nothing there is a sample." in remarks


def test_the_certified_protocol_leads_and_others_are_called_uncertified(experiment):
    rows = [_row(protocol="w", kind="warm", spearman=0.9), _row(protocol="c", spearman=0.2)]
    first, second = answers.sentences(experiment, rows)
    assert "“c”" in first
    assert "not certified" not in first
    assert (
        second
        == "Against further training from the trained network, not certified (“w”), it is 0.900 [0.800, 1.000] in the one cell."
    )
    assert answers.remarks(experiment, rows)[-1].startswith("Each cell is a mean over 5 seeds")


def test_other_estimators_are_named_and_the_further_ones_counted(experiment):
    rows = [_row(estimator=name, spearman=0.5) for name in ("exact", "a", "b", "c", "d")]
    rows[1] |= {"spearman": math.nan}
    second = answers.sentences(experiment, rows)[1]
    assert second.startswith("Of a predictions against the same no correlation is usable; against the same, that of b ")
    assert second.endswith("the tables hold 1 further combinations of estimator and protocol.")


def test_undefined_cells_and_lone_minima_are_said(experiment):
    rows = [
        _row(spearman=0.5, minima=1),
        _row(2, spearman=math.nan, usable=0, undefined="5 collapsed"),
    ]
    text = " ".join(answers.remarks(experiment, rows))
    assert "1 of 2 cells have no usable correlation" in text
    assert "in 1 of 2 cells all usable seeds reached the same minimum, which is one observation" in text
    assert answers.sentences(experiment, rows[1:]) == ["No spearman correlation is usable yet."]
    assert answers.remarks(experiment, rows[1:]) == []
    assert answers.sentences(experiment, []) == ["No spearman correlation is usable yet."]


def test_where_single_test_rows_lie_is_said_of_every_cell_up_to_some(experiment):
    ends = {"spearman_test_rows_low": 0.25, "spearman_test_rows_high": 0.75}
    rows = [_row(depth, **ends) for depth in (1, 2)]
    wanted = "exact, p: nine of ten test rows have a mean Spearman correlation of 0.25 to 0.75 (depth 1); 0.25 to 0.75 (depth 2)."
    assert answers.remarks(experiment, rows)[0] == wanted
    assert answers.remarks(experiment, [_row(**ends)])[0].endswith("of 0.25 to 0.75.")
    many = [_row(depth, **ends) for depth in range(20)]
    assert answers.remarks(experiment, many)[0].endswith("(depth 7); and 12 further cells.")


def test_one_line_from_the_tables_says_when_they_are_stale(tmp_path):
    tables = spoken.tables(tmp_path, leave_out=2)
    experiment, store = tables.experiment, Store(tmp_path / "results", "spoken_depth")
    assert answers.line(experiment, Store(tmp_path, "nowhere")) == ""
    assert "no tables yet" in answers.line(experiment, store)
    tables.write(store.folder / "tables")
    line = answers.line(experiment, store)
    assert line.startswith("spearman 0.")
    assert "(exact, stationary; 6 cells, " in line
    assert line.endswith("(unfinished, 16 of 18 trials)")
    whole = spoken.tables(tmp_path)
    assert "tables stale" in answers.line(experiment, store)
    whole.write(store.folder / "tables")
    finished = answers.line(experiment, store)
    assert "stale" not in finished
    assert "unfinished" not in finished
    assert "\n" not in finished
    other = spoken.experiment(tmp_path, spoken.SPEC.replace("gelu", "tanh"))
    assert "another spec" in answers.line(other, store)


def test_tables_and_their_files_answer_alike(tmp_path):
    tables = spoken.tables(tmp_path)
    tables.write(tmp_path / "tables")
    read, made = cell_rows.read(tmp_path / "tables" / "cells.csv"), tables.cells.to_dict("records")
    assert answers.sentences(tables.experiment, read, 18) == answers.sentences(tables.experiment, made, 18)
    assert answers.remarks(tables.experiment, read) == answers.remarks(tables.experiment, made)
