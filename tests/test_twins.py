"""Twins: matching by hand, mistakes in words, paired differences against slow loops, the figure and the report."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from study import cli, images, sweep, trials
from study.errors import StudyError
from study.evidence import figures, report
from study.evidence.figures.material import Material
from study.evidence.report import cited, latex, twin_table
from study.evidence.statistics import paired
from study.evidence.statistics.bootstrap import Sampled, mean_interval
from study.evidence.statistics.metrics import compared, measured
from study.evidence.store import Store
from study.evidence.tables import Tables
from study.specs import Twin
from study.specs.twins import pairs
from tests import image_files, synthetic
from tests.experiments import ROOT

SPEC = """
name = "small"
[data]
name = "iris"
test_rows = [83]
[model]
kind = "mlp"
[training]
steps = 10
[[estimators]]
kind = "exact"
[[estimators]]
kind = "identity"
[[protocols]]
kind = "warm"
[[protocols]]
name = "certified"
kind = "stationary"
{twins}
[[sweep]]
"model.depth" = [1, 2, 3]
"points.train" = ["highest_loss"]
"points.train_count" = [5]
protocols = [["warm"]]
seed = [0, 1]
[[sweep]]
"model.depth" = [2, 3, 4]
"training.polish" = [true]
protocols = [["certified"]]
seed = [0, 1]
"""
CERTIFY = """[[twins]]
name = "certify"
published = { estimator = "exact", protocol = "warm", "training.polish" = false, "points.train" = "highest_loss",
 "points.train_count" = 5 }
corrected = { estimator = "exact", protocol = "certified", training.polish = true, "points.train" = "all" }
""".replace(",\n", ",")
SOLVER = """[[twins]]
name = "solver"
published = {{ estimator = "identity" }}
corrected = {{ estimator = "exact" }}
{more}
"""


def load(folder, twins, overrides=()):
    path = folder / "small.toml"
    path.write_text(SPEC.format(twins=twins))
    return trials.load(path, overrides)


def matched(experiment, twin=0):
    cells = [
        {"estimator": e.name, "protocol": p.name, **t.swept}
        for t in experiment.trials for e in t.settings.estimators for p in t.settings.protocols
    ]  # fmt: skip
    distinct = list({json.dumps(cell): cell for cell in cells}.values())
    return pairs(experiment.twins[twin], distinct)


def test_cells_are_matched_on_all_that_neither_side_names(tmp_path):
    found = matched(load(tmp_path, CERTIFY.replace('"points.train_count" = 5', "points.train_count = 5")))
    assert [(one["model.depth"], other["model.depth"]) for one, other in found] == [(2, 2), (3, 3)]
    assert {one["protocol"] for one, _ in found} == {"warm"}
    assert {other["training.polish"] for _, other in found} == {True}
    solved = matched(load(tmp_path, SOLVER.format(more="")))
    assert [(one["protocol"], one["model.depth"]) for one, _ in solved] == [
        *itertools.product(["warm"], [1, 2, 3]), *itertools.product(["certified"], [2, 3, 4])
    ]  # fmt: skip
    assert all({**one, "estimator": ""} == {**other, "estimator": ""} for one, other in solved)
    only = matched(load(tmp_path, SOLVER.format(more='where = { "model.depth" = [1, 4] }')))
    assert [one["model.depth"] for one, _ in only] == [1, 4]


def test_matching_agrees_with_every_pair_looked_at():
    """Against a loop over all pairs of cells, for random labels."""
    generator = np.random.default_rng(0)
    names = ["estimator", "protocol", "a", "b"]
    for _ in range(50):
        cells = [dict(zip(names, row, strict=True)) for row in itertools.product("xy", "pq", [1, 2], [True, None])]
        cells = [cell for cell in cells if generator.random() < 0.7]
        twin = Twin(name="t", published={"estimator": "x", "b": None}, corrected={"estimator": "y", "b": True})
        expected = [
            (one, other) for one in cells for other in cells
            if one["estimator"] == "x" and one["b"] is None and other["estimator"] == "y" and other["b"] is True
            and one["protocol"] == other["protocol"] and one["a"] == other["a"]
        ]  # fmt: skip
        assert pairs(twin, cells) == expected


def test_twins_are_no_part_of_a_trial(tmp_path):
    without, with_twins = load(tmp_path, ""), load(tmp_path, SOLVER.format(more=""))
    assert [trial.key for trial in without.trials] == [trial.key for trial in with_twins.trials]
    assert (without.twins, with_twins.twins[0].name) == ((), "solver")
    assert load(tmp_path, SOLVER.format(more=""), ["twins=[]"]).twins == ()


def one(published="", corrected="", more=""):
    return f'[[twins]]\nname = "t"\npublished = {{ {published} }}\ncorrected = {{ {corrected} }}\n{more}\n'


EXACT, IDENTITY = 'estimator = "exact"', 'estimator = "identity"'
MISTAKES = [
    (one('estimator = "exat"', IDENTITY), ['published "estimator" = "exat"', 'did you mean "exact"?']),
    (one(f'{EXACT}, protocol = "wrm"', f'{IDENTITY}, protocol = "warm"'), ["no such protocol", 'did you mean "warm"?']),
    (one(EXACT, f'{IDENTITY}, "model.dept" = 1'), ['corrected "model.dept"', 'did you mean "model.depth"?']),
    (one(EXACT, f"{IDENTITY}, depth = 1"), ['"depth"', 'did you mean "model.depth"?']),
    (one(EXACT, f'{IDENTITY}, "model.width" = 1'), ['"model.width"', "neither estimator, protocol nor a swept path"]),
    (one(EXACT, f'{IDENTITY}, "model.depth" = 9'), ['"model.depth" = 9', "no trial has this value", "1, 2, 3, 4"]),
    (one(EXACT, f'{IDENTITY}, "points.train" = "al"'), ['"points.train" = "al"', 'did you mean "all"?']),
    (one(EXACT, f'{IDENTITY}, "training.polish" = 1'), ['"training.polish" = 1', "no trial has this value"]),
    (one(EXACT, f"{IDENTITY}, seed = 1"), ['"seed"', "varies within a cell"]),
    (one(EXACT, f'{IDENTITY}, "data.test_rows" = [83]'), ['"data.test_rows"', "varies within a cell"]),
    (one(f'{EXACT}, protocol = "warm", "training.polish" = true', f'{EXACT}, protocol = "certified", "training.polish" = true'),
     ["published: no cell has all of", 'protocol = "warm"', "training.polish = true"]),
    (one('protocol = "warm"', 'protocol = "certified"'),
     ["no published cell has a corrected one", '"points.train"', '"training.polish"', "which no side names"]),
    (one('protocol = "warm", "model.depth" = 1', 'protocol = "warm"'),
     ['corrected: it takes "model.depth" = 1 and 2 and 3 alike', "name one of them"]),
    (one(EXACT, EXACT), ["published and corrected are the same cell"]),
    (one(EXACT, EXACT, 'absolute = "both"'), ["published and corrected are the same cell"]),
    (one(EXACT, IDENTITY, 'where = { "model.depth" = 1 }'), ['where "model.depth" = 1', "a list of values"]),
    (one(EXACT, IDENTITY, 'where = { "model.depth" = [9] }'), ['where "model.depth" = 9', "no trial has this value"]),
    (one(EXACT, IDENTITY) * 2, ['two are called "t"']),
    (one(EXACT, IDENTITY, 'absolute = "publshed"'), ['twins "t".absolute = "publshed"', 'did you mean "published"?']),
    (one(EXACT, IDENTITY, "raww = 1"), ['twins "t".raww = 1', 'did you mean "raw"?']),
    ('[[twins]]\nname = "t"\npublished = {}\n', ['twins "t".corrected', "missing"]),
    ("[twins]\nname = 1\n", ["twins", "[[twins]]"]),
]  # fmt: skip


@pytest.mark.parametrize(("twins", "said"), MISTAKES)
def test_a_mistake_is_told_before_any_work(tmp_path, twins, said):
    with pytest.raises(StudyError) as caught:
        load(tmp_path, twins)
    assert all(part in str(caught.value) for part in said), caught.value
    assert "\n" not in str(caught.value)


def test_the_sweep_cannot_hold_twins(tmp_path):
    with pytest.raises(StudyError, match="twins describes the whole experiment"):
        load(tmp_path, '[[sweep]]\n"twins" = [1]\n')


def comparisons(seeds=6, tests=3, rows=40, noise=(0.8, 0.3)):
    """One truth predicted twice, the second time better: values [K, rows] of both sides, and the labels of K."""
    generator = np.random.default_rng(1)
    actual = generator.normal(size=(seeds, tests, rows)) + generator.normal(size=(seeds, 1, 1)) * 0.5
    sides = [compared(*((actual + size * generator.normal(size=actual.shape)).reshape(-1, rows), actual.reshape(-1, rows)))
             for size in noise]  # fmt: skip
    return sides, np.repeat(np.arange(seeds), tests), np.tile(np.arange(tests), seeds)


@pytest.mark.parametrize("unsigned", [False, True])
def test_a_paired_difference_is_the_mean_of_single_differences(unsigned):
    (first, second), seeds, tests = comparisons(noise=(30.0, 0.3))
    sampled = Sampled(seeds=True, tests=True, rows=False)
    sides = [paired.Side(values, rows=False, unsigned=unsigned) for values in (first, second)]
    found = paired.differences(*sides, seeds, tests, sampled)
    for metric in ("spearman", "slope", "sign_agreement", "mean_absolute_error"):
        one, other = (measured(values)[metric] for values in (first, second))
        if unsigned and metric == "spearman":
            one, other = np.abs(one), np.abs(other)
        ends = mean_interval("difference", other - one, seeds, tests, sampled, np.random.default_rng(paired.SEED))
        np.testing.assert_allclose(found[metric], (np.mean(other - one), *ends), rtol=1e-9, atol=1e-12)


def rank_correlation(a, b):
    return np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1]


def test_resampled_rows_are_the_same_on_both_sides():
    """Against a slow loop that draws seeds and rows; side by side the interval would be far wider."""
    (first, second), seeds, tests = comparisons(seeds=8, tests=1)
    sampled = Sampled(seeds=True, tests=False, rows=False)
    both = [paired.Side(values, rows=True) for values in (first, second)]
    estimate, low, high = paired.differences(*both, seeds, tests, sampled)["spearman"]
    generator = np.random.default_rng(7)
    draws = []
    for _ in range(250):
        chosen, rows = generator.integers(8, size=8), generator.integers(40, size=40)
        means = [np.mean([rank_correlation(side.predicted[k, rows], side.actual[k, rows]) for k in chosen])
                 for side in (first, second)]  # fmt: skip
        draws.append(means[1] - means[0])
    spread = (high - low) / 2
    assert low < estimate < high
    assert spread == pytest.approx(2.2 * np.std(draws), rel=0.25)  # between Student's 1.96 and 2.36, resamples a little narrow
    same = paired.differences(both[0], both[0], seeds, tests, sampled)["spearman"]
    assert same == (0.0, 0.0, 0.0)
    one_sided = paired.differences(paired.Side(first, rows=True), paired.Side(second, rows=False), seeds, tests, sampled)
    assert one_sided["spearman"][1] < low  # nothing is shared then


def test_medians_of_draws_are_those_of_a_slow_loop():
    generator = np.random.default_rng(3)
    values, seeds, tests = generator.normal(size=12), np.arange(12), np.zeros(12)
    sampled = Sampled(seeds=True, tests=False, rows=False)
    found = paired._medians(values, seeds, tests, sampled, 300)
    times = np.random.default_rng(paired.SEED).integers(12, size=(300, 12))
    np.testing.assert_allclose(found, [np.median(values[drawn]) for drawn in times])
    shifted = paired.median_difference(values, values + 0.5, seeds, tests, sampled)
    np.testing.assert_allclose(shifted, (0.5, 0.5, 0.5))
    nothing = Sampled(seeds=False, tests=False, rows=False)
    assert np.isnan(paired.median_interval(values, seeds, tests, nothing)).all()


TWINS = (
    Twin(name="solver", published={"estimator": "cg"}, corrected={"estimator": "exact"}),
    Twin(name="sign", published={"estimator": "cg"}, corrected={"estimator": "cg"}, absolute="published"),
    Twin(name="null", published={"estimator": "exact"}, corrected={"estimator": "exact"}, raw="published"),
)
OPTIONS = {"tests": (3, 7), "estimators": ("exact", "cg"), "points": {"train": "highest_loss", "test": "all"}}


def filled(folder, change=lambda trial, record: None, seeds=4, twins=TWINS, **options):
    experiment = synthetic.experiment(seeds=seeds, twins=twins)
    store = Store(folder, "synthetic")
    for trial in experiment.trials:
        record = synthetic.record(trial, **{**OPTIONS, **options})
        change(trial, record)
        store.write(record)
    return experiment, store


def spoil(trial, record):
    """Predictions of cg that point the wrong way for one seed, and a null as large as the changes."""
    if trial.settings.seed == 1:
        record.arrays["predicted/cg"] = -record.arrays["predicted/cg"]
    record.arrays["actual_raw/stationary"] = record.arrays["actual/stationary"] - 1e-3


def test_each_side_is_what_the_table_of_cells_says(tmp_path):
    tables = Tables(*filled(tmp_path, spoil))
    cells = tables.cells.set_index(["model.depth", "estimator"])
    solver = tables.twins[tables.twins["twin"] == "solver"]
    assert list(solver["model.depth"]) == [1, 2]
    for row in solver.to_dict("records"):
        for side in ("published", "corrected"):
            cell = cells.loc[(row["model.depth"], row[f"estimator_{side}"])]
            for metric in ("spearman", "pearson", "sign_agreement", "mean_absolute_error"):
                for end in ("", "_low", "_high"):
                    assert row[f"{metric}_{side}{end}"] == pytest.approx(cell[f"{metric}{end}"], rel=1e-9)
            assert row[f"slope_median_{side}"] == pytest.approx(cell["slope_median"], rel=1e-9)
            assert row[f"usable_{side}"] == row[f"total_{side}"] == cell["usable"] == 8
        difference = row["spearman_corrected"] - row["spearman_published"]
        assert row["spearman_difference"] == pytest.approx(difference)
        assert row["spearman_difference_low"] < difference < row["spearman_difference_high"]
        assert (row["paired"], row["resampled"]) == (8, "seeds, tests")


def test_absolute_correlations_and_raw_changes_by_hand(tmp_path):
    experiment, store = filled(tmp_path, spoil)
    table = Tables(experiment, store).twins.set_index(["twin", "model.depth"])
    for depth in (1, 2):
        records = [store.read(trial.key).arrays for trial in experiment.trials if trial.swept["model.depth"] == depth]
        rho = [stats.spearmanr(r["predicted/cg"][:, t], r["actual/stationary"][:, t]).statistic for r in records for t in (0, 1)]
        row = table.loc[("sign", depth)]
        assert min(rho) < -0.5
        assert row["spearman_published"] == pytest.approx(np.mean(np.abs(rho)), abs=1e-9)
        assert row["spearman_corrected"] == pytest.approx(np.mean(rho), abs=1e-9)
        assert row["sign_agreement_published"] == row["sign_agreement_corrected"]
        signs = [np.mean(np.sign(r["predicted/exact"]) == np.sign(r["actual_raw/stationary"])) for r in records]
        errors = [np.mean(np.abs(r["predicted/exact"] - r["actual_raw/stationary"])) for r in records]
        row = table.loc[("null", depth)]
        assert row["sign_agreement_published"] == pytest.approx(np.mean(signs)) != row["sign_agreement_corrected"]
        assert row["mean_absolute_error_published"] == pytest.approx(np.mean(errors))
        assert row["spearman_published"] == pytest.approx(row["spearman_corrected"], abs=1e-12)
        assert row["spearman_difference"] == pytest.approx(0.0, abs=1e-12)


def test_comparisons_are_paired_by_seed_and_test_row(tmp_path):
    """Seed 1 is undefined on the published side only: it counts in the corrected mean, not in the difference."""

    def lose(trial, record):
        if trial.settings.seed == 1:
            record.arrays["predicted/cg"][:] = np.nan

    experiment, store = filled(tmp_path, lose)
    tables = Tables(experiment, store)
    agreement = tables.agreement[tables.agreement["model.depth"] == 1]
    row = tables.twins[tables.twins["twin"] == "solver"].iloc[0]
    assert (row["usable_published"], row["usable_corrected"], row["total_published"], row["paired"]) == (6, 8, 8, 6)
    wide = agreement.pivot_table(index=["seed", "test_row"], columns="estimator", values="spearman")
    assert row["spearman_corrected"] == pytest.approx(wide["exact"].mean())
    assert row["spearman_published"] == pytest.approx(wide["cg"].mean())
    assert row["spearman_difference"] == pytest.approx((wide["exact"] - wide["cg"]).dropna().mean())


def test_a_citation_has_every_number_of_the_twins(tmp_path):
    tables = Tables(*filled(tmp_path, spoil))
    rows, numbers = tables.twins.to_dict("records"), dict(cited.twin_numbers(tables, ["model.depth"]))
    metrics, whole = ("spearman", "pearson", "slope", "mean_", "sign_"), ("usable", "total", "seeds", "minima", "paired")
    counts = 0
    for row in rows:
        base = ("synthetic", "Twin", row["twin"], "At", "depth", str(row["model.depth"]))
        for name in row:
            if name.startswith((*metrics, *whole)):
                assert numbers[(*base, name)] == latex.number(row[name], name.startswith(whole))
                counts += 1
    assert counts == len(numbers)
    said = dict(zip([(row["twin"], row["model.depth"]) for row in rows], cited.twin_sentences(tables), strict=True))
    line, row = said[("solver", 2)], rows[1]
    assert line.startswith(f"  solver, depth 2: Spearman {row['spearman_published']:.3f} [{row['spearman_published_low']:.3f}, ")
    assert f"change {row['spearman_difference']:+.3f} [" in line
    assert line.endswith("8 of 8 → 8 of 8 comparisons usable, 8 in both")
    assert "change +0.000" in said[("null", 1)]  # no sign of rounding


def test_a_side_without_any_usable_comparison_is_undefined_and_shown(tmp_path):
    def lose(trial, record):
        if trial.swept["model.depth"] == 2:
            record.header["flags"].append("collapsed")

    tables = Tables(*filled(tmp_path, lose))
    row = tables.twins.iloc[1]
    assert (row["usable_published"], row["paired"], row["resampled"]) == (0, 0, "nothing")
    assert np.isnan([row["spearman_published"], row["spearman_difference"], row["slope_median_difference"]]).all()
    axes = dict(figures.plan(Material(tables)))["twins"]().axes
    said = [text.get_text() for text in axes[0].texts if text.get_gid() == "undefined"]
    counts = [text.get_text() for text in axes[2].texts if text.get_gid() == "usable"]
    assert (said, counts) == (["published and corrected undefined"] * 3, ["0/8 → 0/8"] * 3)


def test_rows_chosen_on_one_side_and_sampled_on_the_other(tmp_path):
    """The removal set as published and all rows: two trials a seed, matched although they remove other rows."""
    twins = (Twin(name="widen", published={"points.train": "highest_loss"}, corrected={"points.train": "all"}),)
    experiment = synthetic.experiment({"points.train": ["highest_loss", "all"]}, seeds=4, twins=twins)
    store = Store(tmp_path, "synthetic")
    for trial in experiment.trials:
        rule = trial.swept["points.train"]
        options = {"removed": 8} if rule == "highest_loss" else {}
        store.write(synthetic.record(trial, points={"train": rule, "test": {"rows": [83]}}, **options))
    [row] = Tables(experiment, store).twins.to_dict("records")
    assert (row["paired"], row["resampled"], np.isnan(row["points.train"])) == (4, "seeds, rows of corrected", True)
    assert row["spearman_difference_low"] < row["spearman_difference"] < row["spearman_difference_high"]


def test_the_file_is_there_only_where_the_spec_has_twins(tmp_path):
    written = Tables(*filled(tmp_path)).write(tmp_path / "tables")
    assert (tmp_path / "tables" / "twins.csv") in written
    tables = Tables(*filled(tmp_path, twins=()))
    assert not [path for path in tables.write(tmp_path / "tables") if path.name == "twins.csv"]
    assert "twins" not in dict(figures.plan(Material(tables)))


@pytest.mark.filterwarnings("error::UserWarning")
def test_the_figure_shows_what_the_table_says(tmp_path):
    material = Material(Tables(*filled(tmp_path, spoil)))
    table = material.tables.twins
    figure = dict(figures.plan(material))["twins"]()
    figure.canvas.draw()
    correlation, difference, signs = figure.axes
    for axes, columns in (
        (correlation, ["spearman_published", "spearman_corrected"]), (difference, ["spearman_difference"]),
        (signs, ["sign_agreement_published", "sign_agreement_corrected"]),
    ):  # fmt: skip
        drawn = [line.get_xdata()[0] for line in axes.lines if line.get_gid() == "mean"]
        np.testing.assert_allclose(drawn, table[columns].to_numpy().ravel())
    assert [text.get_text() for text in correlation.texts if text.get_gid() == "twin"] == ["solver", "sign", "null"]
    assert [label.get_text() for label in correlation.get_yticklabels()] == ["depth 1", "depth 2"] * 3
    fills = [line.get_markerfacecolor() for line in correlation.lines if line.get_gid() == "mean"]
    assert fills[::2] == ["white"] * 6
    assert "white" not in fills[1::2]


def test_the_report_has_the_table(tmp_path):
    experiment, store = filled(tmp_path, spoil)
    experiment = SimpleNamespace(**vars(experiment), text="")
    tables = Tables(experiment, store)
    found = twin_table.twins(tables)
    labels = [column.label for column in found.columns]
    assert labels[:7] == ["change", "depth", "published", "corrected", "Spearman published", "Spearman corrected",
                          "Spearman change"]  # fmt: skip
    assert found.rows[0][0].text == "solver"
    assert found.rows[0][6].text.startswith(f"{tables.twins['spearman_difference'].iloc[0]:+.3f} [")
    assert "sign, published: the absolute value of each correlation is averaged." in found.notes
    page = report.page(tables)
    assert '<section id="twins">' in page
    assert 'href="#twins"' in page
    none = SimpleNamespace(**{**vars(experiment), "twins": ()})
    assert 'id="twins"' not in report.page(Tables(none, store))


def test_specs_are_found_by_name_in_folders_below(tmp_path):
    inner = tmp_path / "experiments" / "published"
    inner.mkdir(parents=True)
    (inner / "small.toml").write_text(SPEC.format(twins=""))
    assert trials.load("small", experiments=tmp_path / "experiments").path == inner / "small.toml"
    with pytest.raises(StudyError, match='did you mean "small"'):
        trials.load("smal", experiments=tmp_path / "experiments")
    (inner.parent / "small.toml").write_text(SPEC.format(twins=""))
    with pytest.raises(StudyError, match="2 specs are called so") as caught:
        trials.load("small", experiments=tmp_path / "experiments")
    assert str(inner / "small.toml") in str(caught.value)
    assert str(inner.parent / "small.toml") in str(caught.value)


def test_the_command_line_knows_folders_below(tmp_path, monkeypatch):
    inner = tmp_path / "experiments" / "designs"
    inner.mkdir(parents=True)
    (inner / "small.toml").write_text(SPEC.format(twins=""))
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.main, ["run", "small", "--dry-run"])
    assert (done.exit_code, "12 trials" in done.output) == (0, True), done.output
    assert "small: 0/12 trials done" in CliRunner().invoke(cli.main, ["list"]).output
    assert [item.value for item in cli._complete_spec(None, None, "sm")] == ["small"]


SPECS = sorted((ROOT / "experiments").rglob("*.toml"))
IMAGES = {"mnist": "MNIST/raw/train-images-idx3-ubyte.gz", "cifar10_standin": "cifar-10-batches-bin/data_batch_1.bin"}


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_spec_loads_and_can_be_planned(path, tmp_path, monkeypatch):
    experiment = trials.load(path)
    assert experiment.name == path.stem
    assert experiment.question
    if experiment.trials[0].settings.data.name in IMAGES:  # planning reads the rows: skipped where they are not at hand
        monkeypatch.setenv(images.ROOT, image_files.real(IMAGES[experiment.trials[0].settings.data.name]))
    distinct = {trial.settings.model_dump_json(exclude={"seed"}): trial for trial in experiment.trials}
    few = SimpleNamespace(**{**vars(experiment), "trials": list(distinct.values())[:: max(1, len(distinct) // 20)]})
    trials.check(few)
    assert sweep.plan(few, Store(tmp_path, path.stem), False).pending == len(few.trials)


def test_no_two_specs_share_a_name():
    assert len({path.stem for path in SPECS}) == len(SPECS)


def test_the_presets_of_epifano_are_those_of_the_issue():
    named = {f"epifano_{way}_l2": 0.005 for way in ("depth_selu", "depth_tanh", "width_selu")}
    named |= {f"epifano_{way}_nol2": 0.0 for way in ("depth_selu", "depth_tanh", "width_selu")}
    for name, penalty in named.items():
        experiment = trials.load(name, experiments=ROOT / "experiments")
        axis = "model.depth" if "depth" in name else "model.width"
        values = [1, 2, 3, 4, 5, 6, 7, 8] if "depth" in name else [8, 14, 20, 30, 40, 50]
        assert [(t.swept[axis], t.settings.seed) for t in experiment.trials] == list(itertools.product(values, range(50)))
        first = experiment.trials[0].settings
        assert (first.training.weight_decay, first.training.dtype, first.training.schedule) == (penalty, "float32", "plateau")
        assert {(e.name, e.penalty, e.damping) for e in first.estimators} == {
            ("last_layer_undamped", False, 0.0), ("last_layer", True, 0.0), ("exact", True, 0.0)
        }  # fmt: skip
        assert [(p.name, p.kind, p.steps) for p in first.protocols] == [("warm", "warm", 7500)]
        assert experiment.twins
        assert Path(experiment.path).parent.name == "published"
