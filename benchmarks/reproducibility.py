"""What changes when an experiment is computed twice: `python -m benchmarks.reproducibility NAME SPEC ONE OTHER`.

ONE and OTHER are results folders, of two processors or two versions of the program. Of trials in both: how many trained
networks give other predictions, and how many certified removals another change although the network is the same, by more
than ALIKE; and how many of these removals are flagged as having left their basin. Kept as measured/reproducibility_NAME.json.
"""

import sys
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.report import report
from study import trials
from study.evidence.store import Store
from study.records import Record

ALIKE = 1e-8  # in the units of the target: the bound of a certified change's error


def compared(one: Record, other: Record, protocol: str) -> Counter[str]:
    estimator = next(iter(one.header["estimators"]))
    predicted = [record.arrays[f"predicted/{estimator}"] for record in (one, other)]
    found = Counter({"trained networks": 1, "removals": len(one.arrays["removed_rows"])})
    if np.abs(predicted[0] - predicted[1]).max() > ALIKE:
        found["trained networks that end in another minimum"] += 1
        return found
    changes = [record.arrays[f"actual/{protocol}"] for record in (one, other)]
    differ = (np.abs(changes[0] - changes[1]) > ALIKE).any(axis=1)
    left = np.array(["another_basin" in text for text in one.arrays[f"flag/{protocol}"]])
    found["removals of the same network that end in another minimum"] += int(differ.sum())
    found["of these flagged as having left their basin"] += int((differ & left).sum())
    return found


def main(name: str, spec: str, *folders: str) -> None:
    experiment = trials.load(Path(spec))
    one, other = (Store(Path(folder), experiment.name) for folder in folders)
    found: Counter[str] = Counter()
    processors: list[set[str]] = [set(), set()]
    for key in sorted(one.done() & other.done() & {trial.key for trial in experiment.trials}):
        records = one.read(key), other.read(key)
        protocols = [name for name, made in records[0].header["protocols"].items() if made["kind"] == "stationary"]
        for protocol in protocols:
            found.update(compared(*records, protocol))
        for seen, record in zip(processors, records, strict=True):
            provenance = record.header["provenance"]
            seen.add(f"{provenance['machine']['processor']}, commit {str(provenance['commit'])[:12]}")
    names = {label: "; ".join(sorted(seen)) for label, seen in zip(("one", "other"), processors, strict=True)}
    report(f"reproducibility_{name}", {"experiment": experiment.name, **names, **found})


if __name__ == "__main__":
    main(*sys.argv[1:])
