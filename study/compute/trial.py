"""One unit of trials of one family, from specs to records: the study's method, in order."""

import hashlib
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from study.compute import (
    certificates,
    effects,
    estimators,
    fitting,
    flags,
    fused,
    gaps,
    groups,
    neighbours,
    points,
    preconditioned,
    protocols,
    provenance,
)
from study.compute.certificates import Certificate
from study.compute.curvature import DECOMPOSED, extreme_eigenvalues
from study.compute.estimators.prediction import Prediction, largest_ratio
from study.compute.fitting import Job
from study.compute.problems import Fitted, Problem, problem
from study.compute.protocols.retrained import Retrained
from study.errors import StudyError
from study.records import Failure, Record
from study.trials import NUMBERS_VERSION, Trial

BASE_TOLERANCE = 1e-9
MANY_DAMPINGS = 6  # from which one reduction of a large Hessian takes less time than so many factors
# Building networks uses torch's global generator and default dtype: workers with several threads take turns.
ONE_AT_A_TIME = threading.Lock()


@dataclass
class Run:
    """What is known of one trial so far.

    removed: positions of the rows that the rule chose [R]; groups: of those that leave with each, itself first [R, m].
    """

    trial: Trial
    problem: Problem
    fitted: Fitted
    base: Certificate
    test_positions: np.ndarray
    predictions: dict[str, Prediction]
    neighbours: dict[str, np.ndarray]
    removed: np.ndarray
    selected: np.ndarray
    groups: np.ndarray
    job: Job

    @cached_property
    def networks(self) -> str:
        """Equal for trials that retrain the same networks, from the same start with the same weights and rows."""
        tensors = [part for part in (self.fitted.theta, self.job.weights, self.job.x) if part is not None]
        parts = [self.problem.training_identity.encode(), *(part.cpu().numpy().tobytes() for part in tensors)]
        return hashlib.sha256(b"".join(parts)).hexdigest()


def run_unit(trials: Sequence[Trial], device: str = "cpu") -> list[Record | Failure]:
    """Records of trials of one family. Where the stack raises, its trials run one by one: only those at fault fail."""
    torch.set_num_threads(1)
    try:
        with ONE_AT_A_TIME:
            return list(run_trials(trials, device))
    except Exception as error:  # an exception is a failure of these trials, stored beside the records
        if len(trials) > 1:
            return [outcome for trial in trials for outcome in run_unit([trial], device)]
        kept = "" if isinstance(error, StudyError) else traceback.format_exc()
        return [
            Failure(trials[0].key, trials[0].settings.model_dump(mode="json"), f"{type(error).__name__}: {error}", kept)
        ]


@contextmanager
def subnormals_as_zero() -> Iterator[None]:
    """Numbers below 1e-38 (float32) or 1e-308 (float64) count as 0 in this thread.

    The parameters of a collapsing network pass through them for thousands of steps, and a step with one such network
    in the stack takes eight times as long.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@subnormals_as_zero()
def run_trials(trials: Sequence[Trial], device: str = "cpu") -> list[Record]:
    """Train all bases as one stack; predict and choose removals trial by trial; retrain by each protocol; certify; record."""
    started = time.perf_counter()
    problems = [problem(trial, device) for trial in trials]
    bases = _bases(problems)
    shared: dict[str, Fitted] = {}
    runs = [_prepare(trial, p, base[0], shared) for trial, p, base in zip(trials, problems, bases, strict=True)]
    retrained = _retrain(runs)
    certified = _certify(runs, retrained)
    parts = [_record(run, retrained[k], certified[k]) for k, run in enumerate(runs)]
    seconds = (time.perf_counter() - started) / len(trials)
    return [_with_provenance(record, run, device, seconds) for record, run in zip(parts, runs, strict=True)]


def _bases(problems: Sequence[Problem]) -> list[Tensor]:
    """Trained parameters [1, P] of every problem; trials that differ only in what is asked of the network share one."""
    names = [p.training_identity for p in problems]
    distinct = dict(zip(names, problems, strict=True))
    trained = fitting.scratch([fitting.initial(p) for p in distinct.values()])
    by_name = dict(zip(distinct, trained, strict=True))
    return [by_name[name] for name in names]


def _prepare(trial: Trial, p: Problem, theta: Tensor, shared: dict[str, Fitted]) -> Run:
    """Predict every pair at the trained parameters, then choose the rows to remove.

    shared: what trials of one network with one question have in common, Hessian and eigenvectors: a path of dampings needs
    them once.
    """
    settings, target = p.settings, p.target
    base = certificates.certify(p.objective, theta[None], p.weights, target, BASE_TOLERANCE)
    test_losses = _losses(p, theta, test=True)
    chosen = points.test_positions(settings.points, p.split.test_rows, test_losses)
    intervention = settings.points.model_dump_json(
        include={"removal", "fraction", "perturbation", "direction", "select_seed"}
    )
    asked = (p.training_identity, intervention, settings.target, str(chosen.tolist()))
    target = target.rows(torch.as_tensor(chosen, device=theta.device))
    fitted = shared.setdefault("\n".join(asked), Fitted(p, theta, target, _asks_for_many_dampings(trial)))
    predictions = {e.name: _timed(fitted, e) for e in settings.estimators}
    ranking = predictions[settings.ranked_by].delta.cpu().numpy()
    near = neighbours.rankings(p, theta, chosen, settings.feature_layers)
    places = near.get(settings.points.features)
    removed, selected = points.removals(settings.points, _losses(p, theta), ranking, places)
    together = groups.members(p, theta, removed, ranking)
    job = _job(fitted, torch.as_tensor(groups.retrained_without(p, together), device=theta.device))
    return Run(trial, p, fitted, base, chosen, predictions, near, removed, selected, together, job)


def _asks_for_many_dampings(trial: Trial) -> bool:
    """Whether the spec sweeps an estimator's damping, or lists MANY_DAMPINGS of one kind."""
    if any(path.startswith("estimators.") and path.endswith(".damping") for path in trial.swept):
        return True
    listed = Counter(e.kind for e in trial.settings.estimators if getattr(e, "damping", 0.0))
    return max(listed.values(), default=0) >= MANY_DAMPINGS


def _job(fitted: Fitted, removed: Tensor) -> Job:
    """The null and a network for every group of `removed` [R, m], from θ*: without its rows, or with its one row moved."""
    p, x = fitted.problem, None
    weights = torch.cat([p.weights, p.removal_weights(removed)])
    if fitted.moved is not None:
        x = p.objective.x.repeat(len(weights), 1, 1)
        x[torch.arange(1, len(x)), removed[:, 0]] = fitted.moved[removed[:, 0]]
    factor = (lambda: fitted.factor) if p.network.is_linear else None
    return Job(p, fitted.theta.expand(len(weights), -1), weights, x, factor=factor)


def _timed(fitted: Fitted, settings: Any) -> Prediction:
    """With the seconds it took, but for those of knowing how good it is.

    What estimators share (Hessian, eigenvectors) counts for the first that needs it.
    """
    started = time.perf_counter()
    found = estimators.predict(fitted, settings)
    seconds = time.perf_counter() - started - found.diagnostics
    return replace(found, evidence={**found.evidence, "seconds": round(seconds, 4)})


def _losses(p: Problem, theta: Tensor, test: bool = False) -> np.ndarray:
    losses = p.target.loss_values(theta[None]) if test else p.objective.row_losses(theta[None])
    return losses[0].detach().cpu().numpy()


def _retrain(runs: list[Run]) -> list[dict[str, Retrained]]:
    """Every protocol of every trial; trials with an equal protocol go through it as one stack, equal networks once.

    Equal are also protocols that one run serves: it is then looked at several times.
    """
    results: list[dict[str, Retrained]] = [{} for _ in runs]
    waiting: dict[str, list[tuple[int, Any]]] = {}
    for k, run in enumerate(runs):
        for protocol in run.problem.settings.protocols:
            waiting.setdefault(protocols.alike(protocol), []).append((k, protocol))
    for group in waiting.values():
        outcomes = _once([(runs[k], protocol) for k, protocol in group])
        for k, protocol in group:
            results[k][protocol.name] = outcomes[runs[k].networks, _question(protocol)]
    return results


def _once(asked: list[tuple[Run, Any]]) -> dict[tuple[str, str], Retrained]:
    """Outcomes by networks and question: equal networks once, and those that are asked the same questions as one stack."""
    jobs = {run.networks: run.job for run, _ in asked}
    questions: dict[str, dict[str, Any]] = {}
    for run, protocol in asked:
        questions.setdefault(run.networks, {})[_question(protocol)] = protocol
    stacks: dict[tuple[str, ...], list[str]] = {}
    for networks, own in questions.items():
        stacks.setdefault(tuple(sorted(own)), []).append(networks)
    outcomes: dict[tuple[str, str], Retrained] = {}
    for texts, members in stacks.items():
        several = [questions[members[0]][text] for text in texts]
        found = protocols.retrain_alike([jobs[networks] for networks in members], several)
        for text, ends in zip(texts, found, strict=True):
            outcomes |= {(networks, text): end for networks, end in zip(members, ends, strict=True)}
    return outcomes


def _question(protocol: Any) -> str:
    return protocol.model_dump_json(exclude={"name"})


def _certify(runs: list[Run], retrained: list[dict[str, Retrained]]) -> list[dict[str, Certificate]]:
    """The certificate of every protocol of every trial; the same networks, asked the same, are certified once."""
    found: dict[tuple[str, int, float, int], Certificate] = {}
    results: list[dict[str, Certificate]] = []
    for run, outcomes in zip(runs, retrained, strict=True):
        results.append({})
        for protocol in run.problem.settings.protocols:
            outcome, tolerance = outcomes[protocol.name], _tolerance(protocol)
            key = (run.networks, id(outcome), tolerance, id(run.fitted))
            if key not in found:
                objective = run.job.objective if outcome.objective is None else outcome.objective
                weights = run.job.weights if outcome.weights is None else outcome.weights
                found[key] = certificates.worst([
                    certificates.certify(objective, theta, weights, run.fitted.target, tolerance)
                    for theta in outcome.stacks
                ])  # fmt: skip
            results[-1][protocol.name] = found[key]
    return results


def _tolerance(protocol: Any) -> float:
    return getattr(protocol, "tolerance", BASE_TOLERANCE)


def _record(run: Run, retrained: dict[str, Retrained], certified: dict[str, Certificate]) -> Record:
    """Everything but the provenance."""
    p, fitted, split = run.problem, run.fitted, run.problem.split
    header: dict[str, Any] = {
        "schema": 1,
        "numbers_version": NUMBERS_VERSION,
        "key": run.trial.key,
        "spec": p.settings.model_dump(mode="json"),
        "base": _base(run),
        "flags": flags.of_base(fitted, run.base),
        "estimators": {},
        "protocols": {},
    }
    arrays = {
        "train_rows": split.train_rows,
        "test_rows": split.test_rows[run.test_positions],
        "selected": run.selected,
        "removed_rows": split.train_rows[run.removed],
        "base_parameters": fitted.theta.cpu().numpy(),
        "base_test": fitted.target.values(fitted.theta[None])[0].cpu().numpy(),
        "train_losses": _losses(p, fitted.theta),
        "test_losses": _losses(p, fitted.theta, test=True)[run.test_positions],
        **{f"neighbours/{layer}": places for layer, places in run.neighbours.items()},
        **_groups(run),
    }
    if fitted.moves is not None:
        arrays["moves"] = fitted.moves[torch.as_tensor(run.removed)].cpu().numpy()
    for settings in p.settings.estimators:
        prediction = run.predictions[settings.name]
        header["estimators"][settings.name] = {"kind": settings.kind, "flags": prediction.flags, **prediction.evidence}
        if settings.kind == "newton_step":
            header["estimators"][settings.name] |= _from_stationary(run, prediction, retrained, certified)
        if "predicted_rows" in arrays:
            prediction = groups.predicted(p, prediction, run.groups)
        arrays |= _predicted(settings.name, fitted, prediction)
    for protocol in p.settings.protocols:
        outcome, certificate = retrained[protocol.name], certified[protocol.name]
        header["protocols"][protocol.name] = {
            "kind": protocol.kind,
            "tolerance": _tolerance(protocol),
            "flags": flags.of_protocol(fitted, outcome),
            "seconds": round(outcome.seconds, 3),
            **protocol.model_dump(include={"count", "paired"}),
        }
        arrays |= _actual(protocol.name, run, outcome, certificate)
        arrays[f"flag/{protocol.name}"] = flags.of_removals(protocol.kind, run.job, outcome, certificate)
    if paths := p.settings.gap_paths:
        header["paths"] = paths
        arrays |= _gaps(paths, run, retrained, arrays)
    return Record(header, arrays)


def _groups(run: Run) -> dict[str, np.ndarray]:
    """predicted_rows [R]: the rows that predictions are of, where these are not all training rows; members [R, m]: the rows that
    leave with each, itself first; retrained_rows [R]: whose removal stands at each place, where these are scrambled.
    """
    p, rows, found = run.problem, run.problem.split.train_rows, dict[str, np.ndarray]()
    if not p.settings.predicts_all(len(rows), len(run.test_positions)):
        found["predicted_rows"] = rows[run.removed]
    if p.settings.points.grouped:
        found["members"] = rows[run.groups]
    if p.settings.points.scrambled:
        found["retrained_rows"] = rows[groups.retrained_without(p, run.groups)[:, 0]]
    return found


def _base(run: Run) -> dict[str, Any]:
    """The trained network in numbers."""
    p, theta = run.problem, run.fitted.theta[None]
    return {
        "train_loss": p.objective.data_loss(theta, p.weights).item(),
        "objective": p.objective.value(theta, p.weights).item(),
        "gradient_norm": float(run.base.gradient_norm[0]),
        "certified": bool(run.base.certified[0]),
        **_eigenvalues(run.fitted),
        "train_accuracy": flags.accuracy(p.objective.network, p.objective, theta),
        "test_accuracy": flags.accuracy(p.objective.network, p.target, theta),
        "parameter_norm": theta.norm().item(),
        "parameters": theta.shape[1],
    }


def _eigenvalues(fitted: Fitted) -> dict[str, float | int | None]:
    """Extremes of the Hessian at θ*, and how many are negative: None where the matrix is too large to know."""
    size = len(fitted.theta)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(size, dtype=torch.float64, generator=generator).to(fitted.theta)
    large = size > DECOMPOSED and fitted.forms and fitted.problem.network.is_linear
    if large and (factor := fitted.factor) is not None:
        [largest] = extreme_eigenvalues(lambda v: fitted.hessian @ v, start, ["LA"])
        [inverse] = extreme_eigenvalues(lambda v: torch.cholesky_solve(v[:, None], factor)[:, 0], start, ["LA"])
        return {"smallest_eigenvalue": 1 / inverse, "largest_eigenvalue": largest, "negative_eigenvalues": 0}
    if not fitted.forms and fitted.problem.settings.model.is_convolutional:
        smallest, largest = preconditioned.extreme_eigenvalues(
            fitted.problem.objective, fitted.theta, fitted.problem.weights
        )
        return {"smallest_eigenvalue": smallest, "largest_eigenvalue": largest, "negative_eigenvalues": None}
    if not fitted.forms:
        smallest, largest = extreme_eigenvalues(lambda v: fitted.products(v[None])[0], start)
        return {"smallest_eigenvalue": smallest, "largest_eigenvalue": largest, "negative_eigenvalues": None}
    finite = torch.isfinite(fitted.hessian).all()
    values = torch.linalg.eigvalsh(fitted.hessian) if finite else torch.full((1,), torch.nan)
    return {
        "smallest_eigenvalue": values.min().item(),
        "largest_eigenvalue": values.max().item(),
        "negative_eigenvalues": int((values < 0).sum()),
    }


def _from_stationary(
    run: Run, prediction: Prediction, retrained: dict[str, Retrained], certified: dict[str, Certificate]
) -> dict[str, float]:
    """The largest distance over test points of predicted changes from certified stationary ones, relative to those."""
    for protocol in run.problem.settings.protocols:
        outcome, certificate = retrained[protocol.name], certified[protocol.name]
        held = torch.as_tensor(certificate.certified[1:] & certificate.certified[0])
        if protocol.kind == "stationary" and held.any():
            actual = effects.measured(run.fitted, outcome)["actual"][held]
            predicted = prediction.delta[torch.as_tensor(run.removed)][held]
            return {"actual_distance_to_stationary": largest_ratio((predicted - actual).T, actual.T)}
    return {}


def _predicted(name: str, fitted: Fitted, prediction: Prediction) -> dict[str, np.ndarray]:
    """Predicted change, its plug-in L_t(θ* + Δθ) − L_t(θ*) (or from where Δθ starts), and ‖Δθ‖: NaN where Δθ is not known."""
    if prediction.change is None:
        delta = prediction.delta.cpu().numpy()
        unknown = {"plugin": np.full_like(delta, np.nan), "predicted_norm": np.full(len(delta), np.nan)}
        return {f"{kind}/{name}": values for kind, values in {"predicted": delta, **unknown}.items()}
    origin = fitted.theta if prediction.origin is None else prediction.origin
    moved = [fitted.target.values(origin + some) for some in prediction.change.split(256)]
    plugin = torch.cat(moved) - fitted.target.values(origin[None])
    found = {"predicted": prediction.delta, "plugin": plugin, "predicted_norm": prediction.change.norm(dim=1)}
    return {f"{kind}/{name}": tensor.cpu().numpy() for kind, tensor in found.items()}


def _actual(name: str, run: Run, outcome: Retrained, certificate: Certificate) -> dict[str, np.ndarray]:
    """Actual changes and the null's own drift (see `effects`); certificates, the null's first."""
    found = effects.measured(run.fitted, outcome)
    arrays = {f"{kind}/{name}": tensor.cpu().numpy() for kind, tensor in found.items()}
    arrays[f"certificate/{name}/iterations"] = outcome.iterations.numpy()
    return arrays | {f"certificate/{name}/{field}": values for field, values in certificate.arrays().items()}


def _with_provenance(record: Record, run: Run, device: str, seconds: float) -> Record:
    p = run.problem
    compiled = fused.available(p.network, p.objective.task, p.training_dtype, device)
    record.header["provenance"] = provenance.gather(p.settings.training.dtype, device, compiled, seconds)
    return record


def _gaps(
    paths: dict[str, list[str]], run: Run, retrained: dict[str, Retrained], arrays: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Of every path; a node of several paths is computed once. Actual changes are those of the record."""
    fitted, target, wanted = run.fitted, run.fitted.target, {name for names in paths.values() for name in names}
    nodes: dict[str, gaps.Node] = {}
    for protocol in run.problem.settings.protocols:
        if protocol.name in wanted:
            actual = torch.as_tensor(arrays[f"actual/{protocol.name}"], device=fitted.theta.device)
            nodes[protocol.name] = gaps.measured(target, retrained[protocol.name], protocol.kind, actual)
    for name in wanted - set(nodes):
        prediction = groups.predicted(run.problem, run.predictions[name], run.groups)
        nodes[name] = gaps.predicted(target, prediction, fitted.theta)
    return gaps.arrays(paths, nodes, target.output_gradients(fitted.theta))
