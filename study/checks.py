"""What only the data can tell about a spec: rows that do not exist, counts too large, parameters the model lacks."""

import importlib.util
import itertools

import numpy as np

from study import data
from study.data import Dataset, Split
from study.errors import StudyError, listed, show, suggestion
from study.specs import ChosenRows, Estimators, Model, Points, Settings
from study.specs.schema import CERTIFYING

LARGE_TABLE = 4_000_000  # numbers of training rows, from where a linear model goes through them piece by piece
LARGEST_HESSIAN = 8_000  # parameters up to which a Hessian is formed: half a gigabyte
DENSE_WORK = 1e10  # P²n from which a Hessian for every network of a stack takes minutes
DENSE_ESTIMATORS = ("exact", "ggn", "newton_step", "perturb_input")
SHARING = ("exact", "stationary", "proximal")  # what a factor that all networks share serves as well
DENSE_PROTOCOLS = (*CERTIFYING, "linearised_pbrf")
EXTRAS = {"kfac": ("curvlinops", "kfac"), "ekfac": ("curvlinops", "kfac")}  # module and optional extra by estimator
NEIGHBOURS = ("the ranking of neighbours", "faiss", "knn")  # what needs which module, of which optional extra
APPROXIMATE = 'use kind = "cg", "lissa", "arnoldi" or "nystrom"'


def check(settings: Settings, dataset: Dataset, split: Split) -> None:
    """Refuses settings that their data set cannot serve; StudyError names path and value."""
    if settings.target == "margin" and dataset.task == "regression":
        raise StudyError(f'target = "margin": {dataset.name} is a regression and has no classes; use target = "loss"')
    if settings.model.is_convolutional and dataset.shape is None:
        raise StudyError(f'model.kind = "{settings.model.kind}": the rows of {dataset.name} are no images; use "mlp"')
    rows = len(split.train_rows)
    batch = settings.training.batch_size
    if isinstance(batch, int) and batch > rows:
        raise StudyError(f"training.batch_size = {batch}: there are only {rows} training rows")
    _check_count(settings.points, rows)
    _check_test_points(settings.points, split)
    _check_direction(settings.points, split)
    if settings.points.grouped:
        _check_groups(settings.points, dataset, split)
    for estimator in settings.estimators:
        if isinstance(size := getattr(estimator, "batch_size", None), int) and size > rows:
            raise StudyError(f"estimators.{estimator.name}.batch_size = {size}: there are only {rows} training rows")
        if estimator.kind in EXTRAS:
            check_extra(f'estimators.{estimator.name}: kind = "{estimator.kind}"', *EXTRAS[estimator.kind])
    sizes = parameter_sizes(settings.model, split.features, max(dataset.classes, 1))
    for estimator in settings.estimators:
        _check_parameters(f"estimators.{estimator.name}.parameters", estimator.parameters, settings.model)
        if sizes is not None:
            check_rank(estimator, _chosen_size(estimator.parameters, sizes))
    for protocol in settings.protocols:
        chosen = getattr(protocol, "parameters", "all")
        _check_parameters(f"protocols.{protocol.name}.parameters", chosen, settings.model)
    if sizes is not None:
        check_size(settings, sum(sizes.values()))
    _check_features(settings)


def _check_features(settings: Settings) -> None:
    if settings.feature_layers:
        check_extra(*NEIGHBOURS)
    if (known := layer_names(settings.model)) is not None:
        check_layers(settings, known)


def check_layers(settings: Settings, known: list[str]) -> None:
    """Refuses a layer that the network does not have, naming those that it has."""
    asked = [("neighbours.features", name) for name in (settings.neighbours.features if settings.neighbours else [])]
    near = settings.points.grouped and settings.points.group == "nearest"
    asked += [("points.features", settings.points.features)] * (settings.by_distance or near)
    for path, name in asked:
        if name not in known:
            raise StudyError(f"{path}: the network has no layer {show(name)}; it has: {listed(known)}")


def layer_names(model: Model) -> list[str] | None:
    """The layers whose features can be asked for, from the rows to the outputs; None where only the built network knows."""
    if model.is_module:
        return None
    hidden = range(1, model.depth + 1) if model.kind == "mlp" else ()
    return ["input", *(f"layer{number}" for number in hidden), "output"]


def by_pieces(model: Model, rows: int, features: int) -> bool:
    """Whether the model is a linear one that is computed as large ones are."""
    return model.kind == "linear" and (not model.intercept or rows * features > LARGE_TABLE)


def check_extra(place: str, module: str, extra: str) -> None:
    """Refuses what needs a package that is not installed; the package itself is not imported."""
    if importlib.util.find_spec(module) is None:
        raise StudyError(f'{place} needs {module}; install it with `pip install "influence-fragility-study[{extra}]"`')


def check_size(settings: Settings, parameters: int) -> None:
    """Refuses what forms the Hessian of a network that has too many parameters for it."""
    if parameters > LARGEST_HESSIAN:
        refuse_hessian(settings, f"{parameters:,} parameters are too many for that (at most {LARGEST_HESSIAN:,})")


def refuse_hessian(settings: Settings, reason: str, factors: bool = False) -> None:
    """Raises at the first thing that needs the Hessian, for a reason why there is none; factors: a matrix near it is formed."""
    served = SHARING if factors else ()
    estimators = [e for e in settings.estimators if e.kind in DENSE_ESTIMATORS and e.kind not in served]
    wrong = [(f"estimators.{e.name}", APPROXIMATE) for e in estimators]
    if settings.points.moves_rows and settings.points.direction == "influence":
        wrong.append(("points.direction", 'use "random"'))
    wrong += [("training.polish = true", "leave it out: the network is then not certified")] * (
        settings.training.polish and not factors
    )
    wrong += [
        (f"protocols.{p.name}", 'use kind = "warm" or "cold"')
        for p in settings.protocols
        if p.kind in DENSE_PROTOCOLS and p.kind not in served
    ]
    for place, instead in wrong:
        raise StudyError(f"{place}: it forms the Hessian, and {reason}; {instead}")


def check_rank(estimator: Estimators, size: int) -> None:
    """Refuses a rank that the matrix of `size` parameters does not have to give."""
    rank = getattr(estimator, "rank", 0)
    if rank >= size:
        raise StudyError(
            f"estimators.{estimator.name}.rank = {rank}: a matrix of {size} parameters is meant; at most {size - 1}"
        )


def load_split(settings: Settings, folder: str) -> tuple[Dataset, Split]:
    """The data set and the split of the settings."""
    dataset = data.load(settings.data, folder)
    return dataset, data.split(dataset, settings.data)


def _check_count(points: Points, rows: int) -> None:
    count = points.train_count
    if points.train == "all" or count is None:
        return
    if count > rows:
        raise StudyError(f"points.train_count = {count}: there are only {rows} training rows")
    held = len(np.arange(rows)[points.band_slice(rows)])
    if points.train == "influence_band" and count > held:
        raise StudyError(f"points.train_count = {count}: points.band = {show(points.band)} holds only {held} rows")


def _check_test_points(points: Points, split: Split) -> None:
    if not isinstance(points.test, ChosenRows):
        return
    held_out = set(split.test_rows.tolist())
    missing = [row for row in points.test.rows if row not in held_out]
    if missing:
        some = listed(split.test_rows[:8].tolist()) + (", …" if len(held_out) > 8 else "")
        raise StudyError(f"points.test.rows: row {missing[0]} is not held out by [data]; held out: {some}")


def _check_direction(points: Points, split: Split) -> None:
    count = points.test_count(len(split.test_rows))
    if points.moves_rows and points.direction == "influence" and count > 1:
        raise StudyError(
            f'points.direction = "influence": each of the {count} test points would move a row its own way; choose one test '
            'point, or direction = "random"'
        )


def _check_groups(points: Points, dataset: Dataset, split: Split) -> None:
    size, rows = points.group_size, len(split.train_rows)
    place = f"points.group_size = {size}"
    if size >= rows:
        raise StudyError(f"{place}: there are only {rows} training rows, and some must be left")
    count = points.test_count(len(split.test_rows))
    if points.group == "influence" and count > 1:
        raise StudyError(
            f'{place}, group = "influence": each of the {count} test points ranks the rows its own way; choose one test point, '
            "or another group"
        )
    if points.group != "same_class":
        return
    if dataset.task == "regression":
        raise StudyError(f'{place}, group = "same_class": {dataset.name} is a regression and has no classes')
    fewest = int(np.unique(split.y_train, return_counts=True)[1].min())
    if size > fewest:
        raise StudyError(f'{place}, group = "same_class": one of the classes has only {fewest} training rows')


def parameter_names(model: Model) -> list[str] | None:
    """The names of the model's parameters in order, None where only the built network knows."""
    if (known := layer_names(model)) is None:
        return None
    parts = ("weight", "bias") if model.intercept else ("weight",)
    return [f"{layer}.{part}" for layer in known[1:] for part in parts]


def parameter_sizes(model: Model, inputs: int, outputs: int) -> dict[str, int] | None:
    """The size of each of the model's parameters, None where only the built network knows."""
    names = parameter_names(model)
    if names is None:
        return None
    hidden = [model.width] * model.depth if model.kind == "mlp" else []
    widths = [inputs, *hidden, outputs]
    sizes = [size for one, next_ in itertools.pairwise(widths) for size in (one * next_, next_)[: 1 + model.intercept]]
    return dict(zip(names, sizes, strict=True))


def _chosen_size(parameters: object, sizes: dict[str, int]) -> int:
    if isinstance(parameters, list):
        return sum(sizes[name] for name in parameters)
    return sum(size for name, size in sizes.items() if parameters == "all" or name.startswith("output."))


def _check_parameters(path: str, parameters: object, model: Model) -> None:
    if not isinstance(parameters, list):
        return
    known = parameter_names(model)
    for name in parameters:
        if known is not None and name not in known:
            raise StudyError(f"{path}: the model has no parameter {show(name)}; {suggestion(name, known, 'it has')}")
