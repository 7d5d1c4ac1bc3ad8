"""The schema of a spec: what may be written in it, of which kind, with which default.

Everything is strict: an unknown key is refused, a boolean is no integer, an integer may stand for a float, infinity
and NaN are refused.
"""

import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from study.errors import listed, show
from study.specs.fields import (
    CONVOLUTIONAL,
    IMAGES,
    KNOWN_DATA,
    BatchSize,
    Classes,
    Count,
    DataName,
    Layers,
    Matrix,
    ModelKind,
    Name,
    Nodes,
    NotNegative,
    Parameters,
    Positive,
    Quantile,
    Rows,
    Seed,
    Share,
    SplitSeed,
    broken_rule,
    chosen_points,
    distinct,
)

DEFAULT_TEST_FRACTION = 0.2
DEFAULT_FILE_TARGET = {".csv": "target", ".npz": "y"}
CERTIFYING = ("stationary", "proximal", "pbrf")  # kinds of protocol that promise a certified minimum
INFLUENCE_RULES = ("highest_influence", "lowest_influence", "influence_band")
NEAREST = "nearest"
MOST_PREDICTIONS = 2_000_000  # numbers of predictions in one record from where only those of removed rows are kept
MOST_PREDICTED_ROWS = 20_000  # training rows beyond which no record holds predictions of all of them
PER_TEST_ROW = (*INFLUENCE_RULES, NEAREST)  # rules that choose for each test row by itself
IMAGE_KEYS = ("n_train", "n_test", "validation_rows", "classes")


class Table(BaseModel):
    """A table of the spec: strict, closed, immutable."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Data(Table):
    """`[data]`: the rows, which of them are held out, and their scaling (fitted on the training rows).

    Image sets are held out as their authors did: rows of the training part come first, then those of the test part. Of the
    training part the first `validation_rows` are set aside and `n_train` of the others drawn; of the test part `n_test`.
    `classes` keeps the rows of these classes, numbered anew in this order. `label_noise`: the share of training rows, drawn
    like the rest by `split_seed`, that get another class.
    """

    name: DataName
    standardize: bool = True
    test_rows: Rows | None = None
    test_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    split_seed: SplitSeed = 0
    target: Annotated[str, Field(min_length=1)] | None = None
    task: Literal["classification", "regression"] | None = None
    n_train: Count | None = None
    n_test: Count | None = None
    validation_rows: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    classes: Classes | None = None
    label_noise: Share = 0.0

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, table: object) -> object:
        """Defaults that depend on another key are written out here, so that stating one changes no key."""
        if not isinstance(table, dict):
            return table
        written = dict(table)
        held_out = written.get("test_rows") is not None or written.get("test_fraction") is not None
        if not held_out and written.get("name") not in IMAGES:
            written["test_fraction"] = DEFAULT_TEST_FRACTION
        if written.get("target") is None and isinstance(written.get("name"), str):
            written["target"] = DEFAULT_FILE_TARGET.get(written["name"][-4:].lower())
        return written

    @model_validator(mode="after")
    def _rules(self) -> "Data":
        if self.test_rows is not None and self.test_fraction is not None:
            raise broken_rule("test_rows and test_fraction are both given; keep one of them")
        if self.is_file and self.task is None:
            raise broken_rule('task is needed for a file; write task = "classification" or "regression"')
        if not self.is_file and (self.task is not None or self.target is not None):
            given = "task" if self.task is not None else "target"
            raise broken_rule(f"{given} describes a .csv or .npz file; {self.name} has its own, so remove it")
        if self.is_images and (self.test_rows is not None or self.test_fraction is not None):
            given = "test_rows" if self.test_rows is not None else "test_fraction"
            raise broken_rule(f"{given}: {self.name} has a test part of its own; use n_test, or test in [points]")
        drawn = [key for key in IMAGE_KEYS if getattr(self, key) not in (None, 0)]
        if not self.is_images and drawn:
            raise broken_rule(f"{drawn[0]}: only an image set has parts to draw from ({listed(IMAGES)})")
        if self.label_noise and (self.task == "regression" or self.name == "diabetes"):
            raise broken_rule(f"label_noise = {self.label_noise:g}: a regression has no classes")
        return self

    @property
    def is_images(self) -> bool:
        """Whether the data are images, found in the folder that `--data-root` or STUDY_DATA names."""
        return self.name in IMAGES

    @property
    def is_file(self) -> bool:
        """Whether the data are a user's file, to be found from the spec's folder."""
        return self.name not in KNOWN_DATA


class Model(Table):
    """`[model]`: the network; `depth`, `width` and `activation` describe an `mlp`, `intercept` a `linear` model.

    For images there are also `koh_cnn`, `lenet` and `resnet`, with `activation`; a `resnet` has `depth` blocks in each of three
    stages, `width` channels in the first, and its `normalization`.
    """

    kind: ModelKind
    depth: Count = 1
    width: Count = 5
    activation: Literal["tanh", "relu", "selu", "gelu", "softplus"] = "tanh"
    intercept: bool = True
    normalization: Literal["group", "frozen"] = "group"

    @model_validator(mode="after")
    def _rules(self) -> "Model":
        if not self.intercept and self.kind != "linear":
            raise broken_rule(f'intercept = false: only kind = "linear" can do without, not "{self.kind}"')
        if self.normalization != "group" and self.kind != "resnet":
            raise broken_rule(f'normalization = "{self.normalization}": only kind = "resnet" has any, not "{self.kind}"')
        return self

    @property
    def is_convolutional(self) -> bool:
        """Whether the network takes its rows for images."""
        return self.kind in CONVOLUTIONAL

    @property
    def is_module(self) -> bool:
        """Whether only the built network knows its parameters and layers."""
        return self.is_factory or self.is_convolutional

    @property
    def is_factory(self) -> bool:
        """Whether the network comes from a user's `package.module:factory`."""
        return ":" in self.kind


class Training(Table):
    """`[training]`: how the objective (1/n) Σ L + (weight_decay/2)‖θ‖² is brought down, from `initial_scale` times torch's own
    initial parameters.
    """

    optimizer: Literal["adam", "sgd", "lbfgs"] = "adam"
    learning_rate: Positive = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    schedule: Literal["constant", "plateau", "step", "cosine"] = "constant"
    patience: Count = 100
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    step_every: Count = 1000
    steps: Count = 60000
    batch_size: BatchSize = "full"
    weight_decay: NotNegative = 0.005
    decay_biases: bool = True
    polish: bool = False
    dtype: Literal["float32", "float64"] = "float64"
    initial_scale: Positive = 1.0

    @model_validator(mode="after")
    def _rules(self) -> "Training":
        if self.optimizer == "lbfgs" and self.batch_size != "full":
            raise broken_rule(f'batch_size = {self.batch_size}: lbfgs needs batch_size = "full"')
        if self.optimizer == "lbfgs" and self.schedule != "constant":
            raise broken_rule(f'schedule = "{self.schedule}": lbfgs needs schedule = "constant"')
        return self


class ChosenRows(Table):
    """`test = { rows = [..] }`: rows of the data set as loaded."""

    rows: Rows


class LossQuantiles(Table):
    """`test = { quantiles = [..] }`: held-out points at these quantiles of the test loss."""

    quantiles: Annotated[list[Quantile], Field(min_length=1), AfterValidator(distinct)]


TestPoints = Annotated[
    Annotated[Literal["all", "highest_loss", "median_loss"], Tag("<word>")]
    | Annotated[ChosenRows, Tag("<rows>")]
    | Annotated[LossQuantiles, Tag("<quantiles>")],
    Discriminator(chosen_points),
]


class Points(Table):
    """`[points]`: which training rows are removed, for which test points, and what removal means.

    `zero_weight` and `renormalise` say what becomes of the other rows' weights; with a `fraction` below 1 only that part of the
    row's own weight goes. `perturb_input` removes nothing: the row stays
    and its scaled features move by `perturbation`, each up or down: as the test point's loss rises ("influence") or at random.

    With a `group_size` m above 1, m - 1 others leave with every row that the rule chooses: drawn from all or from its class,
    the nearest in `features`, or those next below it in influence. `select_seed` decides all draws. `scrambled`, the networks
    without each of the rows stand in a random order, as they do in some published code.
    """

    train: Literal[
        "all", "random", "highest_loss", "highest_influence", "lowest_influence", "influence_band", "nearest"
    ] = "all"
    train_count: Count | None = None
    by: Name | None = None
    order: Literal["absolute", "signed"] = "absolute"
    band: Annotated[list[Quantile], Field(min_length=2, max_length=2)] = [0.25, 0.35]
    select_seed: Seed = 0
    features: Annotated[str, Field(min_length=1)] = "input"
    test: TestPoints = "all"
    removal: Literal["zero_weight", "renormalise", "perturb_input"] = "zero_weight"
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    perturbation: Positive = 0.1
    direction: Literal["influence", "random"] = "influence"
    group_size: Count = 1
    group: Literal["random", "same_class", "nearest", "influence"] = "random"
    scrambled: bool = False

    @model_validator(mode="after")
    def _rules(self) -> "Points":
        if self.train != "all" and self.train_count is None:
            raise broken_rule(f'train_count is needed with train = "{self.train}"; say how many rows are removed')
        if self.moves_rows and self.fraction != 1:
            raise broken_rule(
                f'fraction = {self.fraction:g}: with removal = "perturb_input" no weight goes; use perturbation'
            )
        if self.moves_rows and self.grouped:
            raise broken_rule(f'group_size = {self.group_size}: removal = "perturb_input" moves rows one by one; use 1')
        if not self.band[0] < self.band[1]:
            raise broken_rule(f"band = {show(self.band)}: the first quantile must be below the second")
        return self

    @property
    def moves_rows(self) -> bool:
        """Whether a row's "removal" is a move of its features."""
        return self.removal == "perturb_input"

    @property
    def grouped(self) -> bool:
        """Whether other rows leave with each row that the rule chooses."""
        return self.group_size > 1

    def test_count(self, held_out: int) -> int:
        """How many test points the rule chooses of so many held-out rows; quantiles that meet count twice."""
        if isinstance(self.test, str):
            return held_out if self.test == "all" else 1
        return len(self.test.rows if isinstance(self.test, ChosenRows) else self.test.quantiles)

    def band_slice(self, rows: int) -> slice:
        """Which of `rows` training rows, in ascending order of influence, the band holds."""
        return slice(math.floor(self.band[0] * rows), math.ceil(self.band[1] * rows))


class Neighbours(Table):
    """`[neighbours]`: all training rows ranked by their distance from each test point, in the features of these layers.

    "input": the scaled rows; of an mlp "layer1", "layer2", …: outputs of a hidden layer, after its activation; "output": what
    the network returns; of a network of your own, any named submodule's output. Needs FAISS.
    """

    features: Layers = ["input"]


def _own_kind(given: dict[str, Any]) -> str:
    return str(given.get("kind", ""))


class Exact(Table):
    """`kind = "exact"`: the dense Hessian of the objective plus `damping`; without the penalty's part on `penalty = false`."""

    kind: Literal["exact"] = "exact"
    name: Name = Field(default_factory=_own_kind)
    damping: NotNegative = 0.0
    penalty: bool = True
    parameters: Parameters = "all"


class Ggn(Table):
    """`kind = "ggn"`: the dense Gauss-Newton matrix plus `damping`; without the penalty's part on `penalty = false`."""

    kind: Literal["ggn"] = "ggn"
    name: Name = Field(default_factory=_own_kind)
    damping: NotNegative = 0.0
    penalty: bool = True
    parameters: Parameters = "all"


class Identity(Table):
    """`kind = "identity"`: the gradient product ∇L_t · ∇L_i / n."""

    kind: Literal["identity"] = "identity"
    name: Name = Field(default_factory=_own_kind)
    parameters: Parameters = "all"


class Cg(Table):
    """`kind = "cg"`: conjugate gradients on the matrix plus `damping`, for each chosen test point, by products alone."""

    kind: Literal["cg"] = "cg"
    name: Name = Field(default_factory=_own_kind)
    matrix: Matrix = "hessian"
    damping: NotNegative = 0.0
    tolerance: Positive = 1e-10
    max_iterations: Count = 1000
    parameters: Parameters = "all"


class Lissa(Table):
    """`kind = "lissa"`: `depth` steps of h ← v + (1 − damping) h − Ĥh/scale on random rows, `repeats` times.

    With `until` the recursion ends before, when no test point's ‖h‖ changes by more than that part of it any longer.
    """

    kind: Literal["lissa"] = "lissa"
    name: Name = Field(default_factory=_own_kind)
    matrix: Matrix = "hessian"
    depth: Count = 5000
    repeats: Count = 1
    batch_size: BatchSize = 1
    damping: Annotated[float, Field(ge=0, lt=1)] = 0.0
    scale: Positive = 25.0
    until: NotNegative = 0.0
    seed: Seed = 0
    parameters: Parameters = "all"


class Arnoldi(Table):
    """`kind = "arnoldi"`: the matrix on its `rank` eigenvectors of largest eigenvalue in size, plus `damping`."""

    kind: Literal["arnoldi"] = "arnoldi"
    name: Name = Field(default_factory=_own_kind)
    matrix: Matrix = "hessian"
    rank: Count = 20
    damping: NotNegative = 0.0
    seed: Seed = 0
    parameters: Parameters = "all"


class Nystrom(Table):
    """`kind = "nystrom"`: the matrix from its products with `rank` random directions, plus `damping`."""

    kind: Literal["nystrom"] = "nystrom"
    name: Name = Field(default_factory=_own_kind)
    matrix: Matrix = "hessian"
    rank: Count = 20
    damping: Positive = 1e-3
    seed: Seed = 0
    parameters: Parameters = "all"


class Kfac(Table):
    """`kind = "kfac"`: the Gauss-Newton matrix as one Kronecker product a layer, plus the penalty and `damping`."""

    kind: Literal["kfac"] = "kfac"
    name: Name = Field(default_factory=_own_kind)
    damping: NotNegative = 0.0
    parameters: Parameters = "all"

    def refuse(self, training: Training) -> None:
        """Raises where the factors have no inverse, or where the penalty is no multiple of the identity."""
        if not training.decay_biases:
            raise broken_rule(
                f"estimators.{self.name}: decay_biases = false: {self.kind} knows one penalty for all parameters"
            )
        if training.weight_decay + self.damping == 0:
            raise broken_rule(
                f"estimators.{self.name}: damping = 0 without weight_decay: the factors are singular; give a damping"
            )


class Ekfac(Kfac):
    """`kind = "ekfac"`: as `kfac`, with the matrix's own values along the eigenvectors of the Kronecker products."""

    kind: Literal["ekfac"] = "ekfac"  # type: ignore[assignment]


class NewtonStep(Table):
    """`kind = "newton_step"`: one Newton step with the Hessian of the objective without the row.

    `indefinite`: where that Hessian has negative eigenvalues, "stop" before them or solve by "minres".
    """

    kind: Literal["newton_step"] = "newton_step"
    name: Name = Field(default_factory=_own_kind)
    parameters: Literal["all"] = "all"
    tolerance: Positive = 1e-10
    max_iterations: Count = 200
    indefinite: Literal["stop", "minres"] = "stop"


class Tracin(Table):
    """`kind = "tracin"`: gradient products at `checkpoints` along the training run (stochastic gradient descent only)."""

    kind: Literal["tracin"] = "tracin"
    name: Name = Field(default_factory=_own_kind)
    checkpoints: Count = 10
    parameters: Parameters = "all"

    def refuse(self, training: Training) -> None:
        """Raises where a step is not the gradient times a rate."""
        if training.optimizer != "sgd":
            raise broken_rule(
                f'estimators.{self.name}: optimizer = "{training.optimizer}": its steps are no multiples of a gradient; use "sgd"'
            )
        if training.polish:
            raise broken_rule(f"estimators.{self.name}: it follows the steps only, not polish = true; leave it out")
        if self.checkpoints > training.steps:
            raise broken_rule(
                f"estimators.{self.name}: checkpoints = {self.checkpoints}: the run has only {training.steps} steps"
            )


class Unrolled(Table):
    """`kind = "unrolled"`: the derivative of a training run in a row's weight: `from = "base"` for `steps` further steps, as
    `warm` takes them, or `from = "init"` for the whole training, as `cold` runs it.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    kind: Literal["unrolled"] = "unrolled"
    name: Name = Field(default_factory=_own_kind)
    origin: Annotated[Literal["base", "init"], Field(alias="from")] = "base"
    steps: Count = 7500
    parameters: Literal["all"] = "all"

    def refuse(self, training: Training) -> None:
        """Raises where the run has no derivative to follow."""
        if training.optimizer == "lbfgs":
            raise broken_rule(
                f'estimators.{self.name}: optimizer = "lbfgs" takes no steps that could be unrolled; use "adam" or "sgd"'
            )
        if self.origin == "init" and training.polish:
            raise broken_rule(
                f'estimators.{self.name}: from = "init" unrolls the steps only, not polish = true; leave it out'
            )


class PerturbInput(Table):
    """`kind = "perturb_input"`: the change when a row's features move a little, first order in that move too."""

    kind: Literal["perturb_input"] = "perturb_input"
    name: Name = Field(default_factory=_own_kind)
    damping: NotNegative = 0.0
    parameters: Parameters = "all"


class Warm(Table):
    """`kind = "warm"`: `steps` further steps from the trained parameters, fresh optimiser state; only `parameters` move."""

    kind: Literal["warm"] = "warm"
    name: Name = Field(default_factory=_own_kind)
    steps: Count = 7500
    parameters: Parameters = "all"

    def refuse(self, training: Training) -> None:
        """Raises where the optimiser cannot keep some parameters fixed."""
        if training.optimizer == "lbfgs" and self.parameters != "all":
            raise broken_rule(
                f'protocols.{self.name}: parameters = {show(self.parameters)}: optimizer = "lbfgs" moves all; use "adam" or "sgd"'
            )


class Horizon(Table):
    """`kind = "horizon"`: as `warm`, to be swept over `steps`: trials of one network that differ in these share one run."""

    kind: Literal["horizon"] = "horizon"
    name: Name = Field(default_factory=_own_kind)
    steps: Count = 1000
    parameters: Parameters = "all"

    def refuse(self, training: Training) -> None:
        """Raises where the first steps depend on how many follow."""
        if training.optimizer == "lbfgs":
            raise broken_rule(
                f'protocols.{self.name}: optimizer = "lbfgs" takes no steps that could be counted; use "adam" or "sgd"'
            )
        if training.schedule == "cosine":
            raise broken_rule(
                f'protocols.{self.name}: schedule = "cosine": its rates depend on the number of steps; use "constant", "step" or '
                '"plateau"'
            )


class Cold(Table):
    """`kind = "cold"`: from scratch with the same initialisation and batch order; not `paired`, each network with its own."""

    kind: Literal["cold"] = "cold"
    name: Name = Field(default_factory=_own_kind)
    paired: bool = True


class ColdSeeds(Table):
    """`kind = "cold_seeds"`: from scratch over `count` other initialisations and batch orders; not `paired`, null and removals
    of each do not share these.
    """

    kind: Literal["cold_seeds"] = "cold_seeds"
    name: Name = Field(default_factory=_own_kind)
    count: Annotated[int, Field(ge=2, le=2**31 - 1)] = 10
    paired: bool = True


class Stationary(Table):
    """`kind = "stationary"`: to ‖∇J‖ ≤ `tolerance`, with a certificate."""

    kind: Literal["stationary"] = "stationary"
    name: Name = Field(default_factory=_own_kind)
    tolerance: Positive = 1e-9


class Proximal(Table):
    """`kind = "proximal"`: leave-one-out minima with (`damping`/2)‖θ − θ*‖² added, with a certificate; `subtract_gradient`
    also adds −∇J(θ*)ᵀθ, so that the null stays at θ*.
    """

    kind: Literal["proximal"] = "proximal"
    name: Name = Field(default_factory=_own_kind)
    damping: NotNegative = 1e-3
    tolerance: Positive = 1e-9
    subtract_gradient: bool = False


class Pbrf(Table):
    """`kind = "pbrf"`: the proximal Bregman response with δ = weight_decay + `damping`, with a certificate."""

    kind: Literal["pbrf"] = "pbrf"
    name: Name = Field(default_factory=_own_kind)
    damping: NotNegative = 0.0
    tolerance: Positive = 1e-9


class LinearisedPbrf(Table):
    """`kind = "linearised_pbrf"`: the quadratic of `pbrf` at θ*, which `ggn` with the same `damping` predicts."""

    kind: Literal["linearised_pbrf"] = "linearised_pbrf"
    name: Name = Field(default_factory=_own_kind)
    damping: NotNegative = 0.0


Estimators = (
    Exact
    | Ggn
    | Identity
    | Cg
    | Lissa
    | Arnoldi
    | Nystrom
    | NewtonStep
    | Unrolled
    | Tracin
    | PerturbInput
    | Kfac
    | Ekfac
)
Estimator = Annotated[Estimators, Field(discriminator="kind")]
Protocols = Warm | Cold | Stationary | Proximal | Pbrf | LinearisedPbrf | ColdSeeds | Horizon
Protocol = Annotated[Protocols, Field(discriminator="kind")]


def _by_kind(union: Any) -> dict[str, type[Table]]:
    return {table.model_fields["kind"].default: table for table in get_args(get_args(union)[0])}


ESTIMATOR_KINDS = _by_kind(Estimator)
PROTOCOL_KINDS = _by_kind(Protocol)


def _refuse_repeated_names(key: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise broken_rule(f'{key}: two are called "{name}"; give each [[{key}]] a name of its own')
        seen.add(name)


def _refuse_intervention(estimator: Any, points: Points) -> None:
    """Some estimators know only of rows that leave, one only of rows that move."""
    if isinstance(estimator, PerturbInput) and not points.moves_rows:
        raise broken_rule(
            f'estimators.{estimator.name}: removal = "{points.removal}" moves no row; write removal = "perturb_input" in [points]'
        )
    if isinstance(estimator, NewtonStep | Unrolled | Tracin) and points.moves_rows:
        raise broken_rule(
            f'estimators.{estimator.name}: {estimator.kind} predicts removal only, not removal = "perturb_input"; use "exact", '
            '"cg" or "perturb_input"'
        )


def _refuse_groups(settings: "Settings") -> None:
    """A Newton step without rows is no sum over these, and neighbours are compared with single rows."""
    for estimator in settings.estimators:
        if isinstance(estimator, NewtonStep):
            raise broken_rule(
                f"estimators.{estimator.name}: newton_step predicts single removals only, not points.group_size = "
                f'{settings.points.group_size}; use "exact" or another'
            )
    if settings.neighbours is not None:
        raise broken_rule(
            f"neighbours: they are compared with removals of single rows, not points.group_size = {settings.points.group_size}; "
            "leave the table out"
        )


def _refuse_response(protocol: Any, settings: "Settings") -> None:
    """The Bregman responses know only of weights that change, and need something that keeps them near θ*; so does a proximal
    objective whose gradient at θ* is taken away.
    """
    tilted = isinstance(protocol, Proximal) and protocol.subtract_gradient
    if not tilted and not isinstance(protocol, Pbrf | LinearisedPbrf):
        return
    if not tilted and settings.points.moves_rows:
        raise broken_rule(f'protocols.{protocol.name}: removal = "perturb_input" has no such response; use "proximal"')
    if settings.training.weight_decay + protocol.damping == 0 or not (
        settings.training.decay_biases or protocol.damping
    ):
        raise broken_rule(
            f"protocols.{protocol.name}: damping = 0 and no penalty on every parameter: nothing keeps it near θ*"
        )


class Settings(Table):
    """All that can change a number of one trial, fully specified.

    `[paths]`: names of protocols, then of estimators, in the order in which they lead from a truth to a prediction; what lies
    between each two neighbours is recorded. Of a path a trial follows the nodes that it has.
    """

    target: Literal["loss", "margin"] = "loss"
    data: Data
    model: Model
    training: Training = Training()
    points: Points = Points()
    neighbours: Neighbours | None = None
    estimators: Annotated[list[Estimator], Field(min_length=1)]
    protocols: Annotated[list[Protocol], Field(min_length=1)]
    paths: dict[Name, Nodes] | None = None
    seed: Seed = 0

    @model_validator(mode="after")
    def _rules(self) -> "Settings":
        _refuse_repeated_names("estimators", (estimator.name for estimator in self.estimators))
        _refuse_repeated_names("protocols", (protocol.name for protocol in self.protocols))
        names = [estimator.name for estimator in self.estimators]
        by = self.points.by
        if by is not None and self.points.train in INFLUENCE_RULES and by not in names:
            raise broken_rule(f'points.by = "{by}": no such estimator here; name one of {listed(names)}')
        for estimator in self.estimators:
            if isinstance(estimator, Unrolled | Tracin | Kfac):
                estimator.refuse(self.training)
            _refuse_intervention(estimator, self.points)
        for protocol in self.protocols:
            if isinstance(protocol, Warm | Horizon):
                protocol.refuse(self.training)
            _refuse_response(protocol, self)
        if self.points.grouped:
            _refuse_groups(self)
        return self

    @property
    def gap_paths(self) -> dict[str, list[str]]:
        """By path the nodes that this trial has, in order: those that its block does not select are passed over, and a path
        that keeps fewer than two is none of this trial's."""
        names = {entry.name for entry in (*self.protocols, *self.estimators)}
        kept = {path: [node for node in nodes if node in names] for path, nodes in (self.paths or {}).items()}
        return {path: nodes for path, nodes in kept.items() if len(nodes) > 1}

    @property
    def ranked_by(self) -> str:
        """The estimator that an influence rule ranks rows by: `points.by`, or else the first one."""
        return self.points.by or self.estimators[0].name

    @property
    def feature_layers(self) -> list[str]:
        """The layers in whose features training rows are ranked by their distance from the test points; none by default."""
        asked = [*(self.neighbours.features if self.neighbours else []), *[self.points.features] * self.by_distance]
        return list(dict.fromkeys(asked))

    def predicts_all(self, rows: int, test_points: int) -> bool:
        """Whether a record holds predictions for all training rows, or for what is removed alone: groups, or too much."""
        few = rows <= MOST_PREDICTED_ROWS and len(self.estimators) * rows * test_points <= MOST_PREDICTIONS
        return not self.points.grouped and (few or self.neighbours is not None)

    @property
    def by_distance(self) -> bool:
        """Whether the rows to remove are the test points' nearest."""
        return self.points.train == NEAREST


class Twin(Table):
    """`[[twins]]`: cells as published against cells in which one thing is changed; it changes no trial.

    A side names estimator, protocol and swept values; cells of the two sides are matched on everything that neither names.
    `where` restricts both, each path to a list of values. `absolute`: whose correlations lose their sign, comparison by
    comparison, before they are averaged; `raw`: whose actual changes are taken without subtracting the null.
    """

    name: Annotated[str, Field(min_length=1, max_length=60)]
    published: dict[str, Any]
    corrected: dict[str, Any]
    where: dict[str, Any] = {}
    absolute: Literal["published", "corrected", "both"] | None = None
    raw: Literal["published", "corrected", "both"] | None = None

    def takes(self, treatment: Literal["absolute", "raw"], side: str) -> bool:
        """Whether the treatment is that of this side."""
        return getattr(self, treatment) in (side, "both")


class Spec(Settings):
    """The whole file: the settings every trial shares, and what names, compares and sweeps them."""

    name: Name
    question: str = ""
    primary: Literal["spearman", "pearson"] = "spearman"
    twins: list[Twin] = []
    sweep: list[dict[str, Any]] | dict[str, Any] = []
