"""`lissa`: the inverse as a recursion on random rows (Agarwal, Bullins & Hazan 2017), with what it hides made plain."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat

import numpy as np
import torch
from torch import Tensor

from study.compute import fused
from study.compute.estimators.prediction import Prediction, largest_ratio
from study.compute.estimators.through_tests import System
from study.compute.networks import Products
from study.compute.problems import Fitted
from study.specs import Lissa

FAR = 0.1  # residual above which an estimate is nowhere near its fixed point
WINDOW = 50  # steps whose norms are averaged before they are compared
KEPT = 20  # iterate norms, at depths evenly spread on a logarithmic scale


def predict(fitted: Fitted, settings: Lissa) -> Prediction:
    """h_0 = v, h_j = v + (1 − d) h_{j−1} − Ĥ_j h_{j−1}/s with Ĥ_j on B rows drawn anew (with replacement), s_t ≈ mean_r h_J/s.

    Its fixed point is (H + d·s·I)⁻¹v: `damping` in the evidence is this *effective* one, to which stopping at depth J adds
    about `truncation_damping` = s/J. All test points and repeats go through the recursion together; repeats differ in their
    rows, which do not depend on the test points. formed: 1 where B is all rows and M was formed once (`System.formed`).
    spread: of single repeats about their mean, relative to it. growth: ‖h_J‖ over the (J + 1)‖v‖ that no contraction can
    exceed: above 1 it is flagged "diverged_recursion".

    until (Guo et al. 2021, who let the recursion run until it converges): J is the first depth at which the mean of ‖h‖ over
    the last WINDOW steps and all repeats differs from that over the WINDOW before by no more than that part of it, for every
    test point. depth_used says where it ended. "unconverged": where `depth` comes first, and wherever the residual at the
    effective damping is above FAR.
    """
    system = System.of(fitted, settings.matrix, settings.parameters)
    walk = _walk(system, settings, range(settings.repeats), settings.depth)
    solution = walk.ends / settings.scale
    mean = solution.mean(dim=0)
    effective = settings.damping * settings.scale
    spread = (solution - mean).square().sum(dim=2).mean(dim=0).sqrt() / mean.norm(dim=1)
    matrix = _formed(system, settings, settings.repeats)
    rest = system.products(mean, effective, matrix) - system.right
    evidence = {
        "residual": largest_ratio(rest, system.right),
        "formed": int(matrix is not None),
        "depth_used": walk.steps,
        "truncation_damping": settings.scale / walk.steps,
        "spread": spread.max().item() if settings.repeats > 1 else float("nan"),
        "growth": walk.growth,
        "norm_depths": [float(depth) for depth in walk.depths],
        "norms": walk.norms,
    }
    diverged = not walk.growth <= 1.0
    found = system.prediction(mean, effective, {**evidence}, ["diverged_recursion"] * diverged)
    residual = found.evidence["residual"]
    assert isinstance(residual, float)
    if not diverged and (residual > FAR or (settings.until > 0 and not walk.converged)):
        found.flags.append("unconverged")
    return found


def estimates(system: System, settings: Lissa, numbers: Sequence[int], steps: int) -> Tensor:
    """s_t by each of these repeats alone, [len(numbers), T, p], after so many steps: their mean over all repeats is what
    `predict` uses. Which steps the recursion ends at is up to the caller, who sees all repeats and test points; see `until`.
    """
    return _walk(system, settings.model_copy(update={"until": 0.0}), numbers, steps).ends / settings.scale


@dataclass(frozen=True)
class _Walk:
    """ends: h_J [repeats, T, p] after J `steps`; norms: largest ‖h‖/‖v‖ over repeats and test points at some depths; growth
    and converged: see `predict`.
    """

    ends: Tensor
    steps: int
    converged: bool
    depths: list[int]
    norms: list[float]
    growth: float


@torch.no_grad()
def _walk(system: System, settings: Lissa, numbers: Sequence[int], steps: int) -> _Walk:
    right = system.right
    h = right.expand(len(numbers), *right.shape).clone()
    size = right.norm(dim=1).clamp(min=torch.finfo(right.dtype).tiny)
    kept = {round(depth) for depth in np.geomspace(1, settings.depth, KEPT)}
    depths, norms, recent, converged, depth = list[int](), list[float](), list[Tensor](), False, 0
    for depth, following in zip(range(1, steps + 1), _recursion(system, settings, numbers), strict=False):
        h = following(h)
        if settings.until:
            recent = [*recent[-2 * WINDOW + 1 :], h.norm(dim=2).mean(dim=0)]
            converged = _settled(recent, settings.until)
        if depth in kept or converged:
            depths.append(depth)
            norms.append((h.norm(dim=2) / size).max().item())
        if converged:
            break
    return _Walk(h, depth, converged, depths, norms, norms[-1] / (depth + 1))


def _settled(recent: list[Tensor], until: float) -> bool:
    """recent: the mean norms [T] of the last steps; compared window by window, so that single batches do not decide."""
    if len(recent) < 2 * WINDOW:
        return False
    before, now = (torch.stack(part).mean(dim=0) for part in (recent[:WINDOW], recent[WINDOW:]))
    return bool(((now - before).abs() <= until * before).all())


def _recursion(system: System, settings: Lissa, numbers: Sequence[int]) -> Iterator[Products]:
    """For every depth, h_{j−1} ↦ h_j for h [repeats, T, p].

    On all rows it is one matrix product a step where M is formed: h_j = v + h_{j−1}((1 − d)I − M/s).
    """
    matrix = _formed(system, settings, len(numbers))
    if matrix is None:
        for product in _batches(system, settings, numbers):
            yield partial(_step, system.right, settings, product)
        return
    kept = (1 - settings.damping) * torch.eye(len(matrix)).to(matrix)
    yield from repeat(partial(_contracted, system.right, kept - matrix / settings.scale))


def _formed(system: System, settings: Lissa, repeats: int) -> Tensor | None:
    """M where every step is on all rows and it is cheaper formed, else None."""
    if settings.batch_size != "full":
        return None
    return system.formed(repeats * len(system.right), settings.depth)


def _contracted(right: Tensor, contraction: Tensor, h: Tensor) -> Tensor:
    start = right.expand_as(h).flatten(0, 1)
    return torch.addmm(start, h.flatten(0, 1), contraction).view_as(h)


def _step(right: Tensor, settings: Lissa, product: Products, h: Tensor) -> Tensor:
    return right + (1 - settings.damping) * h - product(h) / settings.scale


def _batches(system: System, settings: Lissa, numbers: Sequence[int]) -> Iterator[Products]:
    """For every depth, h ↦ Ĥh for h [repeats, T, p], on rows that each of the repeats draws for itself."""
    fitted, objective = system.fitted, system.fitted.problem.objective
    if settings.batch_size == "full":
        yield from repeat(lambda h: system.products(h.flatten(0, 1)).view_as(h))
        return
    rows = _rows(system, settings, numbers).to(fitted.theta.device)
    thetas = fitted.theta.expand(len(numbers), -1)
    weights = torch.full_like(rows[0], 1 / rows.shape[2], dtype=thetas.dtype)
    formed = fused.hessian(objective.network, objective.task, thetas) is not None
    for chosen in rows:
        batch = objective.batch(chosen)
        if formed:  # one compiled pass forms small matrices in a fraction of the time that products take
            yield partial(_by_matrix, system, batch.hessian(thetas, weights, system.gauss_newton))
        else:
            yield partial(_by_products, system, batch.hessian_products(thetas, weights, system.gauss_newton))


def _by_matrix(system: System, matrices: Tensor, h: Tensor) -> Tensor:
    if len(system.positions) < matrices.shape[1]:
        matrices = system.restricted(system.restricted(matrices).mT)
    return h @ matrices


def _by_products(system: System, product: Products, h: Tensor) -> Tensor:
    return system.restricted(product(system.embedded(h)))


def _rows(system: System, settings: Lissa, numbers: Sequence[int]) -> Tensor:
    """[depth, repeats, B]: each repeat has a generator of its own, so that more repeats leave the first ones as they are."""
    size = settings.depth, int(settings.batch_size)
    n = system.fitted.problem.objective.rows
    drawn = [system.generator(settings.seed, number).integers(n, size=size) for number in numbers]
    return torch.as_tensor(np.stack(drawn, axis=1))
