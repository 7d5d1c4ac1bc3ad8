"""What `study cite` writes can go into a paper: names LaTeX accepts, numbers of the table, entries BibTeX accepts."""

import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import study
from study.evidence.report import answers, bibliography, cell_rows, cite, latex, latex_tables
from study.evidence.tables import Tables
from tests import spoken

COMMAND = re.compile(r"\\newcommand\{\\([A-Za-z]+)\}\{([^%#]*)\}")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tables, Path]:
    folder = tmp_path_factory.mktemp("made")
    tables = spoken.tables(folder)
    home = folder / "results" / "spoken_depth"
    assert [path.name for path in cite.write(tables, home)] == [
        *("headline.txt", "numbers.tex", "table.tex", "cells.tex", "references.bib", "keys.csv"),
    ]
    return tables, home / "citation"


def _commands(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    matches = [COMMAND.fullmatch(line) for line in lines]
    assert all(matches)
    names = [match[1] for match in matches if match]
    assert len(names) == len(set(names))
    return {match[1]: match[2] for match in matches if match}


def test_every_number_of_the_table_has_a_command(made):
    tables, folder = made
    commands = _commands((folder / "numbers.tex").read_text())
    spelled = {"1": "One", "2": "Two", "10": "OneZero", "0.005": "ZeroPointZeroZeroFive", "1e-05": "OneEMinusZeroFive"}
    for row in tables.cells.to_dict("records"):
        depth, decay = (spelled[cell_rows.shown_value(row[path])] for path in ("model.depth", "training.weight_decay"))
        base = (
            f"SpokenDepthAtDepth{depth}WeightDecay{decay}{row['estimator'].capitalize()}{row['protocol'].capitalize()}"
        )
        for metric in ("Spearman", "SpearmanLow", "SpearmanHigh", "Pearson"):
            column = re.sub(r"(?<=[a-z])([LH])", r"_\1", metric).lower()
            assert commands[base + metric] == latex.number(row[column])
        assert commands[f"{base}Usable"] == str(row["usable"])
        assert commands[f"{base}RowsTotal"] == "90"
    assert commands["SpokenDepthTrials"] == "18"
    assert commands["SpokenDepthCells"] == "6"
    (part,) = [part for part in cell_rows.series(tables.cells.to_dict("records")) if part.name == "ggn, warm"]
    lowest = min(row["spearman"] for row in part.rows)
    assert commands["SpokenDepthGgnWarmLowestSpearman"] == f"{lowest:.3f}"


def test_names_stay_as_trials_arrive(made, tmp_path):
    few = set(_commands(cite.numbers(spoken.tables(tmp_path, leave_out=15))))
    assert few < set(_commands((made[1] / "numbers.tex").read_text()))


def test_later_columns_have_commands_too(made):
    tables = made[0]
    wider = Tables(tables.experiment, tables._store)
    wider.__dict__["cells"] = tables.cells.assign(slope=1.5e-5, minima=3, kendall=-0.25)
    commands = _commands(cite.numbers(wider))
    base = "SpokenDepthAtDepthOneWeightDecayZeroPointZeroZeroFiveExactStationary"
    assert commands[f"{base}Slope"] == r"\ensuremath{1.50\times10^{-5}}"
    assert commands[f"{base}Minima"] == "3"
    assert commands[f"{base}Kendall"] == r"\ensuremath{-0.250}"
    assert "Kendall" in latex_tables.cells(wider)
    assert "3 distinct minima" in cite.headline(wider)
    assert "kendall1938new" in cite.references(wider)


def test_equal_spellings_get_names_of_their_own():
    identities = [("a_b", "c"), ("a", "b_c"), ("a", "B", "C"), ("d",)]
    names = latex.command_names(identities)
    assert len(set(names)) == 4
    assert all(re.fullmatch(r"[A-Za-z]+", name) for name in names)
    assert names[3] == "D"
    assert latex.command_names(identities[::-1]) == names[::-1]  # by what they stand for, not by their order


@given(st.text(max_size=30))
def test_any_text_is_spelled_in_letters_and_escaped(text):
    assert re.fullmatch(r"[A-Za-z]*", latex.letters(text))
    assert not re.search(r"(?<!\\)[&%$#_{}](?!})", latex.escaped(text).replace("{}", ""))


@pytest.mark.parametrize(
    ("value", "whole", "shown"),
    [
        (1.0, False, "1.000"), (0.0, False, "0.000"), (-0.12345, False, r"\ensuremath{-0.123}"), (5.0, True, "5"),
        (float("nan"), False, "undefined"), (1.5e-7, False, r"\ensuremath{1.50\times10^{-7}}"), (None, True, "undefined"),
    ],
)  # fmt: skip
def test_numbers_in_latex(value, whole, shown):
    assert latex.number(value, whole) == shown


def _well_formed(text: str) -> list[str]:
    """The rows of one LaTeX table, each as wide as the layout says."""
    assert [text.count(f"\\{rule}") for rule in ("toprule", "midrule", "bottomrule")] == [1, 1, 1]
    assert text.count("{") == text.count("}")
    layout = re.search(r"\\begin\{tabular\}\{([lcr]+)\}", text)
    assert layout
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    for row in rows:
        spans = [int(span) - 1 for span in re.findall(r"\\multicolumn\{(\d+)\}", row)]
        assert row.count(" & ") + 1 + sum(spans) == len(layout[1])
    assert "100 \\% depth" in text
    assert text.isascii()
    return rows


def test_the_table_of_all_cells_is_well_formed(made):
    tables, folder = made
    rows = _well_formed((folder / "cells.tex").read_text())
    assert len(rows) == 1 + len(tables.cells)
    assert rows[0].startswith(r"Depth & $\lambda$ & ")
    assert any(r" & 10$^{-5}$ & " in row for row in rows)


def test_the_table_by_axis_has_every_cell_in_its_place(made):
    tables, folder = made
    texts = (folder / "table.tex").read_text().split("\n\n")
    for metric, text in zip(latex_tables.METRICS, texts, strict=True):
        assert r"\label{tab:spoken-depth-" + metric in text
        _, heads, *rows = _well_formed(text)
        assert heads.split(" & ")[1:] == ["1", "2", r"10 \\"]
        read = _cells_by_axis([row.removesuffix(r" \\").split(" & ") for row in rows])
        for cell in tables.cells.to_dict("records"):
            decay = {0.005: r"5$\cdot$10$^{-3}$", 1e-5: r"10$^{-5}$"}[cell["training.weight_decay"]]
            place = f"{cell['estimator']}, {cell['protocol']}", rf"\quad $\lambda$ = {decay}", cell["model.depth"]
            shown = [
                f"${cell[metric]:.2f}$",
                rf"\scriptsize$[{cell[f'{metric}_low']:.2f},{cell[f'{metric}_high']:.2f}]$",
            ]
            if cell["usable"] < cell["total"]:
                shown.append(rf"\scriptsize {cell['usable']}/{cell['total']}")
            assert read.pop(place) == shown
        assert not read


def _cells_by_axis(rows: list[list[str]]) -> dict[tuple[str, str, int], list[str]]:
    """What stands in each column below a heading and a name."""
    read, series, name = {}, "", ""
    for first, *entries in rows:
        if found := re.search(r"\\emph\{(.+?)\}", first):
            series = found[1]
            continue
        name = first or name
        for depth, entry in zip((1, 2, 10), entries, strict=True):
            read.setdefault((series, name, depth), []).extend(filter(None, [entry]))
    return read


def test_a_series_of_a_single_setting_needs_no_row_for_its_name(tmp_path):
    tables = spoken.tables(tmp_path, text='target = "margin"\n' + spoken.SPEC.replace("[0.005, 1e-5]", "[0.005]"))
    text = latex_tables.by_axis(tables).split("\n\n")[0]
    _, _, *rows = _well_formed(text)
    assert [row.split(" & ")[0] for row in rows if row.split(" & ")[0]] == [
        rf"\emph{{{estimator}, {protocol}}}" for protocol in ("stationary", "warm") for estimator in ("exact", "ggn")
    ]
    assert "changes in test margin over" in text


def test_without_an_axis_the_table_is_that_of_all_cells(tmp_path):
    text = spoken.SPEC.replace('"model.depth" = [1, 2, 10]', '"model.depth" = [1]').replace("[0.005, 1e-5]", "[0.005]")
    tables = spoken.tables(tmp_path, text=text)
    assert latex_tables.by_axis(tables) == latex_tables.cells(tables)
    _well_formed(latex_tables.cells(tables))


def test_a_long_table_may_break():
    long = latex.booktabs("a_b", "lr", [["x", "y"]], [["1", "2"]] * (latex.LONG_TABLE + 1), "What it is")
    assert long.count(r"\begin{longtable}{lr}") == long.count(r"\end{longtable}") == 1
    assert r"\label{tab:a-b}" in long


def test_headline_says_cells_and_keys(made):
    tables, folder = made
    text = (folder / "headline.txt").read_text()
    for sentence in answers.sentences(tables.experiment, tables.cells.to_dict("records"), 18):
        assert sentence in text
    first = tables.cells.iloc[0]
    assert f"Spearman {cell_rows.interval(first, 'spearman')}" in text
    assert f"3 trials: {tables.experiment.trials[0].key[:10]}" in text
    assert "unknown commit" in text


def test_keys_lead_back_to_records(made):
    tables, folder = made
    keys = pd.read_csv(folder / "keys.csv")
    assert set(keys["trial"]) == {trial.key for trial in tables.experiment.trials}
    assert len(keys) == 18 * 4
    assert keys.groupby("command").size().eq(3).all()
    commands = _commands((folder / "numbers.tex").read_text())
    assert all(f"{command[1:]}Spearman" in commands for command in keys["command"])
    usable = keys.groupby("command")["usable"].sum()
    assert usable[keys["command"][0]] == tables.cells["usable"][0] == 2  # of three seeds, one has collapsed


def test_every_method_has_its_entry(made):
    text = (made[1] / "references.bib").read_text()
    entries = re.findall(r"^@(\w+)\{([\w-]+),\n((?:  \w+ += \{.*\},\n)+)\}$", text, re.MULTILINE)
    keys = [key for _, key, _ in entries]
    assert len(entries) == text.count("@") == len(set(keys))
    assert keys[0] == bibliography.SOFTWARE
    assert {"martens2020new", "bae2022if", "kingma2015adam", "fisher1936use", "owen2007pigeonhole"} < set(keys)
    assert {"koh2017understanding", "basu2021influence", "epifano2023revisiting", "hendrycks2016gaussian"} < set(keys)
    assert "alpaydin1998optical" not in keys
    assert f"version {study.__version__}" in text
    assert all(fields.count("{") == fields.count("}") for _, _, fields in entries)


def test_all_that_a_spec_may_name_is_known():
    from study.specs.fields import CONVOLUTIONAL, KNOWN_DATA
    from study.specs.schema import ESTIMATOR_KINDS, PROTOCOL_KINDS

    named = {("estimator", kind) for kind in ESTIMATOR_KINDS} | {("protocol", kind) for kind in PROTOCOL_KINDS}
    named |= {("data", name) for name in KNOWN_DATA} | {("model", kind) for kind in CONVOLUTIONAL}
    assert named <= set(bibliography.CITED)
    assert {key for keys in bibliography.CITED.values() for key in keys} | set(bibliography.ALWAYS) == set(
        bibliography.ENTRIES
    )


def test_an_unknown_method_is_said(made, monkeypatch):
    monkeypatch.delitem(bibliography.CITED, ("estimator", "ggn"))
    assert cite.references(made[0]).startswith("% No reference is known here for: estimator ggn\n")


def test_people_are_read_from_the_citation_file(tmp_path):
    path = tmp_path / "CITATION.cff"
    path.write_text(
        'title: "A: title"\nauthors:\n  - family-names: Curie\n    given-names: Marie\n  - name: "The others"\n'
        "version: 0.2.0\ndate-released: 2026-11-23\n"
    )
    found = bibliography.read_citation(path)
    assert found["author"] == "Curie, Marie and {The others}"
    assert found["title"] == "A: title"
    assert found["date-released"] == "2026-11-23"
    assert set(bibliography.read_citation(tmp_path / "none").values()) == {""}


DOCUMENT = r"""\documentclass{{article}}\usepackage{{booktabs,longtable}}
\input{{{0}/numbers.tex}}\begin{{document}}\input{{{0}/table.tex}}\input{{{0}/cells.tex}}
{1}
\nocite{{*}}\bibliographystyle{{plain}}\bibliography{{{0}/references}}\end{{document}}
"""


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("pdflatex") and shutil.which("bibtex")), reason="no LaTeX is installed")
def test_latex_accepts_it_all(made, tmp_path):
    folder = made[1]
    every = "\n\n".join(f"\\{name}" for name in _commands((folder / "numbers.tex").read_text()))
    (tmp_path / "paper.tex").write_text(DOCUMENT.format(folder, every))
    for command in (
        ["pdflatex", "-halt-on-error", "paper"],
        ["bibtex", "paper"],
        ["pdflatex", "-halt-on-error", "paper"],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
        assert "Warning--" not in done.stdout
    assert (tmp_path / "paper.pdf").is_file()
