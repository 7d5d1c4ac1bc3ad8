"""Networks that are too large, or of too many rows, for a Hessian each: one factor of curvature that all of a trial's networks
share, gradients that share each pass, and eigenvalues by Lanczos with a stated bound.
"""

import hashlib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, lobpcg
from torch import Tensor

from study.checks import DENSE_WORK
from study.compute import fused, newton, quasi_newton
from study.compute.objective import Objective
from study.compute.quasi_newton import Minimised

DIFFERENCE = 1e-5  # of a central difference of gradients: its error is about its square times the third derivative
REFINED = 64  # Lanczos steps that a factor learns from
OUTLYING = 0.05  # distance from 1 at which an eigenvalue of the whitened Hessian is put into it
LOOK, MOST_LANCZOS = 4, 64  # Lanczos steps between two looks at what they say of the eigenvalues, and at most
DESCRIBED = 30  # steps for eigenvalues that only describe a network
KNOWN = 0.3  # of the lowest Ritz value, that its bound reaches
FAILURE = 1e-4  # probability, network by network, that a bound on an eigenvalue does not hold
APPROACH, APPROACH_STEPS = 1e-4, 500  # gradient norm at which, or steps after which, a factor takes over
ROUND, ROUNDS = 60, 12  # quasi-Newton steps with one factor, and factors, on the way to a network's minimum
NEARBY = 10  # quasi-Newton steps from where a factor was computed that it serves as if computed at their end
PATIENT_STEPS = 200  # quasi-Newton steps from the null
FURTHER = 0.01  # of the tolerance, where the quasi-Newton steps end
Products = Callable[[Tensor, Tensor], Tensor]  # of directions [k, P], each for one of the networks [k]


def applies(objective: Objective) -> bool:
    """Whether networks share a factor instead of having a dense Hessian each: where forming one takes seconds or more."""
    return not objective.network.forms(objective.rows) or objective.network.parameters**2 * objective.rows > DENSE_WORK


def certifiable(objective: Objective) -> bool:
    """Whether a factor is formed at all; rows of a network's own would need one each."""
    return objective.network.factors and objective.x.dim() == 2


@dataclass(frozen=True)
class Factor:
    """C [P, P] with CCᵀ ≈ ∇²J: C = L(I + U diag(r − 1)Uᵀ), L the Cholesky factor `lower` of a positive definite matrix near it.

    vectors: U [m, P], orthonormal rows, outlying eigenvectors of L⁻¹∇²J L⁻ᵀ; roots: r [m], of their values' sizes. downhill: the
    direction [P] of the lowest curvature vᵀ∇²Jv / vᵀLLᵀv that Lanczos found, where it is not positive, else None. own: whether
    LLᵀ is the Hessian itself.
    """

    lower: Tensor
    vectors: Tensor
    roots: Tensor
    downhill: Tensor | None = None
    own: bool = False

    def whitened(self, right: Tensor) -> Tensor:
        """C⁻¹v for the rows v of `right` [k, P]."""
        return self._scaled(torch.linalg.solve_triangular(self.lower, right.mT, upper=False).mT)

    def back(self, right: Tensor) -> Tensor:
        """C⁻ᵀv for the rows v of `right` [k, P]."""
        return torch.linalg.solve_triangular(self.lower.mT, self._scaled(right).mT, upper=True).mT

    def solve(self, right: Tensor) -> Tensor:
        """(CCᵀ)⁻¹v for the rows v of `right` [k, P]."""
        return self.back(self.whitened(right))

    def inverse(self) -> Tensor:
        """(CCᵀ)⁻¹ as a matrix [P, P]."""
        return self.solve(torch.eye(len(self.lower), dtype=self.lower.dtype, device=self.lower.device))

    def extremes(self) -> tuple[float, float]:
        """Of CCᵀ, the smallest eigenvalue from below and the largest from above: of LLᵀ, times the extremes of 1 and r²."""
        values = torch.linalg.eigvalsh(self.lower @ self.lower.mT)
        scale = torch.cat([self.roots.square(), torch.ones_like(self.roots[:1]), torch.ones(1).to(self.lower)])
        return (values[0] * scale.min()).item(), (values[-1] * scale.max()).item()

    def _scaled(self, right: Tensor) -> Tensor:
        return right + (right @ self.vectors.mT * (1 / self.roots - 1)) @ self.vectors


_known: dict[
    str, Factor
] = {}  # the last few: polish, estimators, protocols and certificates of a trial ask for the same one


@torch.no_grad()
def factor(objective: Objective, theta: Tensor, weights: Tensor, refined: bool = True) -> Factor:
    """Of ∇²J_w at one network theta [1, P], weights [1, n]: the Hessian's own Cholesky factor where it is positive definite and
    formed cheaply, or by differences (`fused.difference_hessian`); elsewhere that of the Hessian and a multiple of the identity,
    or of the Gauss-Newton matrix, refined by the outlying eigenpairs of the whitened Hessian that REFINED steps of Lanczos find,
    unless not `refined`.
    """
    name = _name(objective, theta, weights, refined)
    if name not in _known:
        _remember(name, _factor(objective, theta, weights, refined))
    return _known[name]


def _remember(name: str, found: Factor) -> None:
    while len(_known) > 1:
        del _known[next(iter(_known))]
    _known[name] = found


def _name(objective: Objective, theta: Tensor, weights: Tensor, refined: bool) -> str:
    parts = (theta, weights, objective.decay, objective.from_centre(theta), objective.y)
    return f"{refined} {hashlib.sha256(b''.join(part.cpu().numpy().tobytes() for part in parts)).hexdigest()}"


def _factor(objective: Objective, theta: Tensor, weights: Tensor, refined: bool) -> Factor:
    network, none = objective.network, theta.new_empty(0, theta.shape[1])
    if network.forms(objective.rows) and network.forms_cheaply:
        matrix, whole = objective.hessian(theta, weights)[0], True
    else:
        by_differences = fused.difference_hessian(
            network, objective.task, objective.x, objective.y, weights[0], theta[0]
        )
        whole = by_differences is not None
        matrix = objective.gauss_newton(theta[0], weights[0].clamp(min=0)) if by_differences is None else by_differences
        if whole:
            matrix.diagonal().add_(objective.decay[0])
    lower, shift = _shifted_root(matrix)
    plain = Factor(lower, none, none[:, 0], own=whole and shift == 0)
    if not refined or plain.own:
        return plain
    run = lanczos(whitened(objective, theta, weights, plain), theta, REFINED)
    values, vectors = run.pairs()
    outlying = ((values - 1).abs() > OUTLYING) & (run.errors() < 0.5 * (values - 1).abs())
    downhill = plain.back(vectors[:1])[0] if values[0] <= 0 else None
    return Factor(lower, vectors[outlying], values[outlying].abs().clamp(min=1e-3).sqrt(), downhill)


def _shifted_root(matrix: Tensor) -> tuple[Tensor, float]:
    """The Cholesky factor of A + τI, A symmetric [P, P], for the first τ of 0, 1e-8, 1e-7, … times A's largest entry that has
    one (Nocedal & Wright 2006, algorithm 3.3); NaN where none is.
    """
    largest, shift = matrix.diagonal().abs().max().item(), 0.0
    for power in range(-9, 3):
        lower, info = torch.linalg.cholesky_ex(matrix + shift * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device))
        if info == 0:
            return lower, shift
        shift = largest * 10.0 ** (power + 1)
    return torch.full_like(matrix, torch.nan), shift


def products(objective: Objective, theta: Tensor, weights: Tensor) -> Products:
    """∇²J_w v by (∇J_w(θ + hv) − ∇J_w(θ − hv))/2h for the networks theta [B, P]: all share each pass over the rows.

    Its relative error is about 1e-9, far below what an eigenvalue or the direction of a step needs.
    """

    def product(directions: Tensor, which: Tensor) -> Tensor:
        size = DIFFERENCE / directions.norm(dim=1, keepdim=True).clamp(min=1e-300)
        both = [
            objective.networks(which).gradient(theta[which] + sign * size * directions, weights[which])[1]
            for sign in (1, -1)
        ]
        return (both[0] - both[1]) / (2 * size)

    return product


def whitened(objective: Objective, theta: Tensor, weights: Tensor, shared: Factor) -> Products:
    """M = C⁻¹∇²J_w C⁻ᵀ, near I where C is a good factor for the networks theta [B, P]."""
    times = products(objective, theta, weights)
    return lambda directions, which: shared.whitened(times(shared.back(directions), which))


@dataclass(frozen=True)
class Lanczos:
    """After k steps: basis [B, k + 1, P], orthonormal to rounding; diagonal and beside [B, k] of the tridiagonal matrices."""

    basis: Tensor
    diagonal: Tensor
    beside: Tensor

    @property
    def steps(self) -> int:
        return self.diagonal.shape[1]

    def only(self, chosen: Tensor) -> "Lanczos":
        return Lanczos(self.basis[chosen], self.diagonal[chosen], self.beside[chosen])

    def further(self, product: Products, which: Tensor, steps: int) -> "Lanczos":
        """So many more steps of the networks `which` [B], each vector orthogonalised twice against all before."""
        run = self
        for _ in range(min(steps, self.basis.shape[2] - self.steps)):
            last = run.basis[:, -1]
            new = product(last, which)
            bend = (new * last).sum(dim=1)
            for _ in range(2):
                new = new - (run.basis.mT @ (run.basis @ new[..., None]))[..., 0]
            size = new.norm(dim=1)
            basis = torch.cat([run.basis, (new / size.clamp(min=1e-300)[:, None])[:, None]], dim=1)
            grown = [torch.cat([old, own[:, None]], dim=1) for old, own in ((run.diagonal, bend), (run.beside, size))]
            run = Lanczos(basis, *grown)
        return run

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Ritz values [k] and vectors [k, P] of the first network."""
        values, within = self._decomposed()
        return values[0], within[0].mT @ self.basis[0, :-1]

    def errors(self) -> Tensor:
        """‖Mv − ρv‖ [k] of the first network's Ritz pairs: so near is an eigenvalue."""
        return self.beside[0, -1] * self._decomposed()[1][0, -1].abs()

    def bounds(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of every network [B] the lowest Ritz value and, but for a probability of FAILURE, λ_min from below, λ_max from above.

        From a random start Lanczos misses an extreme eigenvalue by at most ε(λ_max − λ_min), ε = (ln(1.648√P/p)/(2k − 1))², but
        for a probability p (Kuczyński & Woźniakowski 1992, theorem 4.2, which a shift does not change); so the spread is at most
        (ρ_max − ρ_min)/(1 − 2ε), and each end at most ε times that beyond its Ritz value. Infinite while ε ≥ ½.
        """
        values = self._decomposed()[0]
        part = (math.log(1.648 * math.sqrt(self.basis.shape[2]) * 2 / FAILURE) / (2 * self.steps - 1)) ** 2
        beyond = part / (1 - 2 * part) if part < 0.5 else math.inf
        if self.steps == self.basis.shape[2]:
            beyond = 0.0  # the whole space
        spread = (values[:, -1] - values[:, 0]).clamp(min=1e-12)
        return values[:, 0], values[:, 0] - beyond * spread, values[:, -1] + beyond * spread

    def _decomposed(self) -> tuple[Tensor, Tensor]:
        matrix = torch.diag_embed(self.diagonal)
        matrix += torch.diag_embed(self.beside[:, :-1], 1) + torch.diag_embed(self.beside[:, :-1], -1)
        return torch.linalg.eigh(matrix)


def lanczos(product: Products, theta: Tensor, steps: int) -> Lanczos:
    """So many steps for all networks of a stack theta [B, P], from one random vector: no network depends on its neighbours."""
    everyone = torch.arange(len(theta), device=theta.device)
    return _begun(theta).further(product, everyone, steps)


def _begun(theta: Tensor) -> Lanczos:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(theta.shape[1], dtype=torch.float64, generator=generator).to(theta)
    none = theta.new_empty(len(theta), 0)
    return Lanczos((drawn / drawn.norm()).expand(len(theta), 1, -1), none, none)


@torch.no_grad()
def eigenvalue_bounds(objective: Objective, theta: Tensor, weights: Tensor, shared: Factor) -> tuple[Tensor, Tensor]:
    """Of M = C⁻¹∇²J_w C⁻ᵀ of the networks theta [B, P], λ_min from below and λ_max from above [B] (`Lanczos.bounds`).

    A network leaves as soon as its bound is KNOWN, or a direction of negative curvature is, which needs no bound.
    """
    low, high = (torch.full_like(theta[:, 0], torch.nan) for _ in range(2))
    left = torch.isfinite(theta).all(dim=1).nonzero()[:, 0]
    product, run = whitened(objective, theta, weights, shared), _begun(theta[left])
    while len(left) and run.steps < min(MOST_LANCZOS, theta.shape[1]):
        run = run.further(product, left, LOOK)
        ritz, low[left], high[left] = run.bounds()
        going = ~((low[left] >= KNOWN * ritz) | (ritz <= 0))
        run, left = run.only(going), left[going]
    return low, high


@torch.no_grad()
def extreme_eigenvalues(objective: Objective, theta: Tensor, weights: Tensor) -> tuple[float, float]:
    """Smallest and largest eigenvalue of ∇²J_w at one network theta [P]: of DESCRIBED steps of Lanczos, the smallest, where a
    factor is already known, of DESCRIBED steps of LOBPCG with that as preconditioner (Knyazev 2001). They describe a network, to
    about 1e-3 of the largest, and prove nothing.
    """
    if not torch.isfinite(theta).all():
        return math.nan, math.nan
    times, one = products(objective, theta[None], weights), torch.zeros(1, dtype=torch.int64, device=theta.device)
    values, vectors = lanczos(times, theta[None], DESCRIBED).pairs()
    shared = _known.get(_name(objective, theta[None], weights, True))
    if shared is None:
        return values[0].item(), values[-1].item()

    def operator(function: Callable[[Tensor], Tensor]) -> LinearOperator:
        def single(v: np.ndarray) -> np.ndarray:
            return function(torch.as_tensor(v.reshape(1, -1)).to(theta))[0].cpu().numpy()

        return LinearOperator((len(theta), len(theta)), matvec=single, dtype=np.float64)

    start = vectors[:1].mT.cpu().numpy()
    with warnings.catch_warnings():  # that it has not reached its tolerance
        warnings.simplefilter("ignore")
        found, _ = lobpcg(operator(lambda v: times(v, one)), start, M=operator(shared.solve), largest=False, maxiter=DESCRIBED,
                          tol=1e-6)  # fmt: skip
    return min(float(found[0]), values[0].item()), values[-1].item()


@torch.no_grad()
def minimise(objective: Objective, theta: Tensor, weights: Tensor, tolerance: float) -> Minimised:
    """From theta [B, P] to ‖∇J_w‖ ≤ tolerance, network by network, and some way further, where the last Newton step would go.

    Plain L-BFGS until near, where a factor is no guide yet; then L-BFGS from the inverse of a factor that is computed anew every
    ROUND steps; at a saddle to the lowest point along the most negative curvature, and on. A network that cannot descend stops
    where it is.
    """
    ends = []
    for b in range(len(theta)):
        one = slice(b, b + 1)
        ends.append(_descend(objective.networks(one), theta[one], weights[one], tolerance))
    return Minimised.joined(ends)


def _descend(objective: Objective, theta: Tensor, weights: Tensor, tolerance: float) -> Minimised:
    count = torch.zeros(1, dtype=torch.int64)
    end = Minimised(theta, objective.gradient(theta, weights)[1].norm(dim=1), count)
    for _ in range(ROUNDS):
        if not torch.isfinite(end.theta).all():
            break
        if end.gradient_norm > FURTHER * tolerance:
            before = end.gradient_norm
            if before > APPROACH:
                end = quasi_newton.minimise(objective, end.theta, weights, max(APPROACH, tolerance), APPROACH_STEPS)
                count += end.iterations
            shared = factor(objective, end.theta, weights, refined=False)
            end = quasi_newton.minimise(objective, end.theta, weights, FURTHER * tolerance, ROUND, shared.inverse())
            count += end.iterations
            if end.gradient_norm > tolerance and end.gradient_norm < before:
                continue
            if end.gradient_norm <= tolerance and shared.own and end.iterations <= NEARBY:
                _remember(_name(objective, end.theta, weights, True), shared)  # as good at the end as where it was computed
        downhill = factor(objective, end.theta, weights).downhill if end.gradient_norm <= tolerance else None
        if downhill is None:
            break
        moved = newton.escape(objective, end.theta, weights, downhill / downhill.norm())
        end = Minimised(moved, objective.gradient(moved, weights)[1].norm(dim=1), count)
    return Minimised(end.theta, end.gradient_norm, count)


@torch.no_grad()
def from_null(objective: Objective, null: Tensor, weights: Tensor, shared: Factor, tolerance: float) -> Minimised:
    """Minima of J_w for the weights [R, n], from the null [1, P] as one stack: L-BFGS whose matrices all start from the inverse
    (CCᵀ)⁻¹ and learn what is each network's own.
    """
    start = null.expand(len(weights), -1)
    return quasi_newton.minimise(objective, start, weights, FURTHER * tolerance, PATIENT_STEPS, shared.inverse())
