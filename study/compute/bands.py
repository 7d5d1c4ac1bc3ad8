"""Dense symmetric matrices in band form: reduced once, factored anew for every damping in a moment."""

from dataclasses import dataclass

import torch
from torch import Tensor

WIDTH = 64  # rows of a block: enough for products at full speed, few enough for the factor to cost next to nothing
ASCENTS = 5


@dataclass(frozen=True)
class Reflections:
    """Orthogonal I − V T Vᵀ of the last rows of a matrix, V [m, j] (Schreiber & Van Loan 1989)."""

    v: Tensor
    t: Tensor

    def apply(self, columns: Tensor, transposed: bool) -> None:
        """To the last m rows of `columns` [P, K], in place."""
        part = columns[len(columns) - len(self.v) :]
        part.addmm_(self.v, (self.t.mT if transposed else self.t) @ (self.v.mT @ part), alpha=-1)


@dataclass(frozen=True)
class BandFactor:
    """Cholesky factor of B + δI: L_k [b, b] on the `diagonal` and G_k [b, b] `below` them."""

    diagonal: list[Tensor]
    below: list[Tensor]

    @property
    def pivots(self) -> Tensor:
        """Squares of the factor's diagonal, [P]."""
        return torch.cat([block.diagonal() for block in self.diagonal]).square()

    def solve(self, right: Tensor) -> Tensor:
        """(B + δI)⁻¹r for the columns r of `right` [P, K]."""
        parts = list(right.split([len(block) for block in self.diagonal]))
        for k, block in enumerate(self.diagonal):
            rest = parts[k] - self.below[k - 1] @ parts[k - 1] if k else parts[k]
            parts[k] = torch.linalg.solve_triangular(block, rest, upper=False)
        for k in range(len(parts) - 1, -1, -1):
            rest = parts[k] - self.below[k].mT @ parts[k + 1] if k < len(self.below) else parts[k]
            parts[k] = torch.linalg.solve_triangular(self.diagonal[k].mT, rest, upper=True)
        return torch.cat(parts)


@dataclass(frozen=True)
class Band:
    """M = Q B Qᵀ [P, P]: Q a product of `reflections`, B symmetric with blocks D_k on its `diagonal` and E_k `below` them.

    (M + δI)⁻¹ = Q (B + δI)⁻¹ Qᵀ for every δ: what costs P³ is done once.
    """

    reflections: list[Reflections]
    diagonal: list[Tensor]
    below: list[Tensor]

    @classmethod
    def of(cls, matrix: Tensor) -> "Band":
        """Reduce a symmetric M block column by block column, all but 6/P of it matrix products (Bischof, Lang & Sun 2000).

        For the rows below a block of columns, QR: [.. R; 0] = (I − V T Vᵀ)ᵀ[..]. What is right of them, S, becomes
        S − V Wᵀ − W Vᵀ with X = S V T, W = X − ½V Tᵀ(VᵀX). About 2P³ multiplications and additions, six times those of a
        Cholesky factor; a factor of B needs about 2P·WIDTH².
        """
        rest, found, diagonal, below = matrix.clone(), list[Reflections](), list[Tensor](), list[Tensor]()
        while len(rest) > WIDTH:
            diagonal.append(rest[:WIDTH, :WIDTH].clone())
            upper, own = _triangularised(rest[WIDTH:, :WIDTH])
            below.append(upper)
            found.append(own)
            rest = rest[WIDTH:, WIDTH:]
            image = rest @ own.v @ own.t
            image -= own.v @ (own.t.mT @ (own.v.mT @ image) / 2)
            rest.addmm_(torch.cat([own.v, image], dim=1), torch.cat([image, own.v], dim=1).mT, alpha=-1)
        return cls(found, [*diagonal, rest.clone()], below)

    def factor(self, damping: float) -> BandFactor | None:
        """Of B + δI; None where it is not positive definite, which M + δI then is not either."""
        diagonal, below = list[Tensor](), list[Tensor]()
        for k, block in enumerate(self.diagonal):
            shifted = block.clone() if k == 0 else block - below[-1] @ below[-1].mT
            shifted.diagonal().add_(damping)
            factor, info = torch.linalg.cholesky_ex(shifted)
            if info != 0 or not torch.isfinite(factor).all():
                return None
            diagonal.append(factor)
            if k < len(self.below):
                below.append(torch.linalg.solve_triangular(factor, self.below[k].mT, upper=False).mT)
        return BandFactor(diagonal, below)

    def turned(self, right: Tensor) -> Tensor:
        """Qᵀr for the rows r of `right` [K, P], as the columns of [P, K]: the same for every damping."""
        columns = right.mT.clone(memory_format=torch.contiguous_format)
        for some in self.reflections:
            some.apply(columns, transposed=True)
        return columns

    def solve_turned(self, columns: Tensor, factor: BandFactor) -> Tensor:
        """(M + δI)⁻¹r [K, P] from the `turned` r and the factor of B + δI."""
        solved = factor.solve(columns)
        for some in reversed(self.reflections):
            some.apply(solved, transposed=False)
        return solved.mT

    def solve(self, right: Tensor, factor: BandFactor) -> Tensor:
        """(M + δI)⁻¹r for the rows r of `right` [K, P]."""
        return self.solve_turned(self.turned(right), factor)

    def condition(self, damping: float, factor: BandFactor) -> float:
        """Estimate of ‖B + δI‖₁‖(B + δI)⁻¹‖₁: at least a third of it, nearly always (Higham 1988, algorithm 4.1)."""
        return self._norm(damping) * _norm_of_inverse(factor)

    def _norm(self, damping: float) -> float:
        """‖B + δI‖₁."""
        sums = []
        for k, block in enumerate(self.diagonal):
            shifted = block.clone()
            shifted.diagonal().add_(damping)
            beside = [self.below[k - 1].mT] if k else []
            beside += [self.below[k]] if k < len(self.below) else []
            sums.append(sum((part.abs().sum(dim=0) for part in beside), shifted.abs().sum(dim=0)))
        return torch.cat(sums).max().item()


def _norm_of_inverse(factor: BandFactor) -> float:
    """Higham's estimate of ‖A⁻¹‖₁ for a symmetric A: uphill on the convex ‖A⁻¹x‖₁ over ‖x‖₁ ≤ 1, at most five steps.

    And from one vector of changing sign, against the rare matrices that mislead the ascent.
    """
    size = sum(map(len, factor.diagonal))
    x = torch.full((size, 1), 1 / size, dtype=torch.float64, device=factor.diagonal[0].device)
    found = 0.0
    for _ in range(ASCENTS):
        y = factor.solve(x)
        if y.abs().sum().item() <= found:
            break
        found = y.abs().sum().item()
        slope = factor.solve(torch.where(y < 0, -1.0, 1.0))
        steepest = int(slope.abs().argmax())
        if slope[steepest].abs() <= (slope * x).sum():
            break
        x = torch.zeros_like(x)
        x[steepest] = 1.0
    place = torch.arange(size, dtype=x.dtype, device=x.device)[:, None]
    signs = (1 - 2 * (place % 2)) * (1 + place / max(1, size - 1))
    return max(found, 2 * factor.solve(signs).abs().sum().item() / (3 * size))


def _triangularised(columns: Tensor) -> tuple[Tensor, Reflections]:
    """R [min(m, b), b] and the reflections with (I − V T Vᵀ)[R; 0] = `columns` [m, b].

    T⁻¹ is the upper half of VᵀV with 1/τ on its diagonal (Puglisi 1992); where nothing needs reflecting τ is 0, and V as well.
    """
    packed, tau = torch.geqrf(columns)
    count = len(tau)
    v = packed[:, :count].tril(-1)
    v.diagonal().fill_(1.0)
    v = torch.where(tau == 0, 0.0, v)
    inverse = (v.mT @ v).triu(1)
    inverse.diagonal().copy_(1 / torch.where(tau == 0, 1.0, tau))
    eye = torch.eye(count, dtype=v.dtype, device=v.device)
    return packed[:count].triu(), Reflections(v, torch.linalg.solve_triangular(inverse, eye, upper=True))
