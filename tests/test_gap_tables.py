"""The tables, figure and report of gaps and verdicts, over records whose gaps are known."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from study.compute.trial import run_unit
from study.evidence import figures, report, verdicts
from study.evidence.figures import gaps as gap_figures
from study.evidence.figures import lines, style
from study.evidence.figures.material import Material
from study.evidence.report import cited, latex, verdict_tables
from study.evidence.store import Store
from study.evidence.tables import Tables
from study.evidence.tables import verdicts as verdict_table
from study.evidence.tables.gaps import QUANTITIES, WHOLE
from study.records import Record
from tests import cases, synthetic

ENTRIES = {
    "protocols": [{"kind": "cold", "name": "cold"}, {"kind": "stationary", "name": "stationary", "tolerance": 1e-9}],
    "estimators": [{"kind": "exact", "name": "exact", "damping": 0.0, "parameters": "all"},
                   {"kind": "exact", "name": "damped", "damping": 0.1, "parameters": "all"}],
}  # fmt: skip
NODES = ["cold", "stationary", "exact", "damped"]
NAMES = ["warm/cold + non-convergence", "linearisation", "damping"]
INJECTED = (0.5, 2.0, 0.25)  # root mean squares of the gaps, and their sign
EFFECT = 4.0
PROTOCOLS, ESTIMATORS = ("cold", "stationary"), ("exact", "damped")


def followed(record, injected=INJECTED, effect=EFFECT, nodes=NODES, sign=1.0):
    """The record with a path whose gaps have these root mean squares: two rows in three with the sign, one against it."""
    removed, tests = record.arrays["selected"].shape
    signs = sign * np.where(np.arange(removed) % 3 == 2, -1.0, 1.0)
    record.header["paths"] = {"one": list(nodes)}
    record.header["spec"] |= ENTRIES
    for quantity, scale in (("parameters", 10.0), ("outputs", 100.0), ("loss", 1.0)):
        sizes = scale * np.array(injected)[:, None] * np.ones(removed)
        whole = scale * effect * np.ones(removed)
        if quantity != "parameters":
            sizes, whole = sizes[..., None].repeat(tests, -1), whole[:, None].repeat(tests, -1)
        along = signs if quantity == "parameters" else signs[:, None]
        record.arrays[f"effect/one/{quantity}"] = whole
        record.arrays[f"gap/one/{quantity}"] = sizes * along if quantity == "loss" else sizes
        if quantity != "loss":
            record.arrays[f"gap/one/{quantity}_signed"] = sizes * along
    return record


def filled(folder, experiment, change=lambda trial, record: followed(record), **options):
    store = Store(folder, "synthetic")
    for trial in experiment.trials:
        record = synthetic.record(trial, protocols=PROTOCOLS, estimators=ESTIMATORS, **options)
        change(trial, record)
        store.write(record)
    return store


def test_injected_gaps_are_found_again(tmp_path):
    experiment = synthetic.experiment(seeds=3)
    table = Tables(experiment, filled(tmp_path, experiment, tests=(3, 7))).gaps
    assert len(table) == 2 * (3 * 3 + 1)  # cells; gaps in every quantity and the whole path in the loss
    for quantity, scale in (("parameters", 10.0), ("outputs", 100.0), ("loss", 1.0)):
        own = table[(table["quantity"] == quantity) & (table["position"] > 0)]
        assert own["name"].tolist() == 2 * NAMES
        assert list(zip(own["from"], own["to"], strict=True)) == 2 * [*pairwise(NODES)]
        np.testing.assert_allclose(own["rms"], 2 * [scale * size for size in INJECTED])
        np.testing.assert_allclose(own["effect"], scale * EFFECT)
        np.testing.assert_allclose(own["relative"], own["rms"] / own["effect"])
        np.testing.assert_allclose(own["signed"], own["rms"] / 3)  # of 30 rows 20 with the sign, 10 against it
        np.testing.assert_allclose(own["relative_signed"], own["relative"] / 3)
    whole = table[table["position"] == 0]
    assert set(whole["name"]) == {WHOLE}
    np.testing.assert_allclose(whole["rms"], sum(INJECTED))
    assert set(table["usable"]) == set(table["total"]) == {6}
    assert set(table["rows_used"]) == {6 * 30}
    np.testing.assert_allclose(table["relative_low"], table["relative"], rtol=1e-9)  # nothing varies


def test_means_are_over_comparisons_and_have_their_interval(tmp_path):
    experiment = synthetic.experiment({}, seeds=4)
    sizes = {0: 1.0, 1: 2.0, 2: 4.0, 3: 8.0}

    def change(trial, record):
        followed(record, injected=[sizes[trial.settings.seed], 0.0, 1.0])

    table = Tables(experiment, filled(tmp_path, experiment, change)).gaps
    first, none, equal = (table[(table["quantity"] == "loss") & (table["position"] == k)].iloc[0] for k in (1, 2, 3))
    assert first["relative"] == pytest.approx(np.mean([*sizes.values()]) / EFFECT)
    assert 0 < first["relative_low"] < first["relative"] < 2.0 < first["relative_high"]
    assert first["resampled"] == "seeds, rows"
    assert none["relative"] == 0
    assert equal["relative_low"] == pytest.approx(equal["relative"])


def test_only_rows_that_count_on_both_sides_are_used(tmp_path):
    """Uncertified rows of a node leave its two gaps, not the third; what is not finite leaves its own."""
    experiment = synthetic.experiment({}, seeds=1)

    def change(trial, record):
        followed(record)
        record.arrays["certificate/stationary/certified"][[4, 9]] = False  # the first is the null's: rows 3 and 8
        record.arrays["gap/one/loss"][:2, [3, 8]] = 1e6
        record.arrays["gap/one/loss"][2, 5] = np.nan
        record.arrays["gap/one/loss"][2, 6] = np.inf
        record.arrays["selected"][7] = False
        record.arrays["gap/one/loss"][:, 7] = 1e6

    table = Tables(experiment, filled(tmp_path, experiment, change)).gaps
    loss = table[(table["quantity"] == "loss") & (table["position"] > 0)]
    np.testing.assert_allclose(loss["rms"], INJECTED)
    assert loss["rows_used"].tolist() == [27, 27, 27]
    assert set(loss["rows_total"]) == {29}


def test_undefined_trials_are_counted_and_left_out(tmp_path):
    experiment = synthetic.experiment({}, seeds=4)

    def change(trial, record):
        followed(record)
        seed = trial.settings.seed
        if seed == 1:
            record.header["flags"].append("collapsed")
        if seed == 2:
            record.arrays["certificate/stationary/certified"][:] = False
        if seed == 3:
            record.arrays["effect/one/loss"][:] = 0.0
            record.arrays["gap/one/parameters"][2] = np.nan

    table = Tables(experiment, filled(tmp_path, experiment, change)).gaps.set_index(["quantity", "position"])
    assert set(table.loc[("loss", 1), "undefined"].split(", ")) == {"1 collapsed", "1 no certified row", "1 no effect"}
    assert table.loc[("loss", 1), "usable"] == 1
    assert set(table.loc[("loss", 3), "undefined"].split(", ")) == {"1 collapsed", "1 no effect"}
    assert table.loc[("parameters", 3), "undefined"].split(", ")[-1] == "1 unknown"
    assert set(table["total"]) == {4}
    np.testing.assert_allclose(table.loc[("loss", 1), "rms"], INJECTED[0])


def test_a_trial_that_does_not_follow_a_path_is_in_no_row_of_it(tmp_path):
    experiment = synthetic.experiment({}, seeds=3)

    def change(trial, record):
        if trial.settings.seed:
            followed(record)

    tables = Tables(experiment, filled(tmp_path / "some", experiment, change))
    assert set(tables.gaps["total"]) == {2}
    nothing = Tables(experiment, filled(tmp_path / "none", experiment, lambda trial, record: None))
    assert nothing.gaps.empty
    names = [path.name for path in nothing.write(tmp_path / "tables")]
    assert "gaps.csv" not in names
    assert "verdicts.csv" in names
    names = [path.name for path in tables.write(tmp_path / "tables")]
    assert "gaps.csv" in names


def test_verdicts_name_the_largest_gap_between_protocol_and_estimator(tmp_path):
    experiment = synthetic.experiment({"model.depth": [1, 2, None]}, seeds=3)

    def change(trial, record):
        sizes = {1: (0.5, 2.0, 0.25), 2: (3.0, 1.0, 1.0), None: (1.0, 1.0, 1.0)}[trial.swept["model.depth"]]
        followed(record, injected=sizes)

    table = Tables(experiment, filled(tmp_path, experiment, change, noise=3.0)).verdicts
    assert len(table) == 3 * 4
    found = {(None if pd.isna(row["model.depth"]) else row["model.depth"], row["protocol"], row["estimator"]): row
             for row in table.to_dict("records")}  # fmt: skip
    expected = {
        (1, "cold", "exact"): ("linearisation", 2 / 2.5), (1, "cold", "damped"): ("linearisation", 2 / 2.75),
        (1, "stationary", "exact"): ("linearisation", 1.0), (1, "stationary", "damped"): ("linearisation", 2 / 2.25),
        (2, "cold", "exact"): (NAMES[0], 3 / 4), (2, "cold", "damped"): (NAMES[0], 3 / 5),
        (2, "stationary", "damped"): ("linearisation", 1 / 2), (None, "cold", "damped"): ("mixed", 1 / 3),
    }  # fmt: skip
    for key, (word, share) in expected.items():
        assert found[key]["verdict"] == word, key
        assert found[key]["largest_share"] == pytest.approx(share)
        assert found[key]["path"] == "one"
    assert table["reliability"].isna().all()


def test_without_paths_a_verdict_says_so_and_faithful_cells_are_faithful(tmp_path):
    experiment = synthetic.experiment({"model.depth": [1, 2]}, seeds=3)
    store = Store(tmp_path, "synthetic")
    for trial in experiment.trials:
        store.write(synthetic.record(trial, noise=0.01 if trial.swept["model.depth"] == 1 else 3.0))
    table = Tables(experiment, store).verdicts
    assert table["verdict"].tolist() == ["faithful", "unfaithful (no path)"]
    assert (table["path"] == "").all()
    assert table.loc[0, "correlation_low"] > 0.9
    cells = Tables(experiment, store).cells
    np.testing.assert_allclose(table["correlation"], cells["spearman"])


def test_perfect_ranks_are_faithful_though_they_have_no_interval(tmp_path):
    experiment = synthetic.experiment({}, seeds=3)
    tables = Tables(experiment, filled(tmp_path, experiment, noise=0.0))
    assert tables.cells["spearman_low"].isna().all()
    assert set(tables.verdicts["verdict"]) == {"faithful"}
    assert set(tables.verdicts["correlation_low"]) == {1.0}


def test_collapsed_cells_and_noisy_truths(tmp_path):
    experiment = synthetic.experiment({"model.depth": [1, 2, 3]}, seeds=4)
    flagged = {1: ("collapsed", 3), 2: ("diverged", 3), 3: ("collapsed", 1)}

    def change(trial, record):
        flag, most = flagged[trial.swept["model.depth"]]
        if trial.settings.seed < most:
            record.header["flags"].append(flag)

    tables = Tables(experiment, filled(tmp_path, experiment, change, noise=0.01))
    table = tables.verdicts
    own = table[(table["estimator"] == "exact") & (table["protocol"] == "stationary")]
    assert own["verdict"].tolist() == ["collapsed", "undefined", "faithful"]
    assert own["collapsed"].tolist() == [3, 0, 1]
    everywhere = synthetic.experiment({}, seeds=2)
    none = filled(tmp_path / "all", everywhere, lambda trial, record: record.header["flags"].append("collapsed"))
    lost = Tables(everywhere, none).verdicts
    assert lost["verdict"].unique().tolist() == ["collapsed"]
    assert lost[["correlation", "correlation_low", "correlation_high"]].isna().all(axis=None)
    keys = ["model.depth", "estimator", "protocol"]
    reliability = tables.cells[keys].assign(reliability=0.3, reliability_low=0.1, reliability_high=0.5)
    reliability = reliability[reliability["protocol"] == "cold"]
    found = verdict_table.build(tables.readings, tables.agreement, tables.cells, tables.gaps, reliability)
    last = found[found["model.depth"] == 3].set_index(["protocol", "estimator"])
    assert last.loc[("cold", "exact"), "verdict"] == verdicts.NOISY
    assert last.loc[("cold", "exact"), "reliability_high"] == 0.5
    assert last.loc[("stationary", "exact"), "verdict"] == "faithful"
    assert np.isnan(last.loc[("stationary", "exact"), "reliability"])
    assert found[found["model.depth"] == 1]["verdict"].unique().tolist() == ["collapsed"]


PATHS = {"hessian": ["cold", "warm", "stationary", "exact", "damped"], "bregman": ["warm", "near", "pbrf", "quadratic", "ggn"]}


def test_tables_over_real_trials(tmp_path):
    asked = {
        "training.optimizer": "adam", "training.steps": 60, "training.learning_rate": 0.05, "points.train": "random",
        "points.train_count": 8, "paths": PATHS,
        "estimators": [{"kind": "exact"}, {"kind": "exact", "name": "damped", "damping": 0.05}, {"kind": "ggn", "damping": 0.01}],
        "protocols": [{"kind": "cold"}, {"kind": "warm", "steps": 20}, {"kind": "stationary"},
                      {"kind": "proximal", "name": "near", "damping": 0.01}, {"kind": "pbrf", "damping": 0.01},
                      {"kind": "linearised_pbrf", "name": "quadratic", "damping": 0.01}],
    }  # fmt: skip
    found = cases.trials(tmp_path, asked, {"seed": [0, 1], "model.depth": [1, 2]})
    store = Store(tmp_path, "case")
    for record in run_unit(found):
        assert isinstance(record, Record), record
        store.write(record)
    experiment = SimpleNamespace(
        name="case", question="", primary="spearman", trials=found, swept_paths=["model.depth"], text="", overrides=(), twins=()
    )
    tables = Tables(experiment, store)
    loss = tables.gaps[tables.gaps["quantity"] == "loss"]
    own = loss[(loss["path"] == "bregman") & (loss["position"] > 0) & (loss["model.depth"] == 1)]
    assert own["name"].tolist() == ["proximity", "non-convergence + residual curvature", "linearisation", "solver"]
    assert (own["usable"] == own["total"]).all()
    assert own["relative"].iloc[-1] < 1e-8 < own["relative"].iloc[0]
    record = store.read(found[0].key)
    direct = record.arrays["actual/warm"] - record.arrays["actual/cold"]
    rms = np.sqrt(np.square(direct).mean(axis=0))
    effect = np.sqrt(np.square(record.arrays["actual/cold"]).mean(axis=0))
    one = Tables(SimpleNamespace(**{**vars(experiment), "trials": found[:1]}), store).gaps
    first = one[(one["path"] == "hessian") & (one["quantity"] == "loss") & (one["position"] == 1)].iloc[0]
    assert first["rms"] == pytest.approx(rms.mean())
    assert first["relative"] == pytest.approx((rms / effect).mean())
    assert set(tables.verdicts["path"]) == {"", "hessian", "bregman"}
    assert len(tables.verdicts) == 2 * 3 * 6
    page = report.page(tables)
    assert "Gaps by cell and path" in page
    assert "Verdicts and gaps" in page


@pytest.mark.filterwarnings("error::UserWarning")
def test_the_figure_stacks_what_the_table_says(tmp_path):
    experiment = synthetic.experiment({"model.depth": [1, 2, 3], "training.weight_decay": [0.005, 0.001]}, seeds=3)

    def change(trial, record):
        depth = trial.swept["model.depth"]
        followed(record, injected=[0.1 * depth, 0.4, 0.2], sign=-1.0 if depth == 2 else 1.0)
        if depth == 2:
            record.arrays["gap/one/loss"][:] = -np.abs(record.arrays["gap/one/loss"])

    material = Material(Tables(experiment, filled(tmp_path, experiment, change)))
    drawn = dict(figures.plan(material))["gaps_one_against_model_depth"]()
    table = material.tables.gaps
    table = table[table["quantity"] == "loss"]
    assert [axes.get_title() for axes in drawn.axes] == ["λ = 0.005", "λ = 0.001"]
    for axes, decay in zip(drawn.axes, (0.005, 0.001), strict=True):
        own = table[table["training.weight_decay"] == decay]
        bars = [bar for bar in axes.patches if bar.get_gid() == "gap"]
        assert len(bars) == 9
        for k, bar in enumerate(bars):
            depth, position = k // 3 + 1, k % 3 + 1
            row = own[(own["model.depth"] == depth) & (own["position"] == position)].iloc[0]
            assert bar.get_height() == pytest.approx(row["relative"])
            assert bar.get_x() + bar.get_width() / 2 == pytest.approx(depth)
            before = own[(own["model.depth"] == depth) & own["position"].between(1, position - 1)]["relative"].sum()
            assert bar.get_y() == pytest.approx(before)
            assert bar.get_hatch() == style.gap_fill(row["name"])["hatch"]
        wholes = [line.get_ydata()[0] for line in axes.lines if line.get_gid() == "whole"]
        np.testing.assert_allclose(wholes, own[own["position"] == 0]["relative"])
        signs = {text.get_text() for text in axes.texts if text.get_gid() == "sign"}
        assert signs == {"−"}  # at depth 2 alone are all changes smaller
    legend = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert legend[:3] == NAMES


def test_a_bar_that_is_far_too_high_is_cut_and_says_how_high_it_is(tmp_path):
    experiment = synthetic.experiment({"model.depth": [1, 2, 3]}, seeds=2)

    def change(trial, record):
        followed(record, injected=[400.0 if trial.swept["model.depth"] == 3 else 0.4, 0.4, 0.2])

    material = Material(Tables(experiment, filled(tmp_path, experiment, change)))
    [axes] = gap_figures.gaps(material, "one").axes
    assert axes.get_ylim()[1] < 4
    assert [text.get_text() for text in axes.texts if text.get_gid() == "beyond"] == ["100"]


def test_there_is_no_figure_without_an_axis_or_a_path(tmp_path):
    alone = synthetic.experiment({}, seeds=2)
    assert not list(gap_figures.paths(Material(Tables(alone, filled(tmp_path / "alone", alone)))))
    swept = synthetic.experiment({"model.depth": [1, 2]}, seeds=2)
    without = Tables(swept, filled(tmp_path / "without", swept, lambda trial, record: None))
    assert not list(gap_figures.paths(Material(without)))


def test_one_damping_for_a_whole_path_is_one_axis(tmp_path):
    """Two keys that always have the same value make one line, not one per value."""
    names = ["estimators.damped.damping", "protocols.near.damping"]
    trials = [
        synthetic.Trial(SimpleNamespace(seed=seed), f"{k}{seed}".ljust(64, "a"), dict.fromkeys(names, value))
        for k, value in enumerate((0.01, 0.1, 1.0)) for seed in (0, 1)
    ]  # fmt: skip
    experiment = synthetic.Experiment(trials=trials, swept_paths=names)
    tables = Tables(experiment, filled(tmp_path, experiment))
    sweep = lines.Sweep(tables.readings)
    assert (sweep.axis, sweep.rest) == (names[0], [])
    [axes] = gap_figures.gaps(Material(tables), "one").axes
    assert len([bar for bar in axes.patches if bar.get_gid() == "gap"]) == 9
    assert axes.get_xlabel() == "Damping"
    assert [column.label for column in verdict_tables.gaps(tables).columns][:2] == ["damping", "gap"]
    apart = [synthetic.Trial(t.settings, t.key, {**t.swept, names[1]: 0.5 * t.swept[names[1]]}) for t in trials]
    other = Tables(synthetic.Experiment(trials=apart, swept_paths=names), Store(tmp_path, "synthetic"))
    assert (lines.Sweep(other.readings).rest, list(lines.Sweep(other.readings).tied)) == ([], [names[1]])


def test_the_report_says_gaps_and_verdicts_in_words(tmp_path):
    experiment = SimpleNamespace(**vars(synthetic.experiment(seeds=2)), text="")
    tables = Tables(experiment, filled(tmp_path, experiment, noise=3.0))
    found = verdict_tables.gaps(tables)
    assert [column.label for column in found.columns] == [
        "depth", "gap", "between", "in test loss", "signed", "in outputs", "in parameters", "effect", "usable",
    ]  # fmt: skip
    assert len(found.rows) == 2 * 4
    assert [cell.text for cell in found.rows[1]][:3] == ["1", "linearisation", "stationary → exact"]
    assert found.rows[1][3].text.startswith("0.5")
    assert found.rows[1][5].text == found.rows[1][6].text == "0.5"
    whole = found.rows[3]
    assert [cell.text for cell in whole][1:3] == [WHOLE, "cold → damped"]
    assert (whole[5].text, whole[6].text) == ("–", "–")
    said = verdict_tables.verdicts(tables)
    assert [column.label for column in said.columns] == [
        "depth", "estimator", "protocol", "verdict", "largest gap", "its share", "spearman correlation", "slope", "usable",
    ]  # fmt: skip
    page = report.page(tables)
    assert '<section id="verdicts">' in page
    nothing = Tables(experiment, filled(tmp_path / "none", experiment, lambda trial, record: None))
    assert verdict_tables.gaps(nothing) is None
    page = report.page(nothing)
    assert '<section id="verdicts">' in page
    assert "Gaps by cell" not in page


def test_a_citation_has_every_gap(tmp_path):
    experiment = SimpleNamespace(**vars(synthetic.experiment(seeds=2)), text="")
    tables = Tables(experiment, filled(tmp_path, experiment))
    numbers = dict(cited.gap_numbers(tables, ["model.depth"]))
    assert len(numbers) == len(tables.gaps) * len(cited.GAP_COLUMNS)
    for row in tables.gaps.to_dict("records"):
        base = ("synthetic", "Gap", "one", "from", row["from"], "to", row["to"], "At", "depth", str(row["model.depth"]))
        assert numbers[(*base, row["quantity"], "relative_low")] == latex.number(row["relative_low"])
        assert numbers[(*base, row["quantity"], "usable")] == "2"
    first = cited.gap_sentences(tables)[0]
    assert first.startswith(f"  depth 1, one: {NAMES[0]} (cold → stationary) 0.125")
    assert "; linearisation (stationary → exact) 0.5 [" in first
    nothing = Tables(experiment, filled(tmp_path / "none", experiment, lambda trial, record: None))
    assert cited.gap_sentences(nothing) == cited.gap_numbers(nothing, ["model.depth"]) == []


def test_quantities_are_those_of_the_record(tmp_path):
    record = cases.record(tmp_path, {"points.train": "random", "points.train_count": 4, "paths": {"p": ["stationary", "exact"]}})
    assert {name.split("/")[2] for name in record.arrays if name.startswith("effect/")} == set(QUANTITIES)
