"""The one objective: training, gradients, Hessians, estimators and every protocol use this and nothing else.

J_w(θ) = Σ_i w_i L(z_i, θ) + ½ Σ_p λ_p (θ_p − c_p)²,  with base weights w_i = 1/n, λ_p = weight_decay (0 for biases left free) and
c = 0; proximal objectives have another centre c and larger λ_p.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from study.compute import fused, linear
from study.compute.networks import Network, Products

CLASSIFICATION, REGRESSION = "classification", "regression"
ROW_NUMBERS = 4_000_000  # numbers of row gradients held at once
PIECE = 16_384  # rows times directions that go through the network together


def row_losses(outputs: Tensor, y: Tensor, task: str) -> Tensor:
    """L per row [B, n] from outputs [B, n, C]: cross-entropy with one-hot y [.., n, C], or ½(f − y)²; no penalty."""
    if task == CLASSIFICATION:
        return torch.logsumexp(outputs, dim=2) - (outputs * y).sum(dim=2)
    return 0.5 * (outputs - y).square().sum(dim=2)


def output_derivatives(outputs: Tensor, y: Tensor, task: str) -> tuple[Tensor, Tensor]:
    """∂L/∂f [B, n, C] and ∂²L/∂f² [B, n, C, C]."""
    if task == CLASSIFICATION:
        p = torch.softmax(outputs, dim=2)
        return p - y, torch.diag_embed(p) - p[..., :, None] * p[..., None, :]
    identity = torch.eye(outputs.shape[2], dtype=outputs.dtype, device=outputs.device)
    return outputs - y, identity.expand(*outputs.shape, -1)


def curvature_roots(outputs: Tensor, task: str) -> Tensor:
    """A_i [n, C, C] with A_iA_iᵀ = ∂²L/∂f² at outputs [n, C]: diag(√p) − p√pᵀ of a softmax, I of a squared error."""
    if task != CLASSIFICATION:
        return torch.eye(outputs.shape[1], dtype=outputs.dtype, device=outputs.device).expand(len(outputs), -1, -1)
    p = torch.softmax(outputs, dim=1)
    return torch.diag_embed(p.sqrt()) - p[:, :, None] * p.sqrt()[:, None, :]


def row_gradients(network: Network, theta: Tensor, x: Tensor, pull: Tensor) -> Tensor:
    """J_iᵀv_i [B, n, P]: by the fused kernel where there is one for it."""
    if len(theta) == 1:
        found = fused.row_gradients(network, theta[0], x if x.dim() == 2 else x[0], pull[0])
        if found is not None:
            return found[None]
    return network.row_gradients(theta, x, pull)


@dataclass(frozen=True)
class Objective:
    """J for a stack of B networks of one architecture.

    x: [n, d], or [B, n, d] where networks differ in their split; y: targets as [n, C] or [B, n, C] (one-hot classes, or a
    regression target with C = 1; soft classes sum to 1); decay: λ_p as [1, P] or [B, P]; centre: c as [P], None for 0.
    Everything below takes theta [B, P] and weights [B, n].
    """

    network: Network
    task: str
    x: Tensor
    y: Tensor
    decay: Tensor
    centre: Tensor | None = None

    @property
    def rows(self) -> int:
        return self.x.shape[-2]

    def to(self, dtype: torch.dtype, device: torch.device | str) -> "Objective":
        x, y, decay = (tensor.to(device=device, dtype=dtype) for tensor in (self.x, self.y, self.decay))
        centre = None if self.centre is None else self.centre.to(device=device, dtype=dtype)
        return Objective(self.network, self.task, x, y, decay, centre)

    def networks(self, chosen: Tensor | slice) -> "Objective":
        """The same objective for some of the stack's networks."""
        x, y = (t[chosen] if t.dim() == 3 else t for t in (self.x, self.y))
        return replace(self, x=x, y=y, decay=self.decay if len(self.decay) == 1 else self.decay[chosen])

    def proximal(self, centre: Tensor, strength: float) -> "Objective":
        """The same objective with (d/2)‖θ − θ₀‖² added, but for a constant, for θ₀ = `centre` [P] and d = `strength`.

        λ_p/2 (θ_p − c_p)² + d/2 (θ_p − θ₀_p)² is (λ_p + d)/2 (θ_p − (λ_p c_p + d θ₀_p)/(λ_p + d))² and a constant.
        """
        decay, own = self.decay[0], torch.zeros_like(centre) if self.centre is None else self.centre
        total = decay + strength
        mean = torch.where(
            total > 0, (decay * own + strength * centre) / total.clamp(min=torch.finfo(total.dtype).tiny), own
        )
        return replace(self, decay=total[None], centre=mean)

    def tilted(self, slope: Tensor) -> "Objective":
        """The same objective with −gᵀθ added, but for a constant, for g = `slope` [P]; every λ_p must be above 0.

        λ_p/2 (θ_p − c_p)² − g_p θ_p is λ_p/2 (θ_p − c_p − g_p/λ_p)² and a constant.
        """
        moved = slope / self.decay[0]
        return replace(self, centre=moved if self.centre is None else self.centre + moved)

    def batch(self, rows: Tensor) -> "Objective":
        """The same objective on rows [B, m] of each network's data."""
        x, y = (
            t[rows] if t.dim() == 2 else t.gather(1, rows[..., None].expand(*rows.shape, t.shape[2]))
            for t in (self.x, self.y)
        )
        return replace(self, x=x, y=y)

    def row_losses(self, theta: Tensor) -> Tensor:
        """L(z_i, θ_b) as [B, n]."""
        forward = self.network.outputs if theta.requires_grad else partial(fused.outputs, self.network)
        parts = [row_losses(forward(theta, some.x), some.y, self.task) for _, some in self._pieces(theta)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _pieces(self, theta: Tensor) -> Iterator[tuple[slice, "Objective"]]:
        """The rows in pieces that may go through the stack together; mostly one."""
        together = self.network.rows_together(len(theta))
        if self.rows <= together:
            yield slice(None), self
            return
        for start in range(0, self.rows, together):
            some = slice(start, start + together)
            yield some, replace(self, x=self.x[..., some, :], y=self.y[..., some, :])

    def data_loss(self, theta: Tensor, weights: Tensor) -> Tensor:
        """Σ_i w_i L(z_i, θ), [B]."""
        if linear.by_pieces(self.network, self.x) and not theta.requires_grad:
            return linear.loss(self.network, self.task == CLASSIFICATION, self.x, self.y, weights, theta)
        kernel = None if theta.requires_grad else fused.loss(self.network, self.task, theta)
        if kernel is not None:
            return kernel(self.x, self.y, weights, theta)
        return (weights * self.row_losses(theta)).sum(dim=1)

    def penalty(self, theta: Tensor) -> Tensor:
        """½ Σ_p λ_p (θ_p − c_p)², [B]."""
        moved = self.from_centre(theta)
        return 0.5 * (self.decay * moved * moved).sum(dim=1)

    def from_centre(self, theta: Tensor) -> Tensor:
        """θ − c, [B, P]."""
        return theta if self.centre is None else theta - self.centre

    def value(self, theta: Tensor, weights: Tensor) -> Tensor:
        """J_w(θ), [B]."""
        return self.data_loss(theta, weights) + self.penalty(theta)

    def gradient(self, theta: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Data loss [B] (without the penalty) and ∇J_w [B, P] (with it).

        The fused kernel computes the data term where there is one (it equals autograd to rounding), matrix products piece by
        piece that of a linear model of many rows; autograd elsewhere.
        """
        kernel = fused.kernel(self.network, self.task, theta)
        if linear.by_pieces(self.network, self.x):
            soft = self.task == CLASSIFICATION
            loss, gradient = linear.gradient(self.network, soft, self.x, self.y, weights, theta)
        elif kernel is not None:
            loss, gradient = kernel(self.x, self.y, weights, theta)
        else:
            loss, gradient = self._gradient_by_autograd(theta, weights)
        return loss, gradient.add_(self.decay * self.from_centre(theta))

    def _gradient_by_autograd(self, theta: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """In pieces of networks and rows whose graphs fit in memory."""
        found: list[Any] = []
        for chosen in torch.arange(len(theta), device=theta.device).split(self.network.networks_together):
            some, own, theirs = self.networks(chosen), theta[chosen], weights[chosen]
            parts = [piece._by_autograd(own, theirs[:, rows]) for rows, piece in some._pieces(own)]
            found.append(parts[0] if len(parts) == 1 else [sum(part) for part in zip(*parts, strict=True)])
        if len(found) == 1:
            return found[0]
        loss, gradient = (torch.cat(part) for part in zip(*found, strict=True))
        return loss, gradient

    def _by_autograd(self, theta: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = theta.detach().requires_grad_()
            loss = self.data_loss(leaf, weights)
            # networks are independent: the gradient of the sum holds every network's own gradient
            (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        return loss.detach(), gradient

    def row_gradients(self, theta: Tensor) -> Tensor:
        """∇L(z_i, θ_b), without the penalty, as [B, n, P]."""
        pull, _ = output_derivatives(fused.outputs(self.network, theta, self.x), self.y, self.task)
        return row_gradients(self.network, theta, self.x, pull)

    def gauss_newton(self, theta: Tensor, weights: Tensor) -> Tensor:
        """Σ_i w_i J_iᵀS_iJ_i + diag λ for one network theta [P] and weights [n] ≥ 0: as Σ RᵀR over the rows R = √w_i A_iᵀJ_i with
        A_iA_iᵀ = S_i, piece by piece; never all rows' Jacobians at once.
        """
        matrix = self.decay[0].diag()
        for rows in torch.arange(self.rows, device=theta.device).split(max(1, ROW_NUMBERS // len(theta))):
            x, root = self.x[rows], weights[rows].sqrt()[:, None]
            roots = curvature_roots(fused.outputs(self.network, theta[None], x)[0], self.task)
            for pull in roots.unbind(dim=2):
                jacobian = row_gradients(self.network, theta[None], x, (root * pull)[None])[0]
                matrix.addmm_(jacobian.mT, jacobian)
        return matrix

    def hessian(self, theta: Tensor, weights: Tensor, gauss_newton: bool = False) -> Tensor:
        """∇²J_w, or its Gauss-Newton part Σ w JᵀSJ + diag λ, as [B, P, P]; by the fused kernel where there is one."""
        kernel = fused.hessian(self.network, self.task, theta)
        if kernel is not None:
            matrix = kernel(self.x, self.y, weights, theta, gauss_newton)
        else:
            matrix = self._hessian_by_layers(theta, weights, gauss_newton)
        matrix.diagonal(dim1=1, dim2=2).add_(self.decay)
        return matrix

    def hessian_products(self, theta: Tensor, weights: Tensor, gauss_newton: bool = False) -> Products:
        """v ↦ ∇²J_w v for directions v [B, K, P], or the Gauss-Newton part; the matrix is never formed (Pearlmutter 1994).

        Directions go through the rows in pieces of PIECE numbers per network and layer, so memory stays bounded.
        """
        pull, curvature = output_derivatives(self.network.outputs(theta, self.x), self.y, self.task)
        pull = torch.zeros_like(pull) if gauss_newton else pull * weights[..., None]
        of_data = self.network.products(theta, self.x, pull, curvature * weights[..., None, None])
        decay = self.decay[:, None]
        piece = max(1, PIECE // (len(theta) * self.rows))

        def products(directions: Tensor) -> Tensor:
            together = directions.shape[1] if self.network.cuts_rows else piece
            return torch.cat([of_data(some) for some in directions.split(together, dim=1)], dim=1) + decay * directions

        return products

    def _hessian_by_layers(self, theta: Tensor, weights: Tensor, gauss_newton: bool) -> Tensor:
        pull, curvature = output_derivatives(self.network.outputs(theta, self.x), self.y, self.task)
        pull = torch.zeros_like(pull) if gauss_newton else pull * weights[..., None]
        return self.network.hessian(theta, self.x, pull, curvature * weights[..., None, None])


@dataclass(frozen=True)
class Target:
    """The quantity on test rows that removal changes: the loss, or the margin log p_y − log(1 − p_y). Never a penalty.

    x: test rows [T, d]; y: [T, C]; kind: "loss" | "margin" (classification only).
    """

    network: Network
    task: str
    x: Tensor
    y: Tensor
    kind: str = "loss"

    def rows(self, chosen: Tensor) -> "Target":
        """The same quantity on some of the test rows."""
        return replace(self, x=self.x[chosen], y=self.y[chosen])

    def loss_values(self, theta: Tensor) -> Tensor:
        """The plain loss [B, T], whatever the quantity is."""
        return row_losses(fused.outputs(self.network, theta, self.x), self.y, self.task)

    def of_outputs(self, outputs: Tensor) -> Tensor:
        """The quantity [B, T] from outputs [B, T, C]."""
        if self.kind == "loss":
            return row_losses(outputs, self.y, self.task)
        others = outputs.masked_fill(self.y.bool(), -torch.inf)
        return (outputs * self.y).sum(dim=2) - torch.logsumexp(others, dim=2)

    def values(self, theta: Tensor) -> Tensor:
        """The quantity for a stack theta [B, P], as [B, T]."""
        return self.of_outputs(self.network.outputs(theta, self.x))

    def gradients(self, theta: Tensor) -> Tensor:
        """Its gradients ∇_θ for one network theta [P], as [T, P]."""
        return row_gradients(self.network, theta[None], self.x, self.output_gradients(theta)[None])[0]

    def output_gradients(self, theta: Tensor) -> Tensor:
        """Its gradients by the outputs for one network theta [P], as [T, C]."""
        with torch.enable_grad():
            outputs = fused.outputs(self.network, theta[None], self.x).detach().requires_grad_()
            return torch.autograd.grad(self.of_outputs(outputs).sum(), outputs)[0][0]

    def along(self, theta: Tensor, direction: Tensor) -> Tensor:
        """Directional derivatives ∇_θᵀu for stacks theta and u [B, P], as [B, T], in one forward pass."""
        return torch.func.jvp(self.values, (theta,), (direction,))[1]
