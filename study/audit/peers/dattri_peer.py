"""dattri: explicit inverse, CG, LiSSA and Arnoldi.

Its Hessian is that of the loss function given, here a mean, and `regularization` adds λ to it; scores lack our 1/n.
"""

from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from dattri.algorithm.influence_function import (
    IFAttributorArnoldi,
    IFAttributorCG,
    IFAttributorExplicit,
    IFAttributorLiSSA,
)
from dattri.task import AttributionTask
from peer import STEPS, Case, Method, Problem, dense, distance, heard, main, slope, softmax_regression
from torch import Tensor
from torch.nn.functional import cross_entropy

BATCHES = (1, 2, 4, 8)
ITERATIONS = (10, 20, 50, 100, 200, 500, 1000)


def _scores(problem: Problem, kind: Any, batches: int = 1, spread: bool = False, **settings: Any) -> Tensor:
    """`spread`: the rows as two arguments, as its LiSSA hands them to the loss (and rounds them to float32)."""
    network = problem.network()

    def loss(parameters: Any, data: Any) -> Tensor:
        x, y = data
        outputs = torch.func.functional_call(network, parameters, (x.to(problem.theta.dtype),))
        return cross_entropy(outputs, y.long())

    task = AttributionTask(loss_func=loss, model=network, checkpoints=network.state_dict())
    attributor = kind(task=task, **settings)
    attributor.cache(problem.training(batches))
    with torch.no_grad():
        return attributor.attribute(problem.training(), problem.testing()) / len(problem.x)


def explicit(problem: Problem, batches: int) -> Tensor:
    return _scores(problem, IFAttributorExplicit, batches, regularization=problem.damping)


def cg(problem: Problem, iterations: int) -> Tensor:
    return _scores(problem, IFAttributorCG, regularization=problem.damping, max_iter=iterations)


def lissa(problem: Problem) -> Tensor:
    """Its damping is relative: (H + damping·scaling I)⁻¹ is where the recursion ends."""
    settings = {"batch_size": len(problem.x), "recursion_depth": STEPS, "scaling": problem.scale}
    return _scores(problem, IFAttributorLiSSA, damping=problem.damping / problem.scale, **settings)


def arnoldi(problem: Problem, kept: float = 1.0) -> Tensor:
    """The Krylov space of at most 200 directions, and of these the `kept` part with the largest eigenvalues."""
    settings = {"proj_dim": max(1, int(kept * problem.directions)), "max_iter": problem.directions + 1}
    return _scores(problem, IFAttributorArnoldi, regularization=problem.damping, tol=1e-10, **settings)


def per_batch_inverses() -> Case:
    """Slope against the number of batches, and the distance from Σ over batches of each one's own inverse."""
    problem = softmax_regression(rows=64)
    exact = dense(problem)
    found = [explicit(problem, batches).numpy() for batches in BATCHES]
    slopes = [slope(some, exact) for some in found]
    size = len(problem.x) // BATCHES[-1]
    parts = [slice(start, start + size) for start in range(0, len(problem.x), size)]
    summed = distance(found[-1], np.sum([dense(problem, part) for part in parts], axis=0))
    shown = ", ".join(f"{value:.3g}" for value in slopes)
    measured = (
        f"slope on the exact answer {shown} with {', '.join(map(str, BATCHES))} batches; with {BATCHES[-1]} the distance "
        f"from the sum of the batches' own inverses is {summed:.0e}, from the exact answer {distance(found[-1], exact):.2g}"
    )
    grows = all(later > 1.5 * earlier for earlier, later in pairwise(slopes))
    return Case("explicit inverse: sums the inverses of mini-batches", measured, grows and summed < 1e-8)


def nan_past_convergence() -> Case:
    """Distance from the exact answer and test points with NaN by the number of iterations."""
    problem = softmax_regression()
    exact = dense(problem)
    found = {count: cg(problem, count).numpy() for count in ITERATIONS}
    lost = {count: int(np.isnan(some).any(axis=0).sum()) for count, some in found.items()}
    whole = {count: distance(found[count], exact) for count, number in lost.items() if number == 0}
    best = min(whole, key=whole.__getitem__, default=None)
    nan = ", ".join(f"{number} after {count}" for count, number in lost.items())
    reached = f"distance {whole[best]:.0e} after {best} iterations" if best is not None else "no count without NaN"
    measured = f"{reached}; of {exact.shape[1]} test points those with NaN: {nan} ({problem.parameters} parameters)"
    confirmed = best is not None and whole[best] < 1e-6 and any(lost[count] for count in ITERATIONS if count > best)
    return Case("CG: NaN when it goes on past convergence", measured, confirmed)


def nan_projection() -> Case:
    """All directions kept, with a damping that leaves every eigenvalue positive and one that does not."""
    parts, lost = [], []
    for damping in (0.05, -0.1):
        problem = replace(softmax_regression(), damping=damping)
        with heard() as said:
            found = arnoldi(problem).numpy()
        lost.append(float(np.isnan(found).mean()))
        reached = (
            f"NaN in {lost[-1]:.0%} of the pairs" if lost[-1] else f"distance {distance(found, dense(problem)):.0e}"
        )
        spoken = next((f", saying “{line.split('. ')[1]}”" for line in said if "negative eigenvalues" in line), "")
        parts.append(f"damping {damping:g}: {reached}{spoken}")
    claim = "Arnoldi: NaN for every pair once an eigenvalue is not positive, against its own warning"
    return Case(claim, "; ".join(parts), lost == [0.0, 1.0])


METHODS = (
    Method("explicit", "one batch", partial(explicit, batches=1)),
    Method("explicit", "three batches", partial(explicit, batches=3)),
    Method("cg", "10 iterations (its default)", partial(cg, iterations=10)),
    Method("cg", "1,000 iterations", partial(cg, iterations=1000)),
    Method("lissa", "1,000 steps, all rows", lissa),
    Method("arnoldi", "200 directions at most", arnoldi),
    Method("arnoldi", "half of them kept", partial(arnoldi, kept=0.5)),
)

if __name__ == "__main__":
    main("dattri", METHODS, (per_batch_inverses, nan_past_convergence, nan_projection))
