"""Linear models under a penalty: an objective that is strongly convex for certain, minimised and certified without a Hessian of
every network's own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from study.compute import quasi_newton
from study.compute.linear import Linear
from study.compute.objective import CLASSIFICATION, Objective, Target, output_derivatives
from study.compute.quasi_newton import Minimised, line_search
from study.compute.solvers import Product, conjugate_gradients

SMALL = 512  # parameters up to which a Hessian of every network's own costs little
APPROACH, APPROACH_STEPS = 1e-6, 500  # gradient norm at which, or steps after which, Newton's method takes over
NEWTON_STEPS = 50
FURTHER = 1e-3  # of the tolerance, below which a start has its last Newton step behind it
SOLVED, SOLVER_STEPS = 1e-4, 2_000  # of a Newton step by conjugate gradients
CHORDS = 12  # steps with the base factor before a network is left to Newton's method
CONTRACTION = 0.5  # of ‖∇J‖ that a step must reach
STACK = 64  # networks whose test points are looked at together
COLUMNS = 500  # right-hand sides that are solved together


def applies(objective: Objective, weights: Tensor) -> bool:
    """Whether J_w is strongly convex for certain: a linear model, no negative weight, a penalty on every parameter.

    Small ones are left to dense Hessians, which give sharper certificates.
    """
    linear = isinstance(objective.network, Linear) and objective.x.dim() == 2 and objective.network.parameters > SMALL
    return linear and bool((objective.decay > 0).all()) and all(bool((some >= 0).all()) for some in weights.split(64))


def bounds(objective: Objective, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Of every network, λ_min(∇²J_w) from below and λ_max from above, [B]: min λ_p, and κ Σ w_i ‖x̃_i‖² + max λ_p.

    ∇²J_w = Σ w_i S_i ⊗ x̃_i x̃_iᵀ + diag λ with 0 ⪯ S_i ⪯ κI; κ = ½ of a softmax (Böhning 1992), 1 of a regression.
    """
    sizes = squared_sizes(objective.network, objective.x)
    largest = weights @ sizes * (0.5 if objective.task == CLASSIFICATION else 1.0) + objective.decay.amax(dim=1)
    return objective.decay.amin(dim=1).expand_as(largest), largest


def squared_sizes(network: object, x: Tensor) -> Tensor:
    """‖x̃_i‖² of every row [n]: with a 1 for the intercept where there is one."""
    assert isinstance(network, Linear)
    return torch.einsum("nd,nd->n", x, x) + float(network.intercept)


def gradient_norms(target: Target, theta: Tensor) -> Tensor:
    """‖∇_θ of the quantity‖ at every test point [B, T]: ‖∂/∂f‖ ‖x̃_t‖, without the gradients themselves."""
    sizes, found = squared_sizes(target.network, target.x).sqrt(), []
    for some in theta.split(STACK):
        with torch.enable_grad():
            outputs = target.network.outputs(some, target.x).detach().requires_grad_()
            (pull,) = torch.autograd.grad(target.of_outputs(outputs).sum(), outputs)
        found.append(pull.norm(dim=2) * sizes)
    return torch.cat(found)


@torch.no_grad()
def minimise(objective: Objective, theta: Tensor, weights: Tensor, tolerance: float) -> Minimised:
    """From theta [B, P] to ‖∇J_w‖ ≤ tolerance, then one more Newton step: L-BFGS until near, Newton's steps by conjugate
    gradients from there (Dembo, Eisenstat & Steihaug 1982), network by network. A start that has all this behind it stays.
    """
    near = quasi_newton.minimise(objective, theta, weights, max(tolerance, APPROACH), APPROACH_STEPS)
    ends = []
    for b in range(len(theta)):
        one = slice(b, b + 1)
        ends.append(_newton(objective.networks(one), near.theta[one], weights[one], tolerance))
    end = Minimised.joined(ends)
    return Minimised(end.theta, end.gradient_norm, near.iterations + end.iterations)


def _newton(objective: Objective, theta: Tensor, weights: Tensor, tolerance: float) -> Minimised:
    """One network, theta [1, P]."""
    loss, gradient = objective.gradient(theta, weights)
    everyone, steps = torch.ones(1, dtype=torch.bool, device=theta.device), 0
    last = bool(gradient.norm() <= FURTHER * tolerance)
    while steps < NEWTON_STEPS and not last:
        steps += 1
        last = bool(gradient.norm() <= tolerance)
        solved = conjugate_gradients(_product(objective, theta, weights), gradient, SOLVED, SOLVER_STEPS)
        value, slope = loss + objective.penalty(theta), -(solved.x * gradient).sum(dim=1)
        theta, value, gradient, moved = line_search(
            objective, theta, weights, value, gradient, -solved.x, slope, everyone
        )
        loss = value - objective.penalty(theta)
        last = last or not bool(moved[0])
    return Minimised(theta, gradient.norm(dim=1), torch.tensor([steps]))


def _product(objective: Objective, theta: Tensor, weights: Tensor) -> Product:
    products = objective.hessian_products(theta, weights)
    return lambda directions, _: products(directions[None])[0]


@torch.no_grad()
def from_null(
    objective: Objective, null: Tensor, weights: Tensor, factor: Tensor, base: Tensor, tolerance: float
) -> Minimised:
    """Minima of J_w for the weights [R, n], from the null [1, P], a minimum under the weights `base` [1, n].

    factor: the Cholesky factor L of H = ∇²J_base near the null. Chord steps θ ← θ − (H + Σ_j Δw_j S_j ⊗ x̃_j x̃_jᵀ)⁻¹∇J_w,
    where one row j's weight differs, by Woodbury's identity from that one factor; all networks share each pass over the
    rows. The first gradient is then known without a pass. What a chord step does not bring down goes on by `minimise`.
    """
    solver = _Solver.of(objective, null, weights, factor, base)
    theta, previous = null.expand(len(weights), -1).clone(), torch.full_like(weights[:, 0], torch.inf)
    theta -= solver.solve(solver.first, torch.arange(len(weights)))
    count = torch.ones(len(weights), dtype=torch.int64)
    active, stuck = torch.arange(len(weights)), []
    for _ in range(CHORDS):
        gradient = objective.networks(active).gradient(theta[active], weights[active])[1]
        norm = gradient.norm(dim=1)
        falls = norm <= CONTRACTION * previous[active]  # NaN does not
        done = norm <= tolerance
        stuck.append(active[~falls & ~done])
        step = falls | done
        moving = active[step]
        theta[moving] -= solver.solve(gradient[step], moving)
        previous[active], count[moving] = norm, count[moving] + 1
        active = active[falls & ~done]
        if not len(active):
            break
    rest = torch.cat([*stuck, active])
    if len(rest):
        start = torch.where(torch.isfinite(theta[rest]), theta[rest], null)
        end = minimise(objective.networks(rest), start, weights[rest], tolerance)
        theta[rest], count[rest] = end.theta, count[rest] + end.iterations
    return Minimised(theta, torch.full_like(previous, torch.nan), count)


@dataclass(frozen=True)
class _Solver:
    """Solves with H plus one row's change for every network. first: ∇J_w at the null [R, P]; rows [R], whose weight differs.

    roots: A_i [R, C, C] with S_i = A_i A_iᵀ; inner: (I/Δw + UᵀH⁻¹U)⁻¹ [R, C, C] for U = A_i ⊗ x̃_i.
    """

    network: Linear
    x: Tensor
    factor: Tensor
    first: Tensor
    rows: Tensor | None
    roots: Tensor
    inner: Tensor

    @classmethod
    def of(cls, objective: Objective, null: Tensor, weights: Tensor, factor: Tensor, base: Tensor) -> "_Solver":
        network, x = objective.network, objective.x
        assert isinstance(network, Linear)
        rows, lost = _single_rows(weights, base)
        empty = null.new_empty(0)
        if rows is None:  # as where the others' weights are renormalised: H alone is near enough
            first = objective.gradient(null.expand(len(weights), -1), weights)[1]
            return cls(network, x, factor, first, None, empty, empty)
        pull, bends = output_derivatives(network.outputs(null, x[rows]), objective.y[rows], objective.task)
        own = network.row_gradients(null, x[rows], pull)[0]
        first = objective.gradient(null, base)[1] + lost[:, None] * own
        roots = _roots(bends[0], network.outputs(null, x[rows])[0], objective.task)
        inner = torch.linalg.inv(_leverages(network, x[rows], roots, factor) + _identity(roots) / lost[:, None, None])
        return cls(network, x, factor, first, rows, roots, inner)

    def solve(self, right: Tensor, which: Tensor) -> Tensor:
        """(H + Δw_i U_i U_iᵀ)⁻¹r for the rows r of `right` [k, P], of the networks `which`."""
        z = torch.cholesky_solve(right.T, self.factor).T
        if self.rows is None:
            return z
        x, roots = self.x[self.rows[which]], self.roots[which]
        along = torch.einsum("rca,rc->ra", roots, self.network.outputs_of_each(z, x))
        back = torch.einsum("rca,rab,rb->rc", roots, self.inner[which], along)
        return z - torch.cholesky_solve(self.network.outer(back, x).T, self.factor).T


def _single_rows(weights: Tensor, base: Tensor) -> tuple[Tensor | None, Tensor]:
    """The one row [R] whose weight differs from the base's, and by how much; None where it is not just one."""
    rows, lost = [], []
    for some in weights.split(64):
        change = some - base
        if (change.count_nonzero(dim=1) != 1).any():
            return None, weights.new_empty(0)
        rows.append(change.abs().argmax(dim=1))
        lost.append(change.sum(dim=1))
    return torch.cat(rows), torch.cat(lost)


def _roots(bends: Tensor, outputs: Tensor, task: str) -> Tensor:
    """A_i with A_i A_iᵀ = S_i [R, C, C]: diag(√p) − p√pᵀ of a softmax, I of a regression."""
    if task != CLASSIFICATION:
        return bends
    p = torch.softmax(outputs, dim=1)
    return torch.diag_embed(p.sqrt()) - p[:, :, None] * p.sqrt()[:, None, :]


def _leverages(network: Linear, x: Tensor, roots: Tensor, factor: Tensor) -> Tensor:
    """UᵀH⁻¹U [R, C, C] of every row."""
    found = []
    for own, rows in zip(roots.split(COLUMNS // roots.shape[1]), x.split(COLUMNS // roots.shape[1]), strict=True):
        columns = network.outer(own.mT, rows[:, None])  # [r, C, P]
        half = torch.linalg.solve_triangular(factor, columns.flatten(0, 1).T, upper=False)
        half = half.T.unflatten(0, columns.shape[:2])
        found.append(half @ half.mT)
    return torch.cat(found)


def _identity(like: Tensor) -> Tensor:
    return torch.eye(like.shape[1], dtype=like.dtype, device=like.device)
