"""What a trial is expected to cost: seconds of one core and bytes of its record, from measured rates."""

from dataclasses import dataclass

from study.specs import Settings

# Measured with `benchmarks/retraining.py` on one core of a 2.x GHz AVX-512 machine; only plans and progress rest on them.
FLOPS = {"float32": 3.5e10, "float64": 1.6e10}
STEP_OVERHEAD = 6e-7  # seconds of optimiser arithmetic per network-step
CURVATURE_FLOPS = 4e10  # of large matrix products; small ones cost what PAIR_OVERHEAD adds
PAIR_OVERHEAD = 4e-7  # seconds per row and pair of layers
STRAGGLERS = 4  # Hessians per leave-one-out, on average: a few need many Newton steps
START_UP = 6.0  # seconds until workers are up and their kernels compiled
GENERIC_SLOWDOWN = 12.0  # a user's module by torch.func, against the fused kernel


@dataclass(frozen=True)
class Sizes:
    """n training rows, T chosen test points, d features, C outputs, R removals, P parameters."""

    rows: int
    test_points: int
    features: int
    outputs: int
    removals: int

    def parameters(self, settings: Settings) -> int:
        depth, width = (0, 0) if settings.model.kind == "linear" else (settings.model.depth, settings.model.width)
        if depth == 0:
            return self.outputs * (self.features + 1)
        return width * (self.features + 1) + (depth - 1) * width * (width + 1) + self.outputs * (width + 1)


def networks(settings: Settings, sizes: Sizes) -> int:
    """Networks that one trial trains: its base, and a null and R removals per protocol."""
    return 1 + len(settings.protocols) * (sizes.removals + 1)


def seconds(settings: Settings, sizes: Sizes) -> float:
    """One core's seconds for one trial inside a stack."""
    training, parameters = settings.training, sizes.parameters(settings)
    rows = sizes.rows if training.batch_size == "full" else int(training.batch_size)
    step = 6 * parameters * rows / FLOPS[training.dtype] + STEP_OVERHEAD
    if ":" in settings.model.kind:
        step *= GENERIC_SLOWDOWN
    hessian = _hessian_seconds(settings, sizes)
    stack, total = sizes.removals + 1, training.steps * step + 0.05
    if training.polish:
        total += 20 * hessian
    for protocol in settings.protocols:
        total += stack * hessian
        if protocol.kind == "warm":
            total += stack * protocol.steps * step
        elif protocol.kind == "cold":
            total += stack * (training.steps * step + (20 * hessian if training.polish else 0))
        else:
            total += stack * STRAGGLERS * hessian
    return total


def _hessian_seconds(settings: Settings, sizes: Sizes) -> float:
    """One dense Hessian with its Cholesky factor."""
    parameters, layers = sizes.parameters(settings), 1 if settings.model.kind == "linear" else settings.model.depth + 1
    pairs = PAIR_OVERHEAD * sizes.rows * layers * (layers + 1) / 2
    return 1e-4 + pairs + (4 * parameters**2 * sizes.rows + parameters**3) / CURVATURE_FLOPS


def record_bytes(settings: Settings, sizes: Sizes) -> int:
    """Size of one trial's record. Row numbers and flags compress well, floating point does not."""
    predicted = len(settings.estimators) * sizes.rows * (2 * sizes.test_points + 1)
    actual = len(settings.protocols) * sizes.removals * (3 * sizes.test_points + 4)
    return 9_000 + 8 * (predicted + actual + sizes.parameters(settings)) + 10 * sizes.rows
