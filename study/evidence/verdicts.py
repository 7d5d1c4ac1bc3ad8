"""The verdict on a cell in words: rules over a few numbers, the first that applies; never imports pandas.

    undefined               less than half of the comparisons have a correlation, most others for another reason than collapse
    collapsed               less than half of them have one, most others because the network predicts the class shares only
    noisy truth             the reliability of the actual changes over seeds is below 0.5: no prediction could follow them
    faithful                the lower end of the 95% interval of the primary correlation is at least 0.9, and the median slope of
                            actual on predicted changes lies within 0.5 to 2
    NAME                    else the largest gap between the protocol and the estimator, in root mean square over the effect:
                            linearisation, damping, solver, non-convergence, proximity, warm/cold, ... (`gap_names`)
    mixed                   where the largest is less than half of the sum of them all
    undecided (no interval) where no path of the spec leads from the protocol to the estimator, or no gap of it is known, and the
                            correlation has no interval
    unfaithful (no path)    the same, and it has one

A number that is not known never makes a rule apply: without an interval nothing is faithful, without a reliability no truth is
noisy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

RELIABLE = 0.5  # reliability from which a truth can be followed
FAITHFUL = 0.9  # least lower end of the correlation
SLOPES = (0.5, 2.0)
HALF = 0.5  # of the sum of all gaps
UNDEFINED, COLLAPSED, NOISY, FAITHFULLY = "undefined", "collapsed", "noisy truth", "faithful"
MIXED, NO_PATH, UNDECIDED = "mixed", "unfaithful (no path)", "undecided (no interval)"


@dataclass(frozen=True)
class Numbers:
    """Of one cell, estimator and protocol: comparisons (total, usable, collapsed), NaN for what is not known; gaps: relative root
    mean squares by name, those between protocol and estimator only, empty without a path.
    """

    total: int
    usable: int
    collapsed: int
    reliability: float
    correlation_low: float
    slope: float
    gaps: Mapping[str, float] = field(default_factory=dict)


def verdict(numbers: Numbers) -> str:
    """The first rule that applies; that of the gaps always does."""
    for applies, word in ((undefined, UNDEFINED), (collapsed, COLLAPSED), (noisy, NOISY), (faithful, FAITHFULLY)):
        if applies(numbers):
            return word
    return largest_gap(numbers)


def undefined(numbers: Numbers) -> bool:
    others = numbers.total - numbers.usable - numbers.collapsed
    return 2 * numbers.usable < numbers.total and others >= numbers.collapsed


def collapsed(numbers: Numbers) -> bool:
    others = numbers.total - numbers.usable - numbers.collapsed
    return 2 * numbers.usable < numbers.total and numbers.collapsed > others


def noisy(numbers: Numbers) -> bool:
    return numbers.reliability < RELIABLE


def faithful(numbers: Numbers) -> bool:
    return numbers.correlation_low >= FAITHFUL and SLOPES[0] <= numbers.slope <= SLOPES[1]


def largest_gap(numbers: Numbers) -> str:
    name, share = dominant(numbers.gaps)
    if not name:
        return UNDECIDED if math.isnan(numbers.correlation_low) else NO_PATH
    return name if share >= HALF else MIXED


def dominant(gaps: Mapping[str, float]) -> tuple[str, float]:
    """The largest gap, the first of equals, and its share of the sum; ("", NaN) where none is above zero."""
    known = {name: size for name, size in gaps.items() if size > 0}
    if not known:
        return "", float("nan")
    name = max(known, key=lambda one: known[one])
    return name, known[name] / sum(known.values())
