"""The command line: the only place besides the sweep where computing and reading meet."""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

import study
from study import interrupts

# Everything else is imported inside the commands: `study --help` must not wait for pandas or Dask.


def _complete_spec(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Names of specs in experiments/ and below it, or paths once the word looks like one."""
    from click.shell_completion import CompletionItem

    if "/" in incomplete or incomplete.startswith("."):
        return [CompletionItem(incomplete, type="file")]
    names = sorted({path.stem for path in Path("experiments").rglob("*.toml")})
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


SPEC = click.argument("spec", shell_complete=_complete_spec)
SPECS = click.argument("specs", nargs=-1, metavar="[SPEC]...", shell_complete=_complete_spec)
RESULTS = click.option(
    "--results", default="results", show_default=True, type=click.Path(file_okay=False), help="Folder of all evidence."
)
BOTH = "--workers starts processes here, --scheduler uses a cluster that exists: give one of them"
SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    help="Replace a value or a swept axis of the spec; repeatable.",
)


def _for_workers(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Into the environment, which the workers on this machine inherit."""
    if value:
        os.environ[str(parameter.envvar)] = "1" if value is True else os.path.abspath(value)


DATA_ROOT = click.option(
    "--data-root",
    envvar="STUDY_DATA",
    show_envvar=True,
    type=click.Path(file_okay=False),
    expose_value=False,
    callback=_for_workers,
    help="Folder of the image data sets, in torchvision's layout (MNIST/raw/…).",
)
DOWNLOAD = click.option(
    "--download",
    is_flag=True,
    envvar="STUDY_DOWNLOAD",
    expose_value=False,
    callback=_for_workers,
    help="Download an image data set that is missing there.",
)


class Group(click.Group):
    """Turns the user's mistakes into one line and exit code 2, and an interrupt into 130."""

    def invoke(self, context: click.Context) -> Any:
        interrupts.advise()
        from study.errors import StudyError

        try:
            return super().invoke(context)
        except KeyboardInterrupt as interrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # impatience while the interpreter shuts down is not an error
            click.echo(f"\ninterrupted: {interrupt}", err=True)
            context.exit(130)
        except StudyError as error:
            click.echo(f"study: {error}", err=True)
            context.exit(2)
        except BrokenPipeError:  # the reader of standard output has left
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            context.exit(0)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(study.__version__, prog_name="study")
def main() -> None:
    """How well do influence functions predict what removing a training point does?

    SPEC is the path of a spec (TOML) or the name of one in experiments/ or a folder in it. Evidence lives in RESULTS/<name of the
    experiment>/.
    """


@main.command()
@SPEC
@click.option("--workers", type=click.IntRange(min=1), help="Worker processes on this machine; default: one per core.")
@click.option("--scheduler", metavar="ADDRESS", help="Use the Dask scheduler at this address instead.")
@click.option("--device", default="cpu", show_default=True, help="Torch device of the workers.")
@SET
@click.option("--dry-run", is_flag=True, help="Show what would run, and stop.")
@click.option("--retry-failed", is_flag=True, help="Run failed trials again.")
@DATA_ROOT
@DOWNLOAD
@RESULTS
def run(
    spec: str,
    workers: int | None,
    scheduler: str | None,
    device: str,
    overrides: tuple[str, ...],
    dry_run: bool,
    retry_failed: bool,
    results: str,
) -> None:
    """Run what is missing of an experiment, then rebuild its tables and figures."""
    if workers is not None and scheduler is not None:
        raise click.UsageError(BOTH)
    from study import sweep, trials
    from study.evidence.store import Store

    if any(override.partition("=")[0].strip() == "name" for override in overrides):
        raise click.UsageError(
            "--set name: the name belongs to the spec and its results; copy the spec under another name"
        )
    experiment = trials.load(spec, overrides)
    trials.check(experiment)
    store = Store(results, experiment.name)
    work = sweep.plan(experiment, store, retry_failed)
    cores = workers or os.cpu_count() or 1
    _describe(experiment, work, cores)
    if dry_run:
        return
    outcome = sweep.run(experiment, store, work, workers, scheduler, device)
    if outcome.interrupted:
        written = _counted(outcome.written, "record was", "records were")
        again = "; units in flight are done again" if outcome.written + outcome.failed < work.pending else ""
        raise KeyboardInterrupt(f"{written} written{again}: run the same command to continue")
    failed = work.failed + outcome.failed
    if _has_records(experiment, store):
        _finish(experiment, store, f"study figures {spec}{_option(results)}")
    if failed:
        said = f"{_counted(failed, 'trial', 'trials')} failed: see {store.folder / 'failures'}"
        click.echo(f"{said}, then run again with --retry-failed", err=True)
        sys.exit(1)


def _option(results: str) -> str:
    return "" if results == "results" else f" --results {results}"


def _finish(experiment: Any, store: Any, command: str) -> None:
    """Tables, figures and the headline at the end of a run; `command` rebuilds those of the spec."""
    from study.evidence.report import headline

    changed = " ".join(f"--set {override}" for override in experiment.overrides)
    again = "run the same command" if changed else f"type `{command}`"
    interrupts.advise(f"all records are kept: {again} to continue")
    tables, written = _rebuild(experiment, store, figures=True)
    click.echo(headline.text(tables))
    if changed:
        click.echo(f"tables and figures cover only the sweep of {changed}; `{command}` brings back those of the spec")
    for path in written:
        if path.suffix == ".png":
            click.echo(f"figure: {path}")


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _describe(experiment: Any, work: Any, workers: int) -> None:
    from study import costs
    from study.progress import duration

    lines = [
        f"{experiment.name}: {_counted(len(experiment.trials), 'trial', 'trials')}, {work.done} done, "
        f"{work.failed} failed, {work.pending} to run"
    ]
    if work.damaged:
        lines.append(f"{_counted(work.damaged, 'damaged record', 'damaged records')} will be computed again")
    if work.pending:
        expected = duration(costs.START_UP + work.seconds / workers)
        lines.append(
            f"to train: {_counted(work.networks, 'network', 'networks')}; predicted: about {expected} on "
            f"{_counted(workers, 'worker', 'workers')}, {work.bytes / 1e6:.1f} MB of records"
        )
    for line in lines:
        click.echo(line)


def _rebuild(experiment: Any, store: Any, figures: bool) -> tuple[Any, list[Path]]:
    """The experiment's tables, and the files written: all from one reading of the records."""
    from study.evidence.tables import Tables

    tables = Tables(_titled(experiment), store)
    written = _noted(experiment, store, "tables", tables.write)
    if figures:
        from study.evidence import figures as drawing

        written += _noted(experiment, store, "figures", lambda folder: drawing.write_all(tables, folder))
    return tables, written


def _titled(experiment: Any) -> Any:
    """With the overrides beside the question, so that the headline and the overview show them."""
    changed = " ".join(f"--set {override}" for override in experiment.overrides)
    return replace(experiment, question=f"{experiment.question} ({changed})".strip()) if changed else experiment


def _noted(experiment: Any, store: Any, part: str, write: Callable[[Path], list[Path]]) -> list[Path]:
    """Writes a part of the results; it is noted as changed by `--set` before, and as the spec's own only after."""
    if experiment.overrides:
        store.note_overrides(part, experiment.overrides)
    written = write(store.folder / part)
    if not experiment.overrides:
        store.note_overrides(part, ())
    return written


@main.command()
@SPEC
@click.option(
    "--workers", type=click.IntRange(min=1), help="Worker processes to predict the time for; default: one per core."
)
@DATA_ROOT
@RESULTS
def status(spec: str, workers: int | None, results: str) -> None:
    """Trials done, pending and failed, and the time left."""
    from study import sweep

    experiment, store = _experiment(spec, results)
    work = sweep.standing(experiment, store)
    pending, failed, damaged = len(work.pending), len(work.failed), len(work.damaged)
    click.echo(f"{experiment.name}: {len(work.good)} done, {pending} pending, {failed} failed, {damaged} damaged")
    if pending:
        cores = workers or os.cpu_count() or 1
        click.echo(f"time left: {_expected(work, cores)}")
    for key in sorted(work.failed):
        click.echo(f"failed {key[:12]}: {store.failure_reason(key)}")


def _expected(work: Any, cores: int) -> str:
    from study import sweep
    from study.errors import StudyError
    from study.progress import duration

    try:
        return f"about {duration(sweep.planned(work).seconds / cores)} on {_counted(cores, 'worker', 'workers')}"
    except StudyError as error:  # the data are not here: a spec kept with its results is enough to count, not to plan
        return f"cannot be told ({error})"


@main.command()
@SPEC
@RESULTS
def tables(spec: str, results: str) -> None:
    """Rebuild the tables of an experiment from its records."""
    _derive(spec, results, figures=False)


@main.command()
@SPEC
@RESULTS
def figures(spec: str, results: str) -> None:
    """Rebuild the tables and figures of an experiment from its records."""
    _derive(spec, results, figures=True)


def _derive(spec: str, results: str, figures: bool) -> None:
    experiment, store = _experiment(spec, results)
    _need_records(experiment, store)
    tables, written = _rebuild(experiment, store, figures)
    for path in written:
        click.echo(path)
    _tell_left_out(tables)


def _tell_left_out(tables: Any) -> None:
    """What a reader of the files written would otherwise not know: they hold a part of the experiment only."""
    readings = tables.readings
    missing, damaged, trials = len(readings.missing), len(readings.damaged), len(readings.experiment.trials)
    if missing or damaged:
        left = " and ".join(
            filter(None, [f"{missing} without a record" * bool(missing), f"{damaged} damaged" * bool(damaged)])
        )
        click.echo(f"left out: {left}, of {_counted(trials, 'trial', 'trials')}; `study run` computes them", err=True)


@main.command()
@SPEC
@click.option("--out", required=True, type=click.Path(dir_okay=False), help="A .parquet or .csv file.")
@click.option("--table", type=click.Choice(["pairs", "trials"]), default="pairs", show_default=True)
@RESULTS
def export(spec: str, out: str, table: str, results: str) -> None:
    """Write one table of an experiment: every pair of training row and test row, or every trial."""
    from study.evidence.tables import Tables
    from study.evidence.tables import export as exporting

    experiment, store = _experiment(spec, results)
    _need_records(experiment, store)
    tables = Tables(experiment, store)
    click.echo(exporting.export(tables, Path(out), table))
    _tell_left_out(tables)


@main.command()
@SPEC
@click.option("--trial", "key", metavar="KEY", help="First digits of a trial's key; default: the first with a record.")
@click.option("--estimator", metavar="NAME", help="An estimator of kind lissa in the spec; default: the first.")
@click.option("--neighbours", type=click.IntRange(min=1), default=50, show_default=True, help="Rows per test point.")
@click.option("--features", default="input", show_default=True, help="The layer in which rows are near each other.")
@click.option("--out", required=True, type=click.Path(dir_okay=False), help="A .parquet or .csv file.")
@click.option("--workers", type=click.IntRange(min=1), help="Worker processes on this machine; default: one per core.")
@click.option("--scheduler", metavar="ADDRESS", help="Use the Dask scheduler at this address instead.")
@DATA_ROOT
@RESULTS
def explain(
    spec: str,
    key: str | None,
    estimator: str | None,
    neighbours: int,
    features: str,
    out: str,
    workers: int | None,
    scheduler: str | None,
    results: str,
) -> None:
    """Write which training rows near a test point change its loss, for a network that has a record.

    Estimates of all repeats and test points run in parallel, then the influences of the nearest rows (FastIF).
    """
    if workers is not None and scheduler is not None:
        raise click.UsageError(BOTH)
    import pandas as pd

    from study import explain as explaining
    from study import trials
    from study.evidence.store import Store
    from study.evidence.tables import export as exporting
    from study.workers import client

    experiment = trials.load(spec)
    path = exporting.checked(out)
    asked = explaining.ask(experiment, Store(results, experiment.name), key, estimator, features, neighbours)
    interrupts.advise("nothing was written")
    with client(workers, scheduler, asked.estimates) as connection:
        rows = explaining.explain(asked, connection)
    exporting.write(pd.DataFrame(rows, columns=list(explaining.COLUMNS)), path)
    for flag in asked.flags:
        click.echo(f"{asked.estimator.name} is flagged {flag} on this network", err=True)
    click.echo(path)


@main.command()
@SPECS
@RESULTS
def check(specs: tuple[str, ...], results: str) -> None:
    """Verify every record of these experiments, or of all that have results; exit code 1 if any is damaged."""
    from study.evidence.store import Store

    stores = [_experiment(spec, results)[1] for spec in specs] or [Store(results, name) for name in _names(results)]
    if not stores:
        click.echo(f"no results in {results}")
    found = 0
    for store in stores:
        damaged = store.damaged()
        found += len(damaged)
        for path, reason in damaged:
            click.echo(f"damaged: {path}: {reason}")
        for path, reason in store.leftovers():
            click.echo(f"{path}: {reason}, never read")
        count = _counted(len(store.done()), "record", "records")
        click.echo(f"{store.folder.name}: {count}, {len(damaged)} damaged")
    if found:
        click.echo("`study run SPEC` computes damaged records again", err=True)
        sys.exit(1)


@main.command()
@SPECS
@RESULTS
def report(specs: tuple[str, ...], results: str) -> None:
    """Rebuild the HTML page of these experiments, or of all that have records, and the index over all.

    Tables and figures are rebuilt with it, from the same reading of the records.
    """
    from study.evidence import report as reporting

    chosen = [_experiment(spec, results) for spec in specs]
    found = _with_results(results)
    for experiment, store in chosen or [pair for pair in found if _has_records(*pair)]:
        _need_records(experiment, store)
        tables, written = _rebuild(experiment, store, figures=True)
        click.echo(reporting.write(tables, store.folder, written))
        _tell_left_out(tables)
    click.echo(reporting.write_index(Path(results), found))


@main.command()
@SPEC
@RESULTS
def cite(spec: str, results: str) -> None:
    """Print and write what a paper needs: sentences with intervals, LaTeX numbers and table, BibTeX, trial keys."""
    from study.evidence.report import cite as citing
    from study.evidence.tables import Tables

    experiment, store = _experiment(spec, results)
    _need_records(experiment, store)
    tables = Tables(experiment, store)
    written = citing.write(tables, store.folder)
    click.echo(citing.text(tables))
    for path in written:
        click.echo(f"written: {path}")


@main.command()
@SPEC
@click.option("--peers", default="", metavar="NAME,…", help="Packages to audit, separated by commas; default: all.")
@click.option("--workers", type=click.IntRange(min=1), help="Packages asked at a time; default: one per core.")
@click.option("--again", is_flag=True, help="Ask also what they have answered before.")
@DATA_ROOT
@RESULTS
def audit(spec: str, peers: str, workers: int | None, again: bool, results: str) -> None:
    """Ask published packages for the influence of the same pairs on the same networks, and compare with our exact answer.

    Each package (captum, kronfluence, dattri, pydvl, curvlinops) runs in an environment of its own, made at first use. What it
    answers is kept in the cache, so that after Ctrl-C the same command continues. Writes tables, predictions and a figure into
    RESULTS/<name>/audit/, of the packages asked this time.
    """
    from study.audit import auditing

    chosen = auditing.chosen(peers)
    experiment, store = _experiment(spec, results)
    _need_records(experiment, store)
    cores = workers or os.cpu_count() or 1
    if again:
        auditing.forget(chosen)
    for path in auditing.run(experiment, store, chosen, cores, lambda line: click.echo(line, err=True)):
        click.echo(path)


@main.command()
@click.argument("key")
@RESULTS
def show(key: str, results: str) -> None:
    """Print the record behind KEY, or behind its first digits (six or more, as many as tell it apart)."""
    from study.evidence import lookup

    click.echo(lookup.show(results, key))


@main.command("list")
@RESULTS
def list_(results: str) -> None:
    """The specs in experiments/ and below it, and others that have results: how far each has come, and its answer in a line."""
    from study import trials
    from study.errors import StudyError
    from study.evidence.report import answers
    from study.evidence.store import Store

    found = {}
    for path in sorted(Path("experiments").rglob("*.toml")):
        try:
            experiment = trials.load(path, kept=True)
            found[experiment.name] = experiment, Store(results, experiment.name)
        except StudyError as error:
            click.echo(f"{path}: {error}")
    found |= {store.folder.name: (experiment, store) for experiment, store in _with_results(results)}
    if not found:
        click.echo(f"nothing: no TOML file in the folder experiments here, and no results in {results}")
    for experiment, store in found.values():
        done = len(store.done() & {t.key for t in experiment.trials})
        tabled = len(answers.tabled(store) & {t.key for t in experiment.trials}) if done == 0 else 0
        kept = f" ({tabled} are in its tables, their records are not kept here)" if tabled else ""
        click.echo(f"{experiment.name}: {done}/{len(experiment.trials)} trials done{kept}. {experiment.question}")
        if line := answers.line(experiment, store):
            click.echo(f"  {line}")


def _with_results(results: str) -> list[tuple[Any, Any]]:
    """Every experiment with records or tables in the folder: by its spec in experiments/, or else by the one kept with it."""
    from study.errors import StudyError
    from study.evidence.store import Store

    names = {path.parent.name for part in ("records", "tables") for path in Path(results).glob(f"*/{part}")}
    found = []
    for store in [Store(results, name) for name in sorted(names)]:
        try:
            found.append((_of_results(store), store))
        except StudyError as error:
            click.echo(f"{store.folder.name} is left out: {error}", err=True)
    return found


def _of_results(store: Any) -> Any:
    from study import trials
    from study.errors import StudyError
    from study.specs import files

    spec = files.named_in(store.folder.name, "experiments")
    if spec is None:
        return trials.load(store.spec_path, kept=True)
    try:
        return trials.load(spec, kept=True)
    except StudyError as error:
        if not store.spec_path.is_file():
            raise
        click.echo(f"{error}; {store.spec_path} is read in its place", err=True)
        return trials.load(store.spec_path, kept=True)


def _has_records(experiment: Any, store: Any) -> bool:
    return bool(store.done() & {t.key for t in experiment.trials})


def _experiment(spec: str, results: str) -> tuple[Any, Any]:
    """By path, by name in experiments/ or below it, or by the name of its results, with which its spec is kept."""
    from study import trials
    from study.evidence.store import Store
    from study.specs import files

    kept = Path(results) / spec / "spec.toml"
    own = len(Path(spec).parts) == 1 and not files.named_in(spec, "experiments") and kept.is_file()
    experiment = trials.load(kept if own else spec, kept=True)
    return experiment, Store(results, experiment.name)


def _names(results: str) -> list[str]:
    return sorted(path.parent.name for path in Path(results).glob("*/records"))


def _need_records(experiment: Any, store: Any) -> None:
    from study.errors import StudyError

    if not _has_records(experiment, store):
        command = f"study run {experiment.path}{_option(str(store.folder.parent))}"
        kept = [name for name in ("tables", "figures", "report.html", "citation") if (store.folder / name).exists()]
        there = f"; what was made from them is kept there: {', '.join(kept)}" if kept else ""
        raise StudyError(f"{experiment.name} has no records in {store.folder}: run `{command}` first{there}")


if __name__ == "__main__":
    main()
