"""Which training rows explain a trained network's losses: FastIF on Dask workers, for a network that has a record."""

from dataclasses import dataclass
from typing import Any

from study import checks, data
from study.errors import StudyError, listed, show
from study.evidence.readings import positions
from study.evidence.store import Store
from study.records import Record
from study.specs import Lissa
from study.trials import Experiment, Trial

COLUMNS = ("test_row", "train_row", "neighbour", "predicted")


@dataclass(frozen=True)
class Asked:
    """What is asked about the network of one trial, checked: its `count` rows nearest in the features of `layer`."""

    trial: Trial
    record: Record
    estimator: Lissa
    layer: str
    count: int

    @property
    def estimates(self) -> int:
        """How many can be made side by side: repeats times test points."""
        return self.estimator.repeats * len(self.record.arrays["test_rows"])

    @property
    def flags(self) -> list[str]:
        """Reasons to doubt the estimator's numbers, which the same run without preselection has given."""
        return list(self.record.header["estimators"][self.estimator.name]["flags"])


def ask(experiment: Experiment, store: Store, key: str | None, name: str | None, layer: str, count: int) -> Asked:
    """key: the first digits of a trial's key (default: the first trial that has a record); name: of a lissa estimator.

    StudyError where there is no such record, estimator or layer, more rows are asked for than there are, or FAISS is missing.
    """
    trial = _trial(experiment, store, key)
    checks.check_extra(*checks.NEIGHBOURS)
    known = checks.layer_names(trial.settings.model)
    if known is not None and layer not in known:
        raise StudyError(f"--features {layer}: the network has no such layer; it has: {listed(known)}")
    record = store.read(trial.key)
    rows = len(record.arrays["train_rows"])
    if count > rows:
        raise StudyError(f"--neighbours {count}: there are only {rows} training rows")
    return Asked(trial, record, _estimator(trial, name), layer, count)


def _trial(experiment: Experiment, store: Store, key: str | None) -> Trial:
    done = store.done()
    found = [trial for trial in experiment.trials if trial.key.startswith((key or "").lower())]
    recorded = [trial for trial in found if trial.key in done]
    if not found:
        raise StudyError(f"--trial {key}: {experiment.name} has no trial whose key starts so")
    if not recorded:
        raise StudyError(f"{experiment.name} has no record of such a trial in {store.folder}: `study run` computes it")
    if key and len(found) > 1:
        raise StudyError(f"--trial {key}: {len(found)} trials start so; give more digits of the key")
    return recorded[0]


def _estimator(trial: Trial, name: str | None) -> Lissa:
    known = [estimator for estimator in trial.settings.estimators if isinstance(estimator, Lissa)]
    for estimator in known:
        if name in (None, estimator.name):
            return estimator
    there = f"it has: {listed(e.name for e in known)}" if known else "it has none"
    raise StudyError(f"--estimator {show(name)}: the trial has no such estimator of kind lissa; {there}")


def explain(asked: Asked, connection: Any) -> list[tuple[int, int, int, float]]:
    """One row of COLUMNS per test row and neighbour, nearest (0) first, from the workers of a Dask client.

    predicted: change of the test loss (or margin, as the spec's target says) when the row is removed; positive: the row was
    helpful.
    """
    from study.compute import fastif

    arrays, trial = asked.record.arrays, asked.trial
    split = data.split(data.load(trial.settings.data, trial.folder), trial.settings.data)
    tests = positions(split.test_rows, arrays["test_rows"])
    # where the recursion settled before its depth, as only the run of all repeats and test points could tell
    steps = int(asked.record.header["estimators"][asked.estimator.name]["depth_used"])
    theta = arrays["base_parameters"].copy()
    question = fastif.Question(trial, theta, tests, asked.estimator, steps, asked.layer, asked.count)
    near, predicted = fastif.explain(connection, question, sum(connection.nthreads().values()))
    return [
        (int(test), int(arrays["train_rows"][row]), place, float(predicted[t, place]))
        for t, test in enumerate(arrays["test_rows"])
        for place, row in enumerate(near[t])
    ]
