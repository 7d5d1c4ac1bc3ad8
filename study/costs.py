"""What a trial is expected to cost: seconds of one core and bytes of its record, from measured rates."""

from dataclasses import dataclass

from study.checks import DENSE_WORK, LARGEST_HESSIAN, by_pieces
from study.specs import Estimators, Settings, Training

# Measured with `benchmarks/retraining.py` on one core of a 2.x GHz AVX-512 machine; only plans and progress rest on them.
FLOPS = {"float32": 3.5e10, "float64": 1.6e10}
LANES = {"float32": 16, "float64": 8}  # networks of one vector: a stack of fewer trains no faster
STEP_OVERHEAD = 6e-7  # seconds of optimiser arithmetic per network-step
HESSIAN_RATE, FACTOR_RATE = 9e-11, 4e-11  # seconds of a dense Hessian per P²n, of its Cholesky factors per P³
EVALUATIONS = 6e-8  # seconds of a stationary leave-one-out's gradients and objectives per P·n
HESSIANS = 4  # of a stationary leave-one-out, certificate included, on average: a few need many Newton steps
START_UP = 6.0  # seconds until workers are up and their kernels compiled
PYTHON_STEP = 3e-4  # seconds of a step whose arithmetic is negligible
# of a linear model of a large table: per P·n a single network's gradient and one of many that share a pass over the rows, per
# P²n the Hessian, per P³ its factor
LINEAR_GRADIENT, LINEAR_PASS, LINEAR_HESSIAN, LINEAR_FACTOR = 6e-10, 1.5e-10, 9e-12, 1.4e-11
MOST_PRODUCTS = 200  # of conjugate gradients under a penalty, which keeps the condition number small
LINEAR_PRODUCTS, LINEAR_PASSES = 200, 4  # gradients and products until the base is polished; passes of a leave-one-out
# of convolutional networks: parameters, and multiplications per row and feature, on MNIST (resnet: on CIFAR-10, of the smallest)
CONVOLUTIONAL = {"koh_cnn": (2_616, 260), "lenet": (61_706, 530), "resnet": (355, 17)}
# of networks that share a factor: gradients of all rows until a base is polished, and of each leave-one-out a quarter of them
SHARED_POLISH, SHARED_PASSES = 700, 12
SHARED = Training(dtype="float64", batch_size="full")  # what those gradients are of
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
        if settings.model.is_convolutional:
            return CONVOLUTIONAL[settings.model.kind][0] * _growth(settings)
        depth, width = (0, 0) if settings.model.kind == "linear" else (settings.model.depth, settings.model.width)
        if depth == 0:
            return self.outputs * (self.features + settings.model.intercept)
        return width * (self.features + 1) + (depth - 1) * width * (width + 1) + self.outputs * (width + 1)


def _growth(settings: Settings) -> int:
    """How many times larger a residual network is than the smallest."""
    model = settings.model
    return model.depth * model.width**2 if model.kind == "resnet" else 1


def networks(settings: Settings, sizes: Sizes) -> int:
    """Networks that one trial trains: its base, and a null and R removals per protocol and replica."""
    return 1 + sum(getattr(protocol, "count", 1) for protocol in settings.protocols) * (sizes.removals + 1)


def lanes(settings: Settings) -> int:
    """Networks that train at the cost of one; convolutions and a user's module have no such lanes."""
    return 1 if settings.model.is_module else LANES[settings.training.dtype]


def base_seconds(settings: Settings, sizes: Sizes) -> float:
    """One core's seconds for training one trial's base network, without its polish."""
    return settings.training.steps * _step(settings, sizes)


def _step(settings: Settings, sizes: Sizes) -> float:
    """Of one network in a stack."""
    training, parameters = settings.training, sizes.parameters(settings)
    rows = sizes.rows if training.batch_size == "full" else int(training.batch_size)
    if settings.model.is_convolutional:
        multiplied = CONVOLUTIONAL[settings.model.kind][1] * _growth(settings) * sizes.features
        return 6 * multiplied * rows / FLOPS[training.dtype] + PYTHON_STEP
    step = 6 * parameters * rows / FLOPS[training.dtype] + STEP_OVERHEAD
    return step * GENERIC_SLOWDOWN if settings.model.is_factory else step


def seconds(settings: Settings, sizes: Sizes) -> float:
    """One core's seconds for one trial inside a stack."""
    if by_pieces(settings.model, sizes.rows, sizes.features) and settings.training.weight_decay:
        return _linear(settings, sizes)
    training, parameters = settings.training, sizes.parameters(settings)
    step = _step(settings, sizes)
    hessian = HESSIAN_RATE * parameters**2 * sizes.rows + FACTOR_RATE * parameters**3
    stack, total = sizes.removals + 1, base_seconds(settings, sizes) + 0.05
    each, polished = hessian, 20 * hessian
    if parameters**2 * sizes.rows > DENSE_WORK:
        gradient = _step(settings.model_copy(update={"training": SHARED}), sizes)
        hessian = _shared_hessian(settings, sizes, gradient)
        each, polished = SHARED_PASSES * gradient, SHARED_POLISH * gradient + 2 * hessian
    if training.polish:
        total += polished
    for protocol in settings.protocols:
        if protocol.kind in ("warm", "horizon"):  # each as if alone: a path of horizons costs little more than its last
            total += stack * (protocol.steps * step + each)
        elif protocol.kind in ("cold", "cold_seeds"):
            replica = stack * (training.steps * step + (polished if training.polish else each))
            total += getattr(protocol, "count", 1) * replica
        else:
            total += stack * (EVALUATIONS * parameters * sizes.rows + HESSIANS * each)
    return total + sum(_estimate(estimator, settings, sizes, hessian) for estimator in settings.estimators)


def _shared_hessian(settings: Settings, sizes: Sizes, gradient: float) -> float:
    """The one Hessian that a trial's networks share, by differences of gradients for a convolutional one, and its factors."""
    parameters = sizes.parameters(settings)
    if parameters > LARGEST_HESSIAN:
        return 0.0  # there is none
    formed = parameters / 4 * gradient if settings.model.is_convolutional else LINEAR_HESSIAN * parameters**2 * sizes.rows
    return formed + FACTOR_RATE * parameters**3


def _linear(settings: Settings, sizes: Sizes) -> float:
    """Of a linear model of a large table, whose Hessian is formed and factored once."""
    parameters, rows = sizes.parameters(settings), sizes.rows
    gradient, stack = LINEAR_GRADIENT * parameters * rows, sizes.removals + 1
    hessian = LINEAR_HESSIAN * parameters**2 * rows + LINEAR_FACTOR * parameters**3
    total = hessian + gradient * (settings.training.steps + LINEAR_PRODUCTS * settings.training.polish)
    for protocol in settings.protocols:
        again = settings.training.steps * getattr(protocol, "count", 1) if "cold" in protocol.kind else LINEAR_PASSES
        total += stack * LINEAR_PASS * parameters * rows * getattr(protocol, "steps", again)
    for estimator in settings.estimators:
        if estimator.kind == "cg":
            total += min(MOST_PRODUCTS, estimator.max_iterations) * gradient * sizes.test_points
        elif estimator.kind == "lissa":
            total += _estimate(estimator, settings, sizes, 0.0)
    return total


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
