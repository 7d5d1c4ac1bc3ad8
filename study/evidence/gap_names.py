"""What the gap between two nodes of a path is called: one table, by kinds of protocol and estimator; never imports pandas.

Two ways lead from a truth to a prediction, and each step of them is one gap (Bae et al. 2022, section 4):

    Hessian        from scratch | trained further | stationary | first order, H | its solvers
                       warm/cold    non-convergence  linearisation        solver
    Gauss-Newton   from scratch | trained further | proximal | the same less ∇J(θ*) | Bregman response | its quadratic | solvers
                       warm/cold     proximity  non-convergence   residual curvature  linearisation     solver

A gap over several steps bears all their names, joined by " + ", in this order; `damping` comes before the solver where the two
nodes are damped differently, `parameters` where one moves other parameters than the other, and `penalty` where one leaves the
penalty out of its matrix. What is on no common way is "A to B" by the nodes' own names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WARM_COLD, NON_CONVERGENCE, PROXIMITY = "warm/cold", "non-convergence", "proximity"
RESIDUAL_CURVATURE, LINEARISATION = "residual curvature", "linearisation"
PARAMETERS, PENALTY, DAMPING, SOLVER = "parameters", "penalty", "damping", "solver"
NAMES = (
    WARM_COLD, PROXIMITY, NON_CONVERGENCE, RESIDUAL_CURVATURE, LINEARISATION, PARAMETERS, PENALTY, DAMPING, SOLVER,
)  # fmt: skip
JOINT = " + "

LESS_GRADIENT = "proximal less the gradient"  # `proximal` with subtract_gradient = true
# Of each way the kinds of node at every stage, and the names of the steps between the stages.
HESSIAN: tuple[tuple[str, ...], ...] = (
    ("cold", "cold_seeds"),
    ("warm", "horizon"),
    ("stationary",),
    ("exact", "newton_step"),
    ("cg", "lissa", "arnoldi", "nystrom"),
)
HESSIAN_STEPS = (WARM_COLD, NON_CONVERGENCE, LINEARISATION, SOLVER)
GAUSS_NEWTON: tuple[tuple[str, ...], ...] = (
    ("cold", "cold_seeds"),
    ("warm", "horizon", "stationary"),
    ("proximal",),
    (LESS_GRADIENT,),
    ("pbrf",),
    ("linearised_pbrf",),
    ("ggn",),
    ("cg", "lissa", "arnoldi", "nystrom", "kfac", "ekfac"),
)
GAUSS_NEWTON_STEPS = (WARM_COLD, PROXIMITY, NON_CONVERGENCE, RESIDUAL_CURVATURE, LINEARISATION, SOLVER, SOLVER)
WAYS = ((HESSIAN, HESSIAN_STEPS), (GAUSS_NEWTON, GAUSS_NEWTON_STEPS))
MATRICES = {"hessian": HESSIAN, "gauss_newton": GAUSS_NEWTON}  # of a solver: the only way that it is on
# Estimators that linearise one protocol and no other.
OWN_TRUTH = {("warm", "unrolled", "base"): LINEARISATION, ("cold", "unrolled", "init"): LINEARISATION}

Entry = Mapping[str, Any]  # of a protocol or an estimator, as the spec in the record has it


def name(first: Entry, second: Entry) -> str:
    """Of the gap from the first node to the second."""
    own = OWN_TRUTH.get((first["kind"], second["kind"], second.get("from", "")))
    if own is not None:
        return own
    for stages, steps in WAYS:
        start, end = _stage(first, stages), _stage(second, stages)
        if start is not None and end is not None and start <= end:
            return _joined(first, second, steps[start:end]) or f"{first['name']} to {second['name']}"
    return f"{first['name']} to {second['name']}"


def _joined(first: Entry, second: Entry, steps: tuple[str, ...]) -> str:
    found = set(steps)
    if _damped(first) != _damped(second) and PROXIMITY not in found:
        found.add(DAMPING)
    if first.get("parameters", "all") != second.get("parameters", "all"):
        found.add(PARAMETERS)
    if first.get("penalty", True) != second.get("penalty", True):
        found.add(PENALTY)
    return JOINT.join(step for step in NAMES if step in found)


def _stage(entry: Entry, stages: tuple[tuple[str, ...], ...]) -> int | None:
    matrix = entry.get("matrix")
    if matrix is not None and MATRICES[matrix] is not stages:
        return None
    kind = LESS_GRADIENT if entry["kind"] == "proximal" and entry.get("subtract_gradient") else entry["kind"]
    return next((place for place, kinds in enumerate(stages) if kind in kinds), None)


def _damped(entry: Entry) -> float:
    """δ beside the penalty; of lissa the effective one."""
    scale = entry["scale"] if entry["kind"] == "lissa" else 1.0
    return float(entry.get("damping") or 0.0) * scale
