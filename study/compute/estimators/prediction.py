"""What an estimator returns."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

Evidence = dict[str, float | int | list[float]]


@dataclass(frozen=True)
class Prediction:
    """What an estimator says of every training row's removal.

    changes: Δθ [n, P], or how to compute it where all pairs are known without, or None where an estimator knows none;
    delta: change of the target at each chosen test point, ∇_tᵀΔθ [n, T]; evidence: how the numbers were obtained, JSON-able;
    flags: reasons for doubt, such as "indefinite"; origin: the parameters [P] that Δθ starts from, where these are not θ*;
    diagnostics: seconds that went into knowing how good it is, which are no part of the estimate; changes_of: rows [m] to their
    Δθ [m, P], where those of all rows together are too many.
    """

    changes: Tensor | Callable[[], Tensor] | None
    delta: Tensor
    evidence: Evidence = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    origin: Tensor | None = None
    diagnostics: float = 0.0
    changes_of: Callable[[Tensor], Tensor] | None = None

    @cached_property
    def change(self) -> Tensor | None:
        """Δθ [n, P], computed when first asked for."""
        return self.changes() if callable(self.changes) else self.changes

    def of_rows(self, rows: Tensor) -> "Prediction":
        """The same for some of the training rows [m] only."""
        change = self.change if self.changes_of is None else self.changes_of(rows)
        own = change if change is None or self.changes_of is not None else change[rows]
        return replace(self, changes=own, delta=self.delta[rows], changes_of=None)


def largest_ratio(values: Tensor, of: Tensor) -> float:
    """The largest ‖value‖/‖of‖ over rows, NaN before all; 0/0, a row without a gradient, counts as 0."""
    sizes, wholes = values.norm(dim=1), of.norm(dim=1)
    return torch.where((sizes == 0) & (wholes == 0), 0.0, sizes / wholes).max().item()
