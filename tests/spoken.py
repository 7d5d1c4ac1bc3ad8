"""A real spec with synthetic records: what the report, the citation and the look-up of keys speak about."""

from pathlib import Path

from study import trials
from study.evidence.store import Store
from study.evidence.tables import Tables
from tests import synthetic

SPEC = """
name = "spoken_depth"
question = "Does <b>it</b> & them hold at 100 % depth?"
[data]
name = "iris"
test_rows = [83]
[model]
kind = "mlp"
activation = "gelu"
[points]
train = "all"
[[estimators]]
kind = "exact"
[[estimators]]
kind = "ggn"
[[protocols]]
kind = "warm"
[[protocols]]
kind = "stationary"
[sweep]
"model.depth" = [1, 2, 10]
"training.weight_decay" = [0.005, 1e-5]
seed = { first = 0, count = 3 }
"""


def experiment(folder: Path, text: str = SPEC) -> trials.Experiment:
    folder.mkdir(exist_ok=True)
    path = folder / "spoken.toml"
    path.write_text(text)
    return trials.load(path)


def tables(folder: Path, text: str = SPEC, leave_out: int = 0) -> Tables:
    """Tables of the spec's experiment in folder/results, its last `leave_out` trials without a record."""
    found = experiment(folder, text)
    store = Store(folder / "results", found.name)
    settings = found.trials[0].settings
    names = [tuple(part.kind for part in parts) for parts in (settings.estimators, settings.protocols)]
    for place, trial in enumerate(found.trials[: len(found.trials) - leave_out]):
        flags = ("collapsed",) if place == 0 else ()
        noise = 0.2 + 0.3 * trial.settings.model.depth
        record = synthetic.record(trial, estimators=names[0], protocols=names[1], noise=noise, flags=flags)
        record.header["spec"] = trial.settings.model_dump(mode="json")
        store.write(record)
    return Tables(found, store)
