"""Every table of results in what people read is the committed table it was made from; run as a module it prints them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from study import trials
from study.evidence import wording
from study.evidence.store import Store
from study.evidence.tables import Tables

ROOT = Path(__file__).parent.parent
Where = Mapping[str, Any]
SIDE_BY_SIDE = ("exact", "newton_step", "cg", "lissa", "arnoldi", "nystrom", "ggn", "kfac", "ekfac", "last_layer",
                "last_layer_weights", "identity")  # fmt: skip
ANSWERED = ("iris_depth", "iris_weight_decay", "iris_width")


def told() -> str:
    """The README, and what stands beside the results."""
    return "\n".join((ROOT / place).read_text() for place in ("README.md", "results/README.md"))


@dataclass(frozen=True)
class Table:
    """Cells of one experiment: `rows` and `columns` name what a cell has in common with its row and its column."""

    experiment: str
    corner: str
    rows: Mapping[str, Where]
    columns: Mapping[str, Where]
    metric: str = "spearman"

    def text(self) -> str:
        cells = pd.read_csv(ROOT / "results" / self.experiment / "tables" / "cells.csv")
        lines = [[self.corner, *self.columns], ["---"] * (len(self.columns) + 1)]
        lines += [[name, *(self._shown(cells, row | column) for column in map(dict, self.columns.values()))]
                  for name, row in ((name, dict(row)) for name, row in self.rows.items())]  # fmt: skip
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def _shown(self, cells: pd.DataFrame, wanted: Where) -> str:
        metric = wanted.get("metric", self.metric)
        for path, value in wanted.items():
            cells = cells if path == "metric" else cells[cells[path] == value]
        if cells.empty:
            return "–"
        [cell] = cells.to_dict("records")
        if not cell["usable"]:
            return "undefined"
        if f"{metric}_low" not in cell:
            return f"{float(f'{cell[metric]:.2g}'):g}"
        numbers = [f"{cell[f'{metric}{end}']:.2f}" for end in ("", "_low", "_high")]
        interval = "" if numbers[1] == "nan" else f" [{numbers[1]}, {numbers[2]}]"
        counts = "" if cell["usable"] == cell["total"] else f" ({cell['usable']}/{cell['total']})"
        return f"{numbers[0]}{interval}{counts}".replace("-", "−")


def over(path: str, values: Sequence[Any]) -> dict[str, Where]:
    return {f"{value:g}": {path: value} for value in values}


EPIFANO: dict[str, Where] = {
    "as published": {"estimator": "last_layer_undamped"},
    "penalty included": {"estimator": "last_layer"},
    "all parameters": {"estimator": "exact"},
}
# Designs and presets in which two protocols, or one, are shown along what is swept.
ALONG: dict[str, Where] = {"as published": {"protocol": "warm"}, "certified, all rows": {"protocol": "certified"}}


def published(rule: str, weight_decay: float | None = None, **more: Any) -> Where:
    return {"protocol": "warm", "points.train": rule, **_penalty(weight_decay), **more}


def certified(rule: str = "all", weight_decay: float | None = None, **more: Any) -> Where:
    return {"protocol": "certified", "points.train": rule, **_penalty(weight_decay), **more}


def _penalty(weight_decay: float | None) -> Where:
    return {} if weight_decay is None else {"training.weight_decay": weight_decay}


def decayed(depth: int) -> dict[str, Where]:
    own = {"model.depth": depth}
    return {
        f"depth {depth}, as published": published("highest_influence", **own),
        f"depth {depth}, certified, same rule": certified("highest_influence", **own),
        f"depth {depth}, certified, all rows": certified("all", **own),
    }


TABLES = (
    Table("iris_depth", "depth", over("model.depth", range(1, 9)), {
        "as published": published("highest_influence", 0.005),
        "certified, same rule": certified("highest_influence", 0.005),
        "certified, all rows": certified("all", 0.005),
        "the same, Pearson": {**certified("all", 0.005), "metric": "pearson"},
        "as published, λ = 0": published("highest_influence", 0.0),
    }),
    Table("iris_weight_decay", "", decayed(1) | decayed(3), {
        "λ = 0.005": _penalty(0.005), "λ = 10⁻³": _penalty(1e-3), "λ = 10⁻⁵": _penalty(1e-5), "λ = 0": _penalty(0.0),
    }),
    Table("iris_width", "", {
        "as published": published("highest_influence", 0.005),
        "certified, same rule": certified("highest_influence", 0.005),
        "certified, all rows": certified("all", 0.005),
        "certified, all rows, λ = 10⁻⁵": certified("all", 1e-5),
        "as published, λ = 0": published("highest_influence", 0.0),
    }, {f"width {width}": {"model.width": width} for width in (8, 20, 50)}),
    Table("iris_test_points", "", {
        "as published, highest influence": published("highest_influence"),
        "certified, same rule": certified("highest_influence"),
        "certified, all rows": certified("all"),
        "the same, Pearson": {**certified("all"), "metric": "pearson"},
    }, {"λ = 0.005": _penalty(0.005), "λ = 10⁻⁴": _penalty(1e-4), "λ = 10⁻⁵": _penalty(1e-5), "λ = 0": _penalty(0.0)}),
    Table("digits_depth", "", {
        f"{name}, {words}, λ = {shown}": make(rule, weight_decay)
        for weight_decay, shown in ((0.005, "0.005"), (5e-4, "5·10⁻⁴"))
        for rule, words in (("random", "random rows"), ("highest_loss", "rows of highest loss"))
        for name, make in (("stopped early", published), ("certified", certified))
    }, {f"depth {depth}": {"model.depth": depth} for depth in (1, 2, 3, 4)}),
    Table("damping_path", "", {
        "`exact`, depth 1": {"estimator": "exact", "model.depth": 1},
        "`exact`, depth 3": {"estimator": "exact", "model.depth": 3},
        "`exact`, depth 5": {"estimator": "exact", "model.depth": 5},
        "`ggn`, depth 3": {"estimator": "ggn", "model.depth": 3},
        "slope of `exact`, depth 3": {"estimator": "exact", "model.depth": 3, "metric": "slope_median"},
    }, {f"δ = {damping:g}": {"estimators.*.damping": damping} for damping in (0.0, 0.001, 0.01, 0.1, 1.0, 100.0)}),
    Table("lissa_budget", "", {
        f"B = {batch}, scale {scale:g}": {"estimators.lissa.batch_size": batch, "estimators.lissa.scale": scale,
                                          "estimators.lissa.repeats": 1}
        for batch, scale in ((1, 30.0), (1, 300.0), (10, 30.0))
    }, {f"J = {depth}": {"estimators.lissa.depth": depth} for depth in (10, 100, 1000, 10000)}),
    Table("weight_curve", "", {
        "Pearson, depth 1": {"model.depth": 1}, "Pearson, depth 5": {"model.depth": 5},
        "slope, depth 1": {"model.depth": 1, "metric": "slope_median"},
        "slope, depth 5": {"model.depth": 5, "metric": "slope_median"},
    }, {f"{fraction:g} of the weight": {"points.fraction": fraction} for fraction in (0.01, 0.1, 0.3, 1.0)}, "pearson"),
    Table("unconverged", "", {
        "further training, `exact`": {"protocol": "warm", "estimator": "exact"},
        "further training, its own derivative": {"protocol": "warm", "estimator": "unrolled_base"},
        "from scratch, `exact`": {"protocol": "cold", "estimator": "exact"},
        "from scratch, its own derivative": {"protocol": "cold", "estimator": "unrolled_init"},
        "its slope": {"protocol": "cold", "estimator": "unrolled_init", "metric": "slope_median"},
        "from scratch, `tracin`": {"protocol": "cold", "estimator": "tracin"},
    }, {f"depth {depth}, {steps} steps": {"model.depth": depth, "training.steps": steps} for depth in (1, 3)
        for steps in (250, 4000)}),
    Table("estimators", "", {f"`{name}`": {"estimator": name} for name in SIDE_BY_SIDE},
          {f"depth {depth}": {"model.depth": depth} for depth in (1, 3, 5)}),
    Table("perturb_input", "", {
        f"`{name}`, depth {depth}": {"estimator": name, "model.depth": depth}
        for name in ("perturb_input", "exact") for depth in (1, 3)
    }, {f"η = {size:g}": {"points.perturbation": size} for size in (0.01, 0.03, 0.1, 0.3, 1.0)}),
    Table("activation", "", ALONG, {name: {"model.activation": name} for name in
                                    ("tanh", "softplus", "gelu", "selu", "relu")}),
    Table("initial_scale", "", ALONG, {f"× {scale:g}": {"training.initial_scale": scale} for scale in (0.1, 0.3, 1, 3, 10)}),
    Table("optimizer", "", ALONG, {name: {"training.optimizer": name} for name in ("sgd", "adam", "lbfgs")}),
    Table("influence_bands", "", {
        f"{rule}, {name}": {"points.train": key, "protocol": protocol}
        for rule, key in (("highest influence", "highest_influence"), ("30th percentile", "influence_band"),
                          ("lowest", "lowest_influence"))
        for name, protocol in (("as published", "warm"), ("certified", "certified"))
    }, {f"depth {depth}": {"model.depth": depth} for depth in (1, 3, 5)}),
    Table("test_quantiles", "", {"as published": {"protocol": "warm"}, "certified": {"protocol": "certified"}},
          {f"depth {depth}": {"model.depth": depth} for depth in (1, 3, 5)}),
    Table("training_time", "", {"further training": {"protocol": "warm"}, "from scratch": {"protocol": "cold"},
                                "certified": {"protocol": "certified"}},
          {f"{steps} steps": {"training.steps": steps} for steps in (500, 2000, 8000, 20000, 60000)}),
    Table("mnist_mlp", "", {"further training": {"protocol": "warm"}, "certified": {"protocol": "certified"}},
          {f"depth {depth}, width {width}": {"model.depth": depth, "model.width": width}
           for depth, width in ((1, 2), (1, 4), (2, 4))}),
    Table("horizon", "", {
        f"depth {depth}, after {steps} steps": {"model.depth": depth, "training.steps": steps}
        for depth in (1, 3) for steps in (2000, 60000)
    }, {f"{steps} further": {"protocols.further.steps": steps} for steps in (10, 30, 100, 300, 1000, 30000)}),
    Table("groups", "", {
        f"m = {size}, depth {depth}": {"points.group_size": size, "model.depth": depth, "estimator": "exact"}
        for depth in (1, 3) for size in (1, 3, 10, 30)
    }, {name: {"points.group": key} for name, key in
        (("random", "random"), ("one class", "same_class"), ("nearest", "nearest"), ("next in influence", "influence"))}),
    Table("epifano_depth_selu_l2", "depth", over("model.depth", range(1, 9)), EPIFANO),
    Table("epifano_depth_tanh_l2", "depth", over("model.depth", range(1, 9)), EPIFANO),
    Table("epifano_width_selu_l2", "width", over("model.width", (8, 14, 20, 30, 40, 50)), EPIFANO),
)  # fmt: skip


EQUAL = 1e-6  # of the largest exact prediction


def audited() -> str:
    """Packages and methods against the cells of the audit: `equal` on every network, or Pearson and slope, the lowest and the
    highest of the networks where these differ, and how many of all their test rows are lost.
    """
    names = ["package", "method", "setting"]
    found = pd.read_csv(ROOT / "results" / "audit" / "audit" / "audit.csv", keep_default_na=False,
                        na_values={name: [""] for name in ("pearson", "slope", "largest_difference")})  # fmt: skip
    cells = list(dict.fromkeys(found["cell"]))
    lines = [["package", "method", *cells], ["---"] * (2 + len(cells))]
    for (package, method, setting), rows in found.groupby(names, sort=False):
        named = f"{method}, {setting}" if setting else method
        own = [_audited(rows[rows["cell"] == cell]) for cell in cells]
        lines.append([f"{package} {rows['version'].iloc[0]}", named, *own])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _audited(networks: pd.DataFrame) -> str:
    """One method in one cell."""
    ended = (networks["error"] != "").sum()
    if ended:
        return "error" if ended == len(networks) else f"error on {ended} of {len(networks)}"
    whole = networks[["tests", "zero_tests", "nan_tests", "defined"]].astype(int).sum()
    lost = [f"{whole[f'{name}_tests']} of {whole['tests']} {word}" for name, word in (("zero", "zero"), ("nan", "NaN"))
            if whole[f"{name}_tests"]]  # fmt: skip
    if not whole["defined"]:
        return ", ".join(lost)
    known = networks[networks["defined"].astype(int) > 0]
    if (known["largest_difference"] <= EQUAL).all():
        text = "equal"
    else:
        slopes = [wording.number(float(f"{slope:.2g}")) for slope in sorted(known["slope"])]
        pearsons = [f"{pearson:.2f}" for pearson in sorted(known["pearson"])]
        text = f"{_range(pearsons)}, {_range(slopes)}".replace("-", "−")
    return f"{text} ({', '.join(lost)})" if lost else text


def _range(shown: list[str]) -> str:
    return shown[0] if shown[0] == shown[-1] else f"{shown[0]} to {shown[-1]}"


def test_the_table_of_packages_is_that_of_the_audit() -> None:
    assert audited() in told()


def test_every_known_defect_is_told_with_its_verdict() -> None:
    cases = pd.read_csv(ROOT / "results" / "audit" / "audit" / "defects.csv")
    text = told()
    for case in cases.to_dict("records"):
        assert f"| {case['package']} {case['version']} | {case['claim']} | {case['verdict']} |" in text


TWINS = {"basu_iris_twins": (1, 3, 5, 8), "epifano_twins": (1, 3, 5, 8), "nguyen_twins": (1, 2, 3)}


def twins(experiment: str) -> str:
    """What each change does by depth: Spearman as published and corrected, and their paired difference with its interval."""
    table = pd.read_csv(ROOT / "results" / experiment / "tables" / "twins.csv")
    depths = TWINS[experiment]
    lines = [["change", *(f"depth {depth}" for depth in depths)], ["---"] * (1 + len(depths))]
    for name, rows in table.groupby("twin", sort=False):
        cells = rows.set_index("model.depth")
        lines.append([str(name), *(_changed(cells.loc[depth]) for depth in depths)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _changed(cell: "pd.Series[Any]") -> str:
    sides = " → ".join(f"{cell[f'spearman_{side}']:.2f}" for side in ("published", "corrected"))
    low, high = (cell[f"spearman_difference_{end}"] for end in ("low", "high"))
    interval = "" if np.isnan(low) else f" [{low:+.2f}, {high:+.2f}]"  # none of a single minimum
    return f"{sides}{interval}".replace("-", "−").replace("[+0.00, +0.00]", "[0.00, 0.00]")


def _cells(experiment: str, table: str = "cells", **chosen: Any) -> list[dict[str, Any]]:
    """Rows of a table of results by their labels, `__` for a dot."""
    found = pd.read_csv(ROOT / "results" / experiment / "tables" / f"{table}.csv")
    for column, value in chosen.items():
        found = found[found[column.replace("__", ".")] == value]
    assert len(found)
    return found.to_dict("records")


def _said(row: Mapping[str, Any], name: str = "spearman") -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    interval = "" if np.isnan(low) else f" [{low:.2f}, {high:.2f}]"
    return f"{row[name]:.2f}{interval}".replace("-", "−")


def _ends(rows: Sequence[Mapping[str, Any]], name: str = "spearman") -> str:
    """The lowest and the highest row, each with its interval."""
    return " to ".join(_said(row, name) for row in (min(rows, key=lambda r: r[name]), max(rows, key=lambda r: r[name])))


def _nine_in_ten(row: Mapping[str, Any]) -> str:
    return f"{row['spearman_test_rows_low']:.2f} to {row['spearman_test_rows_high']:.2f}"


def claims() -> str:
    """What was published, what the same protocol gives here, and what corrected ones do; every number from the tables."""
    rule, everything = {"points__train": "highest_influence"}, {"points__train": "all"}
    warm, true, penalty, none = (
        {"protocol": "warm"}, {"protocol": "certified"}, {"training__weight_decay": 0.005}, {"training__weight_decay": 0.0},
    )  # fmt: skip
    depths = _cells("iris_depth", **warm, **rule, **penalty)
    one, weak = {"model__depth": 1}, {"training__weight_decay": 1e-5}
    decay = [_said(_cells("iris_weight_decay", **warm, **rule, **one, **given)[0]) for given in (penalty, none)]
    weakest = [_said(_cells("iris_weight_decay", **one, **weak, **given)[0]) for given in
               ({**warm, **rule}, {**true, **rule}, {**true, **everything})]  # fmt: skip
    tests = [_nine_in_ten(_cells("iris_test_points", **given)[0]) for given in
             ({**warm, **rule, **none}, {**warm, **rule, **penalty}, {**true, **rule, **penalty})]  # fmt: skip
    deeper = _nine_in_ten(_cells("test_quantiles", **true, model__depth=5)[0])
    twin = {"twin": "match the estimand and include the penalty"}
    epifano = [row for depth in TWINS["epifano_twins"] for row in _cells("epifano_twins", "twins", **twin, model__depth=depth)]
    wide = [_cells("epifano_width_selu_l2", estimator=name) for name in ("last_layer_undamped", "last_layer")]
    noisy = _cells("nguyen_twins", "reliability", estimator="exact", protocol="unpaired")
    paired = _cells("nguyen_twins", "reliability", estimator="exact", protocol="paired")
    [koh] = _cells("mnist_logistic", estimator="exact", protocol="certified")
    short = _cells("nguyen_twins", estimator="lissa_short", protocol="unpaired")
    lines = [
        ("published", "here, as published", "corrected", "so it was"),
        ("---",) * 4,
        ("Basu et al. 2021: falls beyond depth 5", f"{_said(depths[4])} at depth 5, {_ends(depths[5:])} beyond (`iris_depth`)",
         f"all rows, certified: {_ends(_cells('iris_depth', **true, **everything, **penalty))} over all depths",
         "no fall; which rows are removed"),
        ("0.97 with a penalty, 0.51 without, one layer", f"{decay[0]} and {decay[1]} (`iris_weight_decay`)",
         f"λ = 10⁻⁵: as published {weakest[0]}, the same rows certified {weakest[1]}, all rows {weakest[2]}",
         "without a penalty, networks that have no minimum; else which rows"),
        ("differs between test points (0.38 to 0.92, MNIST)",
         f"Iris, one layer, no penalty, nine of ten test rows: {tests[0]} (`iris_test_points`)",
         f"with a penalty, as published: {tests[1]}; certified: {tests[2]}; at depth 5: {deeper} (`test_quantiles`)",
         "one layer: networks that have no minimum; deeper ones do differ"),
        ("0.82 to 0.56 with width", f"{_ends(_cells('iris_width', **warm, **rule, **penalty))} (`iris_width`)",
         f"all rows, certified: {_ends(_cells('iris_width', **true, **everything, **penalty))}", "not found"),
        ("Epifano et al. 2023: falls with depth",
         f"tanh: {_ends(epifano, 'spearman_published')} (`epifano_twins`)",
         f"the same with the penalty, against retraining of its layer alone: {_ends(epifano, 'spearman_corrected')}",
         "the estimand: it says what happens to another network"),
        ("and with width", f"SELU: {_ends(wide[0])} (`epifano_width_selu_l2`)", f"the penalty in the estimate: {_ends(wide[1])}",
         "the estimator: its matrix lacks the penalty"),
        ("Koh & Liang 2017: near 1 on MNIST, logistic regression", "–",
         f"certified, 500 rows of largest influence, {koh['seeds']} of 3 seeds: Pearson {koh['pearson']:.5f}, "
         f"slope {koh['slope_median']:.3f} (`mnist_logistic`)", "right: convex, converged"),
        ("Nguyen et al. 2023: noise hides single rows",
         f"reliability of the truth, unpaired: {_ends(noisy, 'reliability')}; Spearman of LiSSA {_ends(short)} (`nguyen_twins`)",
         f"paired: reliability {_ends(paired, 'reliability')}; certified and exact: "
         f"{_ends(_cells('nguyen_twins', estimator='exact', protocol='certified'))}",
         "the yardstick's noise; five seeds do not tell the estimator's part"),
    ]  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def test_published_claims_are_told_with_our_numbers() -> None:
    assert claims() in (ROOT / "README.md").read_text()


GAPS = {"gaps_weight_decay": ("training.weight_decay", "λ = {:g}"), "gaps_training": ("training.steps", "{:g} steps")}


def gaps(experiment: str, path: str) -> str:
    """Of one path every gap's root mean square in test loss over that of the effect, in the order of the path."""
    axis, words = GAPS[experiment]
    table = pd.read_csv(ROOT / "results" / experiment / "tables" / "gaps.csv")
    table = table[(table["path"] == path) & (table["quantity"] == "loss")]
    values = list(dict.fromkeys(table[axis]))
    lines = [[f"{path} path", *(words.format(value) for value in values)], ["---"] * (1 + len(values))]
    for position, rows in table.groupby("position", sort=False):
        cells = rows.set_index(axis)
        name = str(rows["name"].iloc[0]) + (f" ({rows['from'].iloc[0]} → {rows['to'].iloc[0]})" if position else "")
        lines.append([name, *(_gap(cells.loc[value]) for value in values)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _gap(cell: "pd.Series[Any]") -> str:
    low, high = (f"{cell[f'relative_{end}']:.2f}" for end in ("low", "high"))
    return f"{cell['relative']:.2f} [{low}, {high if cell['relative_high'] < 100 else 'over 100'}]"


@pytest.mark.parametrize("path", ["hessian", "bregman"])
@pytest.mark.parametrize("experiment", GAPS)
def test_a_table_of_gaps_is_that_of_the_results(experiment: str, path: str) -> None:
    assert gaps(experiment, path) in told()


@pytest.mark.parametrize("experiment", TWINS)
def test_a_table_of_twins_is_that_of_the_results(experiment: str) -> None:
    assert twins(experiment) in told()


RETRIEVED = (50, 100, 200, 500)


def recalls(most: int = 10) -> str:
    """R@m by features (rows) and rows retrieved (columns), against predicted (exact) and actual rankings, beside chance."""
    table = pd.read_csv(ROOT / "results" / "knn_recall" / "tables" / "recall.csv")
    table = table[table["m"] == most].set_index(["name", "features", "k"])
    lines = [["neighbours by", *(f"k = {k}" for k in RETRIEVED)], ["---"] * (len(RETRIEVED) + 1)]
    for layer in ("input", "layer1", "output"):
        for name, words in (("exact", "predicted"), ("certified", "actual")):
            found = [table.loc[(name, layer, k)] for k in RETRIEVED]
            shown = [f"{row['recall']:.2f} [{row['recall_low']:.2f}, {row['recall_high']:.2f}]" for row in found]
            lines.append([f"{layer}, {words}", *shown])
    lines.append(["k random rows", *(f"{table.loc[('exact', 'input', k), 'chance']:.2f}" for k in RETRIEVED)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def test_the_table_of_recall_is_that_of_the_results() -> None:
    assert recalls() in told()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"{table.experiment}, {table.metric}")
def test_a_table_is_that_of_the_results(table: Table) -> None:
    assert table.text() in told()


def test_the_median_removal_changes_the_loss_as_predicted() -> None:
    found = [pd.read_csv(ROOT / "results" / name / "tables" / "cells.csv") for name in ANSWERED]
    cells = pd.concat([table[(table["protocol"] == "certified") & (table["points.train"] == "all")] for table in found])
    ratios, slopes = cells["ratio_median"], cells["slope_median"]
    text = told().replace("\n", " ")
    assert f"in all {len(cells)} certified cells" in text
    assert f"by {ratios.min():.2f} to {ratios.max():.2f} times what was predicted" in text
    assert f"go from {slopes.min():.1f} to {slopes.max():.1f}" in text


def test_where_single_test_rows_lie() -> None:
    cells = pd.read_csv(ROOT / "results" / "iris_test_points" / "tables" / "cells.csv")
    text = told().replace("\n", " ")

    def ends(protocol: str, rule: str, weight_decay: float) -> str:
        here = (cells["protocol"] == protocol) & (cells["points.train"] == rule)
        [cell] = cells[here & (cells["training.weight_decay"] == weight_decay)].to_dict("records")
        low, high = cell["spearman_test_rows_low"], cell["spearman_test_rows_high"]
        return f"{low:.2f} to {high:.2f}".replace("-", "−")

    assert f"nine of ten test rows lie at {ends('certified', 'all', 0.005)} with λ = 0.005" in text
    assert f"{ends('certified', 'all', 1e-5)} with λ = 10⁻⁵" in text
    assert f"as published without a penalty at {ends('warm', 'highest_influence', 0.0)}" in text
    used, rows = (int(cells.loc[cells["protocol"] == "certified", name].sum()) for name in ("rows_used", "rows_total"))
    assert f"{used:,} of {rows:,} certified removals" in text


def test_a_settled_recursion_is_not_at_the_exact_solution() -> None:
    table = pd.read_csv(ROOT / "results" / "lissa_until" / "tables" / "estimates.csv")
    last = table[table["estimators.lissa.until"] == 0.001].groupby("model.depth")["distance_from_exact"].median()
    text = told().replace("\n", " ")
    assert f"it is, in the median network, still {100 * last.min():.0f} to {100 * last.max():.0f}% away" in text


def test_what_is_said_of_digits() -> None:
    cells = pd.read_csv(ROOT / "results" / "digits_depth" / "tables" / "cells.csv")
    text = told().replace("\n", " ")

    def ends(protocol: str, rule: str | None = None) -> str:
        here = cells[(cells["protocol"] == protocol) & ((cells["points.train"] == rule) | (rule is None))]["spearman"]
        return f"{here.min():.2f} to {here.max():.2f}"

    assert f"{ends('warm')} against further training of networks that had not converged" in text
    assert f"{ends('certified')} against certified minima" in text
    assert f"random rows at {ends('certified', 'random')} at every depth" in text
    assert f"the largest step, at {ends('certified', 'highest_loss')}" in text
    trials_table = pd.read_csv(ROOT / "results" / "digits_depth" / "tables" / "trials.csv")
    warm = trials_table[trials_table["protocol"] == "warm"]
    assert f"In {warm['flags'].str.contains('drift').sum()} of the {len(warm)} unconverged trials" in text
    used, rows = (int(cells.loc[cells["protocol"] == "certified", name].sum()) for name in ("rows_used", "rows_total"))
    assert used == rows
    own = trials_table[trials_table["protocol"] == "certified"]
    assert f"All {int(own['removals'].sum()):,} certified removals" in text
    assert f"{int(own['another_basin'].sum())} of them landed in another basin" in text


def test_slopes_of_estimators_side_by_side() -> None:
    cells = pd.read_csv(ROOT / "results" / "estimators" / "tables" / "cells.csv").groupby("estimator")["slope_median"]
    low, high = cells.min(), cells.max()
    text = told().replace("\n", " ")
    assert f"best slopes ({low['newton_step']:.2f} to {high['newton_step']:.2f})" in text
    assert f"exact influence has {low['exact']:.2f} to {high['exact']:.2f}" in text
    kronecker = 1 / np.array([low["kfac"], high["kfac"], low["ekfac"], high["ekfac"]])
    assert kronecker.min() > 2
    assert kronecker.max() < 3.5  # "two to three times too large"
    estimates = pd.read_csv(ROOT / "results" / "estimators" / "tables" / "estimates.csv")
    stopped = estimates[estimates["estimator"] == "newton_step"]["flags"].str.contains("negative_curvature", na=False)
    assert f"({stopped.sum()} of {len(stopped)} networks)" in text


def test_few_rows_hold_the_error_of_the_quick_study() -> None:
    """By depth, over usable networks: the part of Σ(actual − predicted)² in five rows."""
    experiment = trials.load(ROOT / "experiments" / "iris_depth_quick.toml")
    blocks = Tables(experiment, Store(ROOT / "results", experiment.name)).readings.blocks
    parts = defaultdict(list)
    for block in [block for block in blocks if not block.undefined]:
        exact = block.estimators.index("exact")
        used = block.used[exact, 0, 0]
        predicted, actual = block.predicted[exact, 0, 0][used], block.actual[0, 0, 0][used]
        squares = np.sort((actual - predicted) ** 2)
        parts[block.trial.settings.model.depth].append(squares[-5:].sum() / squares.sum())
    medians = [100 * np.median(found) for found in parts.values()]
    text = told().replace("\n", " ")
    assert f"the worst five of 149 removals hold {min(medians):.0f} to {max(medians):.1f}%" in text


if __name__ == "__main__":
    print("\n\n".join([claims(), *(table.text() for table in TABLES), audited(), recalls(), *map(twins, TWINS)]))
