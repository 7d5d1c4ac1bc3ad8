"""Every rule of the verdict on a cell constructed for it, and their order."""

from dataclasses import replace

import numpy as np
import pytest

from study.evidence.verdicts import Numbers, dominant, verdict

NAN = float("nan")
GOOD = Numbers(total=10, usable=10, collapsed=0, reliability=0.9, correlation_low=0.95, slope=1.1)
BAD = replace(GOOD, correlation_low=0.5)
GAPS = {"warm/cold": 0.2, "non-convergence": 0.1, "linearisation": 0.7}
CASES = [
    (GOOD, "faithful"),
    (replace(GOOD, reliability=NAN), "faithful"),
    (replace(GOOD, correlation_low=0.9, slope=0.5), "faithful"),
    (replace(GOOD, slope=2.0), "faithful"),
    (replace(GOOD, gaps=GAPS), "faithful"),  # before any gap
    (replace(GOOD, usable=4), "undefined"),
    (replace(GOOD, usable=4, collapsed=3), "undefined"),
    (replace(GOOD, usable=4, collapsed=4), "collapsed"),
    (replace(GOOD, usable=0, collapsed=10), "collapsed"),
    (replace(GOOD, usable=0, collapsed=5), "undefined"),
    (replace(GOOD, usable=5, collapsed=5), "faithful"),  # half is enough
    (replace(GOOD, reliability=0.49), "noisy truth"),
    (replace(BAD, reliability=0.49, gaps=GAPS), "noisy truth"),
    (replace(GOOD, usable=0, reliability=0.1), "undefined"),
    (replace(GOOD, usable=0, collapsed=9, reliability=0.1), "collapsed"),
    (replace(BAD, gaps=GAPS), "linearisation"),
    (replace(BAD, reliability=0.5, gaps=GAPS), "linearisation"),
    (replace(GOOD, slope=0.49, gaps={"damping": 1.0}), "damping"),
    (replace(GOOD, slope=2.1, gaps={"damping": 1.0}), "damping"),
    (replace(GOOD, slope=NAN, gaps={"solver": 1.0}), "solver"),
    (replace(GOOD, correlation_low=NAN, gaps={"proximity": 1.0}), "proximity"),
    (replace(BAD, gaps={"warm/cold": 3.0, "linearisation": 2.9}), "warm/cold"),
    (replace(BAD, gaps={"warm/cold": 2.0, "linearisation": 1.0, "solver": 1.0}), "warm/cold"),  # half is enough
    (replace(BAD, gaps={"warm/cold": 2.0, "linearisation": 1.5, "solver": 1.0}), "mixed"),
    (replace(BAD, gaps={"residual curvature": 1.0, "linearisation": NAN}), "residual curvature"),
    (BAD, "unfaithful (no path)"),
    (replace(BAD, gaps={"linearisation": NAN}), "unfaithful (no path)"),
]


@pytest.mark.parametrize(("numbers", "expected"), CASES)
def test_the_first_rule_that_applies_decides(numbers, expected):
    assert verdict(numbers) == expected


def test_the_largest_gap_and_its_share():
    assert dominant(GAPS) == ("linearisation", pytest.approx(0.7))
    assert dominant({"a": 1.0, "b": 1.0}) == ("a", 0.5)
    name, share = dominant({"a": 0.0})
    assert name == ""
    assert np.isnan(share)
