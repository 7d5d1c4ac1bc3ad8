"""What a stack of networks of one architecture must be able to compute."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from study.compute.curvature import formed

Products = Callable[[Tensor], Tensor]  # directions [B, K, P] to products of a matrix with them, [B, K, P]


class Network(ABC):
    """One architecture, evaluated for a stack of parameter vectors at once.

    Shapes: B networks, n rows, d features, C outputs, P parameters. `theta` is [B, P]; `x` is [n, d] when all networks see
    the same rows and [B, n, d] when each has its own. Parameters are flattened in the order of `names`.

    cuts_rows: whether `products` cuts the rows into pieces itself. is_linear: whether outputs are linear in the parameters, so
    that the Gauss-Newton matrix is the Hessian and every convex loss gives a convex objective.
    """

    networks_together = 2**62  # how many of a stack's networks autograd follows at once
    forms_cheaply = False  # whether `hessian` takes less than a product for every parameter
    cuts_rows = False
    is_linear = False

    def __init__(self, build: Callable[[], nn.Module]):
        self._build = build
        shapes = {name: tuple(p.shape) for name, p in self._seeded(0).named_parameters()}
        self.names: list[str] = list(shapes)
        self.shapes: list[tuple[int, ...]] = list(shapes.values())
        self.sizes = [int(torch.Size(shape).numel()) for shape in self.shapes]
        self.parameters = sum(self.sizes)

    def _seeded(self, seed: int) -> nn.Module:
        """The module as a user of torch would get it after `torch.manual_seed(seed)` with float64 as default dtype."""
        before = torch.get_default_dtype()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reseed a GPU, for good
            torch.set_default_dtype(torch.float64)
            try:
                return self._build().double().eval()
            finally:
                torch.set_default_dtype(before)

    def initial(self, seed: int) -> Tensor:
        """Initial parameters [P] in float64; each dtype casts these, so twins start from the same network."""
        return torch.cat([p.detach().reshape(-1) for p in self._seeded(seed).parameters()])

    def module(self, theta: Tensor) -> nn.Module:
        """The network as a user of torch would hold it, with the parameters theta [P]."""
        built = self._seeded(0).to(theta.device)
        nn.utils.vector_to_parameters(theta, built.parameters())
        return built

    def chosen(self, parameters: str | Sequence[str]) -> set[str]:
        """Names of "all" parameters, of those of the "last_layer", or of those named; ValueError on an unknown name."""
        if parameters == "all":
            return set(self.names)
        if parameters == "last_layer":
            prefix = self.names[-1].rpartition(".")[0]
            return {name for name in self.names if name.rpartition(".")[0] == prefix}
        unknown = sorted(set(parameters) - set(self.names))
        if unknown:
            raise ValueError(f"parameters {unknown} do not exist; the network has {', '.join(self.names)}")
        return set(parameters)

    def positions(self, parameters: str | Sequence[str]) -> Tensor:
        """Flat positions of `chosen` parameters, ascending."""
        chosen = self.chosen(parameters)
        pieces = zip(self.names, torch.arange(self.parameters).split(self.sizes), strict=True)
        return torch.cat([positions for name, positions in pieces if name in chosen])

    def biases(self) -> Tensor:
        """True at the flat positions [P] of the parameters called bias."""
        flags = [torch.full((size,), name.endswith("bias")) for name, size in zip(self.names, self.sizes, strict=True)]
        return torch.cat(flags)

    def forms(self, rows: int) -> bool:
        """Whether the Hessian over so many rows is formed; beyond, it is known by its products, and certifies nothing."""
        return formed(self.parameters)

    @property
    def factors(self) -> bool:
        """Whether a matrix of all parameters is held at all, if only one that serves many networks."""
        return formed(self.parameters)

    def rows_together(self, networks: int) -> int:
        """How many rows may go through a stack of so many networks at once: all of them, where layers are small."""
        return 2**62

    @abstractmethod
    def outputs(self, theta: Tensor, x: Tensor) -> Tensor:
        """Outputs f(x_i; θ_b), [B, n, C]; differentiable in theta."""

    @property
    @abstractmethod
    def layers(self) -> list[str]:
        """The names that `features` takes, from "input" to "output"."""

    @torch.no_grad()
    def features(self, theta: Tensor, x: Tensor, layer: str) -> Tensor:
        """What one network theta [P] makes of rows x [n, d] at a layer: [n, f], flattened.

        "input": the rows themselves; "output": f(x_i; θ); between them what the architecture has. ValueError on an unknown
        name, and where what the layer gives is not one piece per row.
        """
        if layer not in self.layers:
            raise ValueError(f"the network has no layer {layer!r}; it has {', '.join(self.layers)}")
        if layer == "input":
            return x.flatten(1)
        found = self.outputs(theta[None], x)[0] if layer == "output" else self._between(theta, x, layer)
        return found.flatten(1)

    @abstractmethod
    def _between(self, theta: Tensor, x: Tensor, layer: str) -> Tensor:
        """Of a layer other than input and output, [n, ...]."""

    @abstractmethod
    def row_gradients(self, theta: Tensor, x: Tensor, pull: Tensor) -> Tensor:
        """Row by row J_iᵀ v_i with J_i = ∂f(x_i)/∂θ and v = `pull` [B, n, C]; returns [B, n, P]."""

    @abstractmethod
    def hessian(self, theta: Tensor, x: Tensor, pull: Tensor, curvature: Tensor) -> Tensor:
        """Σ_i J_iᵀ S_i J_i + Σ_i Σ_c v_ic ∇²f_c(x_i), [B, P, P], for v = `pull` [B, n, C] and S = `curvature` [B, n, C, C].

        With v = w ∂L/∂f and S = w ∂²L/∂f² it is the Hessian of Σ w L; with v = 0 it is the Gauss-Newton matrix.
        """

    @abstractmethod
    def products(self, theta: Tensor, x: Tensor, pull: Tensor, curvature: Tensor) -> Products:
        """Products of the matrix of `hessian` with directions, without the matrix: O(n) memory per direction and layer."""
