"""What a certificate leaves open: which actual changes cannot be told apart, and which not from zero."""

from __future__ import annotations

import numpy as np


def merged(values: np.ndarray, errors: np.ndarray, where: np.ndarray) -> np.ndarray:
    """`values` with those that their errors cannot tell apart replaced by one number, for ranking.

    Two values are tied when they differ by less than the sum of their errors, |a_i − a_j| < e_i + e_j, and so are all
    that a chain of such pairs joins: the intervals (a − e, a + e) overlap, and the union of each chain is apart from the
    others. One sweep finds them: in order of the lower ends, a chain breaks where a lower end is not below every upper
    end before it. With equal errors this is merging sorted neighbours.

    values, errors (≥ 0), where: [..., rows]. Returns the place of each chain, NaN where not `where`; with no errors, the
    dense order of the values. The error of the null is not asked for: it moves all actual changes alike.
    """
    low = np.where(where, values - errors, np.inf)
    order = np.argsort(low, axis=-1, kind="stable")
    low = np.take_along_axis(low, order, axis=-1)
    high = np.take_along_axis(np.where(where, values + errors, np.inf), order, axis=-1)
    reach = np.maximum.accumulate(high, axis=-1)[..., :-1]
    # Equal values tie without any error, where the interval is empty.
    breaks = (low[..., 1:] >= reach) & (low[..., 1:] != low[..., :-1])
    chain = np.zeros(low.shape)
    np.cumsum(breaks, axis=-1, out=chain[..., 1:])
    found = np.empty(low.shape)
    np.put_along_axis(found, order, chain, axis=-1)
    return np.where(where, found, np.nan)


def sign_scores(predicted: np.ndarray, actual: np.ndarray, unsure: np.ndarray | float) -> np.ndarray:
    """1 where the signs agree, 0 where they differ, ½ where either is not known.

    Not known is the sign of an exact zero and that of an actual change no larger than `unsure`, the error of the change
    itself (that of the null included). A half is what a guess would earn. All [..., rows]; NaN stays NaN.
    """
    unknown = (predicted == 0) | (np.abs(actual) <= unsure)
    agree = np.sign(predicted) == np.sign(actual)
    scores = np.where(unknown, 0.5, agree.astype(np.float64))
    return np.where(np.isfinite(predicted) & np.isfinite(actual), scores, np.nan)
