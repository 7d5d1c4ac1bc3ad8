"""kfac and ekfac against Kronecker products written out in NumPy."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

from study import checks, trials
from study.compute import estimators
from study.errors import StudyError
from study.specs import Ekfac, Ggn, Kfac
from tests import cases

TRAINED = {"training.polish": True, "training.weight_decay": 0.02}
REGRESSION = {**TRAINED, "data.name": "diabetes", "data.test_rows": [0, 5, 200]}


def factors(fitted):
    """Per layer [W | b]: inputs [n, i+1] and output Jacobians ∂f/∂a [n, C, o] of a tanh perceptron; ∂²L/∂f² [n, C, C]."""
    p, theta = fitted.problem, fitted.theta.numpy()
    h, layers, start = p.objective.x.numpy(), [], 0
    dimensions = p.network.dimensions
    for i, o in pairwise(dimensions):
        weight, bias = theta[start : start + i * o].reshape(o, i), theta[start + i * o : start + i * o + o]
        start += i * o + o
        layers.append((weight, np.column_stack([h, np.ones(len(h))])))
        h = np.tanh(a := h @ weight.T + bias)
    n, c = a.shape
    jacobians = [np.tile(np.eye(c), (n, 1, 1))]
    for (weight, _), (_, below) in zip(layers[:0:-1], layers[:0:-1], strict=True):
        slope = 1 - below[:, :-1] ** 2
        jacobians.insert(0, (jacobians[0] @ weight) * slope[:, None])
    if p.objective.task == "regression":
        curvature = np.ones((n, 1, 1))
    else:
        q = torch.softmax(torch.tensor(a), dim=1).numpy()
        curvature = np.einsum("nc,cd->ncd", q, np.eye(c)) - np.einsum("nc,nd->ncd", q, q)
    return [inputs for _, inputs in layers], jacobians, curvature


def flat(matrix, outputs):
    """[o, i+1] in the order of the network: weights row by row, then the bias."""
    block = matrix.reshape(outputs, -1)
    return np.concatenate([block[:, :-1].ravel(), block[:, -1]])


def solved(fitted, corrected, damping):
    """s_t [T, P] layer by layer: the Kronecker products, or their eigenvectors with the matrix's own values, inverted."""
    inputs, jacobians, curvature = factors(fitted)
    gradients, start, pieces = fitted.test_gradients.numpy(), 0, []
    for h, jacobian in zip(inputs, jacobians, strict=True):
        outputs, wide, n = jacobian.shape[2], h.shape[1], len(h)
        own = np.einsum("nco,ncd,ndp->nop", jacobian, curvature, jacobian)
        a, b = h.T @ h / n, own.mean(axis=0)
        size = outputs * wide
        v = np.kron(np.linalg.eigh(b)[1], np.linalg.eigh(a)[1])
        if corrected:
            whole = sum(np.kron(own[i], np.outer(h[i], h[i])) for i in range(n)) / n
            matrix = v @ np.diag(np.diag(v.T @ whole @ v)) @ v.T
        else:
            matrix = np.kron(b, a)
        part = gradients[:, start : start + size]
        start += size
        weights = part[:, : size - outputs].reshape(-1, outputs, wide - 1)
        right = np.concatenate([weights, part[:, size - outputs :, None]], axis=2).reshape(len(part), -1)
        left = np.linalg.solve(matrix + (0.02 + damping) * np.eye(size), right.T).T
        pieces.append(np.array([flat(row, outputs) for row in left]))
    return np.concatenate(pieces, axis=1)


@pytest.mark.parametrize(
    "changes", [TRAINED, {**TRAINED, "model.depth": 2}, REGRESSION], ids=["iris", "deep", "regression"]
)
@pytest.mark.parametrize(
    "settings", [Kfac(), Kfac(damping=0.1), Ekfac(), Ekfac(damping=0.1)], ids=lambda s: f"{s.kind}-{s.damping}"
)
def test_it_is_the_kronecker_product_written_out(tmp_path, changes, settings):
    fitted = cases.fitted(tmp_path, changes)
    expected = -(fitted.pull.numpy() @ solved(fitted, settings.kind == "ekfac", settings.damping).T)
    found = estimators.predict(fitted, settings)
    np.testing.assert_allclose(found.delta, expected, rtol=1e-8, atol=1e-12)
    assert found.evidence["residual"] > 1e-3  # layers are not independent: no solve of the whole matrix


def test_of_one_row_in_one_layer_it_is_the_gauss_newton_matrix(tmp_path):
    data = cases.write_csv(
        tmp_path, np.array([[1.0, 2.0], [0.3, -1.0], [0.3, -1.0], [0.3, -1.0]]), np.array([0, 0, 1, 1])
    )
    fitted = cases.fitted(
        tmp_path, {**TRAINED, **data, "data.test_rows": [0], "data.standardize": False, "model.kind": "linear"}
    )
    for settings in (Kfac(), Ekfac()):
        found = estimators.predict(fitted, settings)
        torch.testing.assert_close(found.delta, estimators.predict(fitted, Ggn()).delta, rtol=1e-9, atol=1e-13)
        assert found.evidence["residual"] < 1e-9


def test_one_layer_alone_and_a_network_that_diverged(tmp_path):
    fitted = cases.fitted(tmp_path, TRAINED)
    alone = estimators.predict(fitted, Kfac(parameters="last_layer"))
    assert alone.evidence["parameters"] == 12
    assert alone.evidence["mismatch"] > 0
    lost = cases.replace(fitted, theta=torch.full_like(fitted.theta, torch.nan))
    assert estimators.predict(lost, Kfac()).delta.isnan().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.decay_biases": False}, "kfac knows one penalty for all parameters"),
        ({"training.weight_decay": 0.0}, "the factors are singular; give a damping"),
    ],
)
def test_what_it_cannot_serve_is_refused(tmp_path, changes, message):
    with pytest.raises(StudyError, match=message):
        cases.trials(tmp_path, {"estimators": [{"kind": "kfac"}], **changes})


def test_a_missing_package_is_said_before_any_work(tmp_path, monkeypatch):
    cases.trials(tmp_path, {"estimators": [{"kind": "ekfac"}]})
    experiment = trials.load(tmp_path / "case.toml")
    trials.check(experiment)
    monkeypatch.setitem(checks.EXTRAS, "ekfac", ("a_package_that_is_not_there", "kfac"))
    with pytest.raises(StudyError, match=r"ekfac\" needs a_package.*influence-fragility-study\[kfac\]"):
        trials.check(experiment)


def test_neither_curvlinops_nor_torchvision_is_imported_unasked():
    code = "import sys, study.compute.trial; print([m for m in ('curvlinops', 'torchvision', 'faiss') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
