"""Linear models of many rows and parameters: every pass over the data is a few large matrix products, cut into pieces of rows."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import TypeGuard

import torch
from torch import Tensor, nn

from study.compute.networks import Network, Products

PIECE = 131_072  # outputs, rows times classes times networks, held at once: they stay in a core's cache
TOGETHER = 25  # networks that share one pass over the rows
FEATURES = 4  # whose products with all others are computed together
SMALLEST = 256  # rows of a piece: fewer make no efficient matrix product


class Linear(Network):
    """f(x) = Wx + b, or Wx without `intercept`; parameters W [C, d] row by row, then b [C]. Called as an `Mlp` of depth 0 is."""

    cuts_rows = True
    is_linear = True
    forms_cheaply = True

    def __init__(self, inputs: int, outputs: int, intercept: bool = True):
        self.inputs, self.classes, self.intercept = inputs, outputs, intercept
        super().__init__(lambda: nn.Sequential(OrderedDict(output=nn.Linear(inputs, outputs, bias=intercept))))

    def split(self, theta: Tensor) -> tuple[Tensor, Tensor | None]:
        """W [.., C, d] and b [.., C] of theta [.., P], as views; b is None without an intercept."""
        end = self.inputs * self.classes
        return theta[..., :end].unflatten(-1, (self.classes, self.inputs)), theta[..., end:] if self.intercept else None

    def joined(self, weight: Tensor, bias: Tensor) -> Tensor:
        """The inverse of `split`; without an intercept the bias is left out."""
        return torch.cat([weight.flatten(-2), bias], dim=-1) if self.intercept else weight.flatten(-2)

    def outer(self, pull: Tensor, x: Tensor) -> Tensor:
        """pull ⊗ x̃ as parameters [.., P], for pull [.., C] and x [.., d]."""
        return self.joined(pull[..., :, None] * x[..., None, :], pull)

    def outputs_of_each(self, theta: Tensor, x: Tensor) -> Tensor:
        """f(x_k; θ_k) [k, C]: a row of its own for each network."""
        weight, bias = self.split(theta)
        found = torch.einsum("kcd,kd->kc", weight, x)
        return found if bias is None else found + bias

    def outputs(self, theta: Tensor, x: Tensor) -> Tensor:
        weight, bias = self.split(theta)
        if x.dim() == 2:
            found = (x @ weight.flatten(0, 1).mT).unflatten(1, weight.shape[:2]).transpose(0, 1)
            return found if bias is None else found + bias[:, None]
        return x @ weight.mT if bias is None else torch.baddbmm(bias[:, None], x, weight.mT)

    @property
    def layers(self) -> list[str]:
        return ["input", "output"]

    def _between(self, theta: Tensor, x: Tensor, layer: str) -> Tensor:
        raise AssertionError(layer)  # a linear model has nothing between its ends

    @torch.no_grad()
    def row_gradients(self, theta: Tensor, x: Tensor, pull: Tensor) -> Tensor:
        rows = x.expand(len(theta), *x.shape[-2:])
        return self.outer(pull, rows)

    @torch.no_grad()
    def hessian(self, theta: Tensor, x: Tensor, pull: Tensor, curvature: Tensor) -> Tensor:
        """Σ_i S_i ⊗ x̃_i x̃_iᵀ: nothing of `pull`, as the outputs are linear."""
        found = theta.new_empty(len(theta), self.parameters, self.parameters)
        rows = x.expand(len(theta), *x.shape[-2:])
        for matrix, own, bends in zip(found, rows, curvature, strict=True):
            self.fill(matrix, own, bends)
        return found

    def fill(self, matrix: Tensor, x: Tensor, curvature: Tensor) -> None:
        """One matrix [P, P]. For feature j all pairs (a ≤ b) of classes at once: Σ_i x_ij S_i,ab x_i, over rows with x_ij ≠ 0.

        Most pixels of an image are 0, so that this takes a fraction of the products XᵀS_abX. A few neighbouring features, which
        mostly are 0 in the same rows, go together.
        """
        size, classes = self.inputs, self.classes
        first, second = torch.triu_indices(classes, classes, device=x.device)
        bends = curvature[:, first, second]  # [n, pairs]
        end = classes * size
        blocks = matrix[:end, :end].unflatten(0, (classes, size)).unflatten(2, (classes, size))
        for start in range(0, size, FEATURES):
            rows, own, after = bends, x[:, start : start + FEATURES], x[:, start:]
            kept = own.any(dim=1).nonzero()[:, 0]
            if len(kept) < len(x):
                rows, own, after = bends[kept], own[kept], after[kept]
            found = (own[:, :, None] * rows[:, None]).flatten(1).T @ after
            for k, one in enumerate(found.unflatten(0, (own.shape[1], -1))):
                j = start + k
                blocks[first, j, second, j:] = one[:, k:]
                blocks[second, j, first, j:] = one[:, k:]
        for a in range(classes):
            for b in range(classes):
                block = blocks[a, :, b]  # symmetric, as the one of (b, a) is the same
                block.copy_(block.triu() + block.triu(1).T)
        if self.intercept:
            across = torch.zeros(classes, classes, size, dtype=x.dtype, device=x.device)
            across[first, second] = across[second, first] = bends.T @ x
            matrix[end:, :end] = across.flatten(1)
            matrix[:end, end:] = across.flatten(1).T
            matrix[end:, end:] = curvature.sum(dim=0)

    @torch.no_grad()
    def products(self, theta: Tensor, x: Tensor, pull: Tensor, curvature: Tensor) -> Products:
        """v ↦ Σ_i S_i(Vx_i + v) ⊗ x̃_i, for all directions in one pass over the rows."""
        rows = x.expand(len(theta), *x.shape[-2:])

        def products(directions: Tensor) -> Tensor:
            networks, count, _ = directions.shape
            weight, bias = self.split(directions)
            flat, total = weight.flatten(1, 2), torch.zeros_like(weight.flatten(1, 2))
            ends = torch.zeros(networks, count, self.classes, dtype=theta.dtype, device=theta.device)
            for some in _pieces(rows.shape[1], networks * count * self.classes):
                moved = (rows[:, some] @ flat.mT).unflatten(2, (count, self.classes))
                moved = moved if bias is None else moved + bias[:, None]
                bent = moved @ curvature[:, some]
                total += bent.flatten(2).mT @ rows[:, some]
                ends += bent.sum(dim=1)
            return self.joined(total.unflatten(1, (count, self.classes)), ends)

        return products


def _pieces(rows: int, width: int) -> Iterator[slice]:
    step = max(SMALLEST, PIECE // width)
    return (slice(start, start + step) for start in range(0, rows, step))


def by_pieces(network: Network, x: Tensor) -> TypeGuard[Linear]:
    """Whether `gradient` and `loss` below serve: a linear model whose networks share their rows x [n, d]."""
    return isinstance(network, Linear) and x.dim() == 2


@torch.no_grad()
def loss(network: Linear, soft: bool, x: Tensor, y: Tensor, weights: Tensor, theta: Tensor) -> Tensor:
    """Σ_i w_i L(z_i, θ_b), [B]; soft: cross-entropy of a softmax, else ½(f − y)²."""
    found = torch.zeros_like(theta[:, 0])
    for some, rows, outputs in _outputs(network, x, theta):
        losses, _ = _losses(outputs, y[rows].T, soft)
        found[some] += (losses * weights[some, rows]).sum(dim=1)
    return found


@torch.no_grad()
def gradient(
    network: Linear, soft: bool, x: Tensor, y: Tensor, weights: Tensor, theta: Tensor
) -> tuple[Tensor, Tensor]:
    """Data loss [B] and its gradient [B, P], as the fused kernels of perceptrons give them."""
    found, slope = torch.zeros_like(theta[:, 0]), torch.zeros_like(theta)
    for some, rows, outputs in _outputs(network, x, theta):
        own = weights[some, rows]
        losses, pull = _losses(outputs, y[rows].T, soft)
        found[some] += (losses * own).sum(dim=1)
        pull *= own[:, None]
        weight, bias = network.split(slope[some])
        weight += (pull.flatten(0, 1) @ x[rows]).view_as(weight)
        if bias is not None:
            bias += pull.sum(dim=2)
    return found, slope


def _outputs(network: Linear, x: Tensor, theta: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Which networks and which rows, and their outputs [B, C, m]: rows innermost, where the arithmetic is."""
    for start in range(0, len(theta), TOGETHER):
        some = slice(start, start + TOGETHER)
        weight, bias = network.split(theta[some])
        flat = weight.flatten(0, 1)
        for rows in _pieces(len(x), len(flat)):
            outputs = (flat @ x[rows].T).unflatten(0, weight.shape[:2])
            yield some, rows, outputs if bias is None else outputs + bias[:, :, None]


def _losses(outputs: Tensor, y: Tensor, soft: bool) -> tuple[Tensor, Tensor]:
    """L [B, m] and ∂L/∂f [B, C, m] from outputs [B, C, m], which are overwritten, and targets [C, m]."""
    y = y.contiguous()
    if not soft:
        pull = outputs.sub_(y)
        return 0.5 * pull.square().sum(dim=1), pull
    outputs -= outputs.amax(dim=1, keepdim=True)
    true = (outputs * y).sum(dim=1)
    exponentials = outputs.exp_()
    total = exponentials.sum(dim=1)
    pull = exponentials.div_(total[:, None]).sub_(y)
    return total.log() - true, pull
