"""The report says what the tables say, loads nothing, and is a page that a browser opens without complaint."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from study.evidence import report
from study.evidence.paths import cell_paths
from study.evidence.report import answers, audits, cell_rows, cell_tables, displays
from study.evidence.store import Store
from study.evidence.tables import Tables, summaries
from tests import browser, spoken

AUDIT = Path(__file__).parent.parent / "results" / "audit" / "audit"
VOID = {"meta", "link", "img", "br"}
LOADING = {"src", "href", "srcset", "data", "poster", "action"}


class Page(HTMLParser):
    """Collects what a well-formed page has, and what is wrong with it."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        self.wrong += [f"<{tag}> is never closed" for tag in self.open]

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        names = [name for name, _ in attributes]
        self.wrong += [f"<{tag}> says {name} twice" for name in set(names) if names.count(name) > 1]
        self.loads += [value or "" for name, value in attributes if name in LOADING]
        self.ids += [value for name, value in attributes if name == "id"]
        if tag == "img" and not dict(attributes).get("alt"):
            self.wrong.append("a picture without words")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> closes nothing")

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace("\u00a0", " ").split())


def _drawn(folder: Path) -> list[Path]:
    """One figure in both formats and one that is a PDF only."""
    paths = [folder / name for name in ("spearman_against_depth.png", "spearman_against_depth.svg", "only.pdf")]
    for path in paths:
        figure = Figure(figsize=(3.4, 2))
        figure.subplots().plot([1, 2], [1, 2])
        figure.savefig(path)
    return paths


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tables, Path]:
    folder = tmp_path_factory.mktemp("made")
    tables = spoken.tables(folder)
    home = folder / "results" / tables.experiment.name
    tables.write(home / "tables")
    return tables, report.write(tables, home, _drawn(folder))


def test_the_page_is_well_formed_and_loads_nothing(made):
    page = Page(made[1].read_text())
    assert page.wrong == []
    assert len(page.ids) == len(set(page.ids))
    assert page.tags.count("img") == 1  # the SVG alone: one picture per figure, none of a PDF
    for place in page.loads:
        assert place.startswith(("data:", "#"))
    assert {place[1:] for place in page.loads if place.startswith("#")} <= set(page.ids)


def test_the_page_says_what_a_reader_asks(made):
    tables, path = made
    text = Page(path.read_text()).text
    assert "Does <b>it</b> & them hold at 100 % depth?" in text  # escaped, not obeyed
    for sentence in answers.sentences(tables.experiment, tables.cells.to_dict("records"), 18):
        assert " ".join(sentence.split()) in text
    for remark in answers.remarks(tables.experiment, tables.cells.to_dict("records")):
        assert " ".join(remark.split()) in text
    assert "18 of 18 trials" in text
    assert "collapsed" in text
    assert summaries.FLAGS["collapsed"] in text
    assert "eager, float64" in text
    assert 'name = "spoken_depth"' in text
    for row in tables.cells.to_dict("records"):
        assert cell_rows.interval(row, "spearman") in text


def test_a_page_rebuilds_alike_and_an_unfinished_one_says_so(made, tmp_path):
    tables, path = made
    assert report.page(tables, _drawn(tmp_path)) != ""
    assert report.page(tables) == report.page(Tables(tables.experiment, Store(path.parent.parent, "spoken_depth")))
    unfinished = Page(report.page(spoken.tables(tmp_path, leave_out=4)))
    assert "So far (14 of 18 trials): " in unfinished.text
    assert unfinished.wrong == []
    assert "img" not in unfinished.tags


def test_a_page_without_any_usable_number(tmp_path):
    tables = spoken.tables(tmp_path, leave_out=17)  # one trial, collapsed
    page = Page(report.page(tables))
    assert page.wrong == []
    assert "No spearman correlation is usable yet." in page.text
    empty = Page(report.page(spoken.tables(tmp_path / "none", leave_out=18)))
    assert empty.wrong == []
    assert "So far (0 of 18 trials): No spearman correlation is usable yet." in empty.text


def test_an_audit_is_part_of_the_page_where_there_is_one(made):
    tables, path = made
    assert "Audit of published packages" not in path.read_text()
    page = Page(report.page(tables, audit=AUDIT))
    assert page.wrong == []
    assert "audit" in page.ids
    for words in ("pydvl", "nystroem", "zeros for test points beyond the number of parameters", "audit/audit."):
        assert words in page.text
    answers, cases = audits.tables(AUDIT)
    assert len(answers.rows) == len(pd.read_csv(AUDIT / "audit.csv"))
    assert len(cases.rows) == len(pd.read_csv(AUDIT / "defects.csv"))


def test_columns_that_come_later_are_shown(made):
    tables, _ = made
    place = np.arange(len(tables.cells)) // 2  # among the cells of one protocol
    cells = tables.cells.assign(
        kendall=0.5, kendall_low=0.4, kendall_high=0.625, spearman_band_low=-0.125, spearman_band_high=0.25,
        minima=place % 3 + 1, novelty="new",
        novel_error=1.5e-5 * (place % 2), novel_error_low=1e-5, novel_error_high=2e-5,
        novel_mean=place / 7,
    )  # fmt: skip
    main, _, further, _ = cell_tables.cells(tables.experiment, cells)
    shown = {column.label: [row[place].text for row in main.rows] for place, column in enumerate(main.columns)}
    assert shown["kendall"][0] == "0.500 [0.400, 0.625]"
    assert shown["spearman of shuffled rows"][0] == "-0.125 to 0.250"
    assert shown["minima"][:3] == ["1", "2", "3"]
    assert [column.label for column in further.columns[-2:]] == ["novel error", "novel mean"]
    assert further.rows[1][-2].text == "1.5e-05 [1e-05, 2e-05]"
    labels = [column.label for column in (*main.columns, *further.columns)]
    assert not any(label.endswith(("low", "high")) for label in labels)
    assert any("novelty new" in note for note in main.notes)
    assert any(
        "0 of 6 cells lie inside the band of shuffled rows" in remark
        for remark in answers.remarks(tables.experiment, cells.to_dict("records"))
    )


def test_every_protocol_has_a_table_of_its_own_and_terms_are_explained(made):
    tables, path = made
    found = cell_tables.cells(tables.experiment, tables.cells)
    assert [table.caption for table in found] == [
        f"{kind} by cell, protocol “{name}”"
        for kind in ("Correlations", "Further metrics")
        for name in ("stationary", "warm")
    ]
    for table in found[:2]:
        assert [column.label for column in table.columns[:5]] == [
            "depth",
            "weight_decay",
            "estimator",
            "usable",
            "minima",
        ]
        assert all(column.meaning for column in table.columns[3:])
        assert "slope median" in [column.label for column in table.columns]
        assert len(table.rows) == 12
    notes = [note for table in found for note in table.notes]
    for term in ("usable", "minima"):
        assert sum(note.startswith(f"{term}: ") for note in notes) == 1
        assert cell_tables.MEANINGS[term] in Page(path.read_text()).text
    for stem in ("overview", "spearman_against_model_depth"):
        assert "usable comparisons (one trial and test row each, whose correlation is defined)" in report._caption(stem)
    assert "median" in report._caption("overview")
    assert "median" in report._caption("predicted_vs_actual_exact_warm")


def test_the_index_names_every_experiment(made, tmp_path):
    tables, path = made
    results = path.parent.parent
    empty = spoken.experiment(tmp_path, spoken.SPEC.replace("spoken_depth", "never_ran"))
    wider = spoken.experiment(tmp_path, spoken.SPEC.replace("[sweep]", '[sweep]\n"model.width" = [3, 4]'))
    store = Store(results, "spoken_depth")
    found = [(tables.experiment, store), (empty, Store(results, "never_ran")), (wider, store)]
    page = Page(report.write_index(results, found).read_text())
    assert page.wrong == []
    assert "spoken_depth/report.html" in page.loads
    assert "3 experiments" in page.text
    assert page.text.count("Its tables are those of another spec.") == 1
    assert "There are no tables yet." in page.text
    assert answers.sentences(tables.experiment, tables.cells.to_dict("records"))[0] in page.text


def test_flags_and_certificates_are_counted(made):
    readings = made[0].readings
    (flag,) = summaries.flags(readings)
    assert (flag.flag, flag.trained, flag.retrained) == ("collapsed", 1, 0)
    rows = summaries.certificates(readings, cell_paths(made[0].experiment.swept_paths))
    assert len(rows) == 6 * 2
    certified = [row for row in rows if row["protocol"] == "stationary"]
    assert all(row["removals"] == row["removals certified"] == 3 * 30 for row in certified)
    assert all(row["largest delta_error"] == 1e-10 for row in certified)
    assert all(row["removals certified"] is None for row in rows if row["protocol"] == "warm")


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([1, 2.5, None], ["1", "2.5", "–"]),
        ([True, False], ["True", "False"]),
        (["a", None], ["a", "–"]),
        ([12345678.0, 1e-12], ["12,345,678", "1e-12"]),
    ],
)
def test_numbers_are_numbers(values, shown):
    column, cells = displays.column("x", pd.Series(values, dtype=object))
    assert [cell.text for cell in cells] == shown
    assert column.numeric is (type(values[0]) in (int, float))


@pytest.mark.slow
@pytest.mark.skipif(browser.installed() is None, reason="no Chromium is installed")
def test_a_browser_opens_sorts_and_asks_for_nothing(made):
    head = "document.querySelector('table.sortable thead').rows[0].cells"
    place = f"[...{head}].findIndex(cell => cell.textContent === 'spearman')"
    column = f"[...document.querySelector('table.sortable tbody').rows].map(row => row.cells[{place}].textContent)"
    click = (
        f"(() => {{ const cell = {head}[{place}]; cell.querySelector('button').click(); "
        "return cell.getAttribute('aria-sort') })()"
    )
    seen = browser.visit(
        made[1], "document.title", column, click, column, click, column,
        "[...document.images].every(image => image.complete && image.naturalWidth > 0)",
        "document.documentElement.scrollWidth <= innerWidth", 
    )  # fmt: skip
    title, before, up, ascending, down, descending, pictures, fits = seen.results
    assert title == "spoken_depth"
    assert (up, down) == ("ascending", "descending")
    numbers = [float(text.split()[0]) for text in ascending]
    assert numbers == sorted(numbers)
    assert sorted(before) == sorted(ascending)
    assert [float(text.split()[0]) for text in descending] == numbers[::-1]
    assert pictures
    assert fits
    assert seen.complaints == []
    assert [address for address in seen.requests if not address.startswith(("file:", "data:"))] == []
    assert len([address for address in seen.requests if address.startswith("file:")]) == 1


CUT_OFF = """[...document.querySelectorAll('.wide')].filter(wide => wide.scrollWidth > wide.clientWidth && (
  wide.previousElementSibling.hidden || getComputedStyle(wide).overflowX !== 'auto'
  || getComputedStyle(wide).backgroundImage === 'none')).length"""
SEEN = """[...document.querySelectorAll('section#agreement table')].slice(0, 2).every(table =>
  [...table.tHead.rows[0].cells].find(cell => cell.textContent === 'pearson').getBoundingClientRect().right
  <= table.parentElement.getBoundingClientRect().right)"""


@pytest.mark.slow
@pytest.mark.skipif(browser.installed() is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [1300, 700])
def test_what_a_window_cuts_off_can_be_scrolled_to_and_says_so(made, width):
    fits = "document.documentElement.scrollWidth <= innerWidth"
    hinted = "[...document.querySelectorAll('.hint')].filter(hint => !hint.hidden).length > 0"
    seen = browser.visit(made[1], "innerWidth", fits, CUT_OFF, SEEN, hinted, width=width)
    assert seen.results == [width, True, 0, width == 1300, True]
    assert seen.complaints == []
