"""What a trial is expected to cost: seconds of one core and bytes of its record, from measured rates."""

from dataclasses import dataclass

from study.specs import Estimators, Settings

# Measured with `benchmarks/retraining.py` on one core of a 2.x GHz AVX-512 machine; only plans and progress rest on them.
FLOPS = {"float32": 3.5e10, "float64": 1.6e10}
LANES = {"float32": 16, "float64": 8}  # networks of one vector: a stack of fewer trains no faster
STEP_OVERHEAD = 6e-7  # seconds of optimiser arithmetic per network-step
HESSIAN_RATE, FACTOR_RATE = 9e-11, 4e-11  # seconds of a dense Hessian per P²n, of its Cholesky factors per P³
EVALUATIONS = 6e-8  # seconds of a stationary leave-one-out's gradients and objectives per P·n
HESSIANS = 4  # of a stationary leave-one-out, certificate included, on average: a few need many Newton steps
START_UP = 6.0  # seconds until workers are up and their kernels compiled
PYTHON_STEP = 3e-4  # seconds of a step whose arithmetic is negligible
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
    """Networks that one trial trains: its base, and a null and R removals per protocol and replica."""
    return 1 + sum(getattr(protocol, "count", 1) for protocol in settings.protocols) * (sizes.removals + 1)


def lanes(settings: Settings) -> int:
    """Networks that train at the cost of one; a user's module has no such lanes."""
    return 1 if settings.model.is_factory else LANES[settings.training.dtype]


def base_seconds(settings: Settings, sizes: Sizes) -> float:
    """One core's seconds for training one trial's base network, without its polish."""
    return settings.training.steps * _step(settings, sizes)


def _step(settings: Settings, sizes: Sizes) -> float:
    """Of one network in a stack."""
    training, parameters = settings.training, sizes.parameters(settings)
    rows = sizes.rows if training.batch_size == "full" else int(training.batch_size)
    step = 6 * parameters * rows / FLOPS[training.dtype] + STEP_OVERHEAD
    return step * GENERIC_SLOWDOWN if settings.model.is_factory else step


def seconds(settings: Settings, sizes: Sizes) -> float:
    """One core's seconds for one trial inside a stack."""
    training, parameters = settings.training, sizes.parameters(settings)
    step = _step(settings, sizes)
    hessian = HESSIAN_RATE * parameters**2 * sizes.rows + FACTOR_RATE * parameters**3
    stack, total = sizes.removals + 1, base_seconds(settings, sizes) + 0.05
    if training.polish:
        total += 20 * hessian
    for protocol in settings.protocols:
        if protocol.kind in ("warm", "horizon"):  # each as if alone: a path of horizons costs little more than its last
            total += stack * (protocol.steps * step + hessian)
        elif protocol.kind in ("cold", "cold_seeds"):
            replica = stack * (training.steps * step + (20 * hessian if training.polish else hessian))
            total += getattr(protocol, "count", 1) * replica
        else:
            total += stack * (EVALUATIONS * parameters * sizes.rows + HESSIANS * hessian)
    return total + sum(_estimate(estimator, settings, sizes, hessian) for estimator in settings.estimators)


def _estimate(estimator: Estimators, settings: Settings, sizes: Sizes, hessian: float) -> float:
    """Of what takes longer than a Hessian."""
    parameters, rows = sizes.parameters(settings), sizes.rows
    if estimator.kind == "lissa":
        drawn = rows if estimator.batch_size == "full" else int(estimator.batch_size)
        products = 10 * parameters * drawn * estimator.repeats * sizes.test_points / FLOPS["float64"]
        return estimator.depth * (PYTHON_STEP + products)
    if estimator.kind == "unrolled":
        steps = estimator.steps if estimator.origin == "base" else settings.training.steps
        return steps * (3 * PYTHON_STEP + hessian + 4 * parameters * rows * min(parameters, rows) / FLOPS["float64"])
    if estimator.kind == "tracin":
        return settings.training.steps * PYTHON_STEP
    if estimator.kind == "cg":
        return estimator.max_iterations * 10 * parameters * rows * sizes.test_points / FLOPS["float64"]
    return 0.0


def record_bytes(settings: Settings, sizes: Sizes) -> int:
    """Size of one trial's record. Row numbers and flags compress well, floating point does not."""
    told = sizes.rows if settings.predicts_all(sizes.rows, sizes.test_points) else sizes.removals
    predicted = len(settings.estimators) * told * (2 * sizes.test_points + 1)
    actual = len(settings.protocols) * sizes.removals * (3 * sizes.test_points + 4)
    replicas = sum(protocol.count + 1 for protocol in settings.protocols if protocol.kind == "cold_seeds")
    actual += replicas * sizes.removals * sizes.test_points
    neighbours = 2 * len(settings.feature_layers) * sizes.rows * sizes.test_points
    nodes = sum(len(names) for names in settings.gap_paths.values())
    gaps = nodes * sizes.removals * (3 * sizes.test_points + 2)
    return 9_000 + neighbours + 8 * (predicted + actual + gaps + sizes.parameters(settings)) + 10 * sizes.rows
