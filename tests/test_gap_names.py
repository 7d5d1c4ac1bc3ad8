"""What gaps are called, kind by kind."""

import pytest

from study.evidence import gap_names
from study.evidence.figures import style
from study.specs.schema import ESTIMATOR_KINDS, PROTOCOL_KINDS

COLD, WARM, CERTIFIED = {"kind": "cold"}, {"kind": "warm"}, {"kind": "stationary"}
NEAR, LESS = {"kind": "proximal", "damping": 0.01}, {"kind": "proximal", "damping": 0.01, "subtract_gradient": True}
RESPONSE, QUADRATIC = {"kind": "pbrf", "damping": 0.01}, {"kind": "linearised_pbrf", "damping": 0.01}
GGN = {"kind": "ggn", "damping": 0.01, "parameters": "all"}
EXACT, DAMPED = ({"kind": "exact", "damping": d, "parameters": "all"} for d in (0.0, 0.01))
LAST = {"kind": "exact", "damping": 0.0, "parameters": "last_layer"}
CG = {"kind": "cg", "matrix": "hessian", "damping": 0.0, "parameters": "all"}
LISSA = {"kind": "lissa", "matrix": "hessian", "damping": 0.001, "scale": 10.0, "parameters": "all"}
ON_GGN = {**CG, "matrix": "gauss_newton", "damping": 0.01}
CASES = [
    (COLD, WARM, "warm/cold"),
    ({"kind": "cold_seeds"}, WARM, "warm/cold"),
    (WARM, CERTIFIED, "non-convergence"),
    (NEAR, LESS, "non-convergence"),
    (WARM, NEAR, "proximity"),
    (CERTIFIED, NEAR, "proximity"),
    (LESS, RESPONSE, "residual curvature"),
    (CERTIFIED, EXACT, "linearisation"),
    (RESPONSE, QUADRATIC, "linearisation"),
    (CERTIFIED, {"kind": "newton_step", "parameters": "all"}, "linearisation"),
    (WARM, {"kind": "unrolled", "from": "base", "parameters": "all"}, "linearisation"),
    (COLD, {"kind": "unrolled", "from": "init", "parameters": "all"}, "linearisation"),
    (EXACT, DAMPED, "damping"),
    (EXACT, CG, "solver"),
    (DAMPED, LISSA, "solver"),  # its effective damping is 0.001 · 10
    (QUADRATIC, GGN, "solver"),
    (GGN, {"kind": "ekfac", "damping": 0.01, "parameters": "all"}, "solver"),
    (QUADRATIC, ON_GGN, "solver"),
    # over several steps
    (COLD, CERTIFIED, "warm/cold + non-convergence"),
    (COLD, EXACT, "warm/cold + non-convergence + linearisation"),
    (CERTIFIED, DAMPED, "linearisation + damping"),
    (EXACT, LISSA, "damping + solver"),
    (EXACT, LAST, "parameters"),
    (CERTIFIED, LAST, "linearisation + parameters"),
    (EXACT, {**LAST, "penalty": False}, "parameters + penalty"),
    (WARM, {"kind": "horizon"}, "a to b"),
    (COLD, {"kind": "warm", "parameters": "last_layer"}, "warm/cold + parameters"),
    (NEAR, RESPONSE, "non-convergence + residual curvature"),
    (WARM, GGN, "proximity + non-convergence + residual curvature + linearisation + solver"),
    (RESPONSE, {**GGN, "damping": 0.1}, "linearisation + damping + solver"),
    # on no common way
    (EXACT, GGN, "a to b"),
    (EXACT, ON_GGN, "a to b"),
    (WARM, {"kind": "unrolled", "from": "init", "parameters": "all"}, "a to b"),
    (CERTIFIED, {"kind": "identity", "parameters": "all"}, "a to b"),
    (CERTIFIED, WARM, "a to b"),
    (EXACT, EXACT, "a to b"),
]


@pytest.mark.parametrize(("first", "second", "expected"), CASES)
def test_a_gap_is_named_by_the_kinds_of_its_nodes(first, second, expected):
    assert gap_names.name({**first, "name": "a"}, {**second, "name": "b"}) == expected


def test_every_kind_named_here_is_one_of_the_schema():
    stages = {kind for stages, _ in gap_names.WAYS for kinds in stages for kind in kinds}
    known = {*ESTIMATOR_KINDS, *PROTOCOL_KINDS, gap_names.LESS_GRADIENT, "cold_seeds", "horizon"}
    assert stages <= known
    for stages, steps in gap_names.WAYS:
        assert len(steps) == len(stages) - 1
        assert set(steps) <= set(gap_names.NAMES)


def test_every_name_has_a_fill_of_its_own():
    fills = [tuple(style.gap_fill(name).items()) for name in gap_names.NAMES]
    assert len(set(fills)) == len(gap_names.NAMES)
    assert style.gap_fill("a to b")["facecolor"] == style.OTHER_GAP[0]
    others = {*style.PROTOCOL_COLOURS.values(), *style.ESTIMATOR_FAMILIES, style.NETWORK_COLOUR, style.OTHER_COLOUR}
    assert not others & {face for face, _ in style.GAP_FILLS.values()}
