"""What stands beside the numbers of an experiment: its flags, certificates and provenance, counted over all records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from study.evidence.readings import SEPARATOR, Block, Readings

# What each flag says, and what becomes of the numbers it stands on.
FLAGS = {
    "uncertified": "A stationary leave-one-out, or the null it is measured from, lacks part of its certificate; the row "
    "is left out of the agreement.",
    "another_basin": "The retrained network moved over ten times the predicted distance, or the objective rises on the "
    "way there: certified, but not a small step. The row counts.",
    "no_minimum": "No penalty on separable data: the loss slides to 0 for ever and nothing is certified. Where the spec asks "
    "for a minimum (`polish`), correlations are undefined.",
    "collapsed": "The network predicts the class shares only; correlations mean nothing and are undefined.",
    "diverged": "Training did not stay finite; correlations are undefined.",
    "drift": "The null, retrained with nothing removed, moved further from the trained network than half of the removals "
    "moved from the null: predictions and truth are about different places. The rows count.",
    "uncertified_base": "`polish` was asked for, and the trained network did not reach a certified minimum.",
    "indefinite": "The estimator's matrix has negative eigenvalues, which are kept.",
    "negative_curvature": "The solve met a direction of negative curvature and stopped before it, or went on by minimal "
    "residuals: its matrix has no inverse that a minimum would have. The row counts.",
    "rough_run": "The derivative of the training run is not what the smallest finite change of a weight does: it is more than "
    "a hundredth of the largest change away from a central difference. The row counts.",
    "unconverged": "The solve did not reach its tolerance in the iterations allowed. The row counts.",
    "diverged_recursion": "The recursion grew beyond what any contraction allows: scale too small, or negative curvature. The "
    "row counts where its numbers are finite.",
    "singular": "The estimator's matrix has numerically zero eigenvalues, which are left out.",
    "scrambled": "The network at this place was retrained without another row than the one reported, as `points.scrambled` "
    "asks for: an error that published code has made, reproduced. The row counts.",
}
UNKNOWN = "This version of the program has no description of it."


@dataclass(frozen=True)
class FlagCount:
    """How often one flag was raised: by trained networks, by (trial, estimator), (trial, protocol), retrained networks."""

    flag: str
    meaning: str
    trained: int
    estimates: int
    protocols: int
    retrained: int


def flags(readings: Readings) -> list[FlagCount]:
    """Every flag that was raised, in the order of FLAGS."""
    levels = [Counter[str]() for _ in range(4)]
    for block in readings.blocks:
        header = block.record.header
        levels[0].update(header["flags"])
        levels[1].update(flag for own in header["estimators"].values() for flag in own["flags"])
        levels[2].update(flag for own in header["protocols"].values() for flag in own["flags"])
        for protocol in block.protocols:
            texts, counts = np.unique(block.record.arrays[f"flag/{protocol}"], return_counts=True)
            for text, count in zip(texts, counts, strict=True):
                levels[3].update({flag: int(count) for flag in str(text).split(SEPARATOR) if flag})
    raised = set().union(*levels)
    names = [name for name in FLAGS if name in raised] + sorted(raised - set(FLAGS))
    return [FlagCount(name, FLAGS.get(name, UNKNOWN), *(level[name] for level in levels)) for name in names]


def sizes(readings: Readings) -> dict[str, int]:
    """Of what the flags are counted: trained networks, estimates, protocols, retrained networks."""
    blocks = readings.blocks
    return {
        "trained": len(blocks),
        "estimates": sum(len(block.estimators) for block in blocks),
        "protocols": sum(len(block.protocols) for block in blocks),
        "retrained": sum(len(block.protocols) * len(block.removed) for block in blocks),
    }


def certificates(readings: Readings, paths: list[str]) -> list[dict[str, Any]]:
    """One row per cell and protocol: its `paths`, how much of it is certified, and the largest errors of what is."""
    groups: dict[tuple[str, ...], list[Block]] = {}
    for block in readings.blocks:
        for protocol in block.protocols:
            values = tuple(repr(block.trial.swept.get(path)) for path in paths)
            groups.setdefault((*values, protocol), []).append(block)
    return [_certified(blocks, name[-1], paths) for name, blocks in groups.items()]


def _certified(blocks: list[Block], protocol: str, paths: list[str]) -> dict[str, Any]:
    row = {path: blocks[0].trial.swept.get(path) for path in paths}
    bases = [block.record.header["base"] for block in blocks]
    row |= {
        "protocol": protocol,
        "trials": len(blocks),
        "trained certified": sum(bool(b.get("certified")) for b in bases),
    }
    row["smallest eigenvalue"] = _extreme(min, (base.get("smallest_eigenvalue") for base in bases))
    row["largest eigenvalue"] = _extreme(max, (base.get("largest_eigenvalue") for base in bases))
    found = [_Certificates(block, protocol) for block in blocks]
    row["removals"] = sum(len(block.removed) for block in blocks)
    row["removals certified"] = _sum(part.certified for part in found)
    row["in another basin"] = _sum(part.another for part in found)
    row["largest gradient norm"] = _extreme(max, (part.largest("gradient_norm") for part in found))
    row["largest delta_error"] = _extreme(max, (part.largest("delta_error") for part in found))
    return row


@dataclass(frozen=True)
class _Certificates:
    """Those of one block and protocol; index 0 of each array is the null."""

    block: Block
    protocol: str

    def _field(self, name: str) -> np.ndarray | None:
        return self.block.record.arrays.get(f"certificate/{self.protocol}/{name}")

    @property
    def trusted(self) -> np.ndarray | None:
        """[R] certified, and so is the null from which it is measured."""
        values = self._field("certified")
        return None if values is None else values[1:].astype(bool) & bool(values[0])

    @property
    def certified(self) -> int | None:
        return None if self.trusted is None else int(self.trusted.sum())

    @property
    def another(self) -> int | None:
        values = self._field("another_basin")
        return None if values is None else int(values[1:].sum())

    def largest(self, name: str) -> float | None:
        """Over the certified removals."""
        values, trusted = self._field(name), self.trusted
        if values is None or trusted is None or not trusted.any():
            return None
        return float(values[1:][trusted].max())


def provenance(readings: Readings) -> dict[str, Any]:
    """Where the records come from: each fact as the distinct values seen with the number of records, most common first."""
    headers = [block.record.header for block in readings.blocks]
    found = [header["provenance"] for header in headers]
    written = sorted(str(p["written"]) for p in found if p.get("written"))
    names = dict.fromkeys(name for p in found for name in p.get("versions", {}))
    return {
        "commits": _counted(_commit(p) for p in found),
        "dirty": sum(p.get("dirty") is True for p in found),
        "versions": {name: _counted(str(p.get("versions", {}).get(name, "unknown")) for p in found) for name in names},
        "machines": _counted(_machine(p.get("machine") or {}, p.get("device")) for p in found),
        "training": _counted(_training(p) for p in found),
        "numbers_version": _counted(str(header.get("numbers_version")) for header in headers),
        "written": (written[0], written[-1]) if written else None,
        "seconds": float(sum(p.get("seconds") or 0.0 for p in found)),
        "records": len(found),
    }


def _commit(provenance: dict[str, Any]) -> str:
    commit = provenance.get("commit")
    if not commit:
        return "unknown commit"
    return f"{commit}{', with uncommitted changes' if provenance.get('dirty') else ''}"


def _machine(machine: dict[str, Any], device: str | None) -> str:
    parts = [machine.get("system"), machine.get("architecture"), machine.get("processor"), device]
    return ", ".join(str(part) for part in parts if part) or "unknown machine"


def _training(provenance: dict[str, Any]) -> str:
    return f"{'compiled' if provenance.get('compiled') else 'eager'}, {provenance.get('dtype', 'unknown precision')}"


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _extreme(function: Any, values: Iterable[float | None]) -> float | None:
    """Ignores None; NaN wins, since a bound that could not be computed bounds nothing."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return float("nan") if any(value != value for value in known) else float(function(known))


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
