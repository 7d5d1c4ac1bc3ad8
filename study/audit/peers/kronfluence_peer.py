"""kronfluence: EK-FAC, an approximation of the Gauss-Newton matrix (or, with true labels, of the empirical Fisher matrix).

Its factors are means over rows and its losses sums, so the damping is λ and the scores lack our 1/n.
"""

import tempfile
from functools import partial
from typing import Any

import torch
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.task import Task
from kronfluence.utils.common.factor_arguments import pytest_factor_arguments
from kronfluence.utils.common.score_arguments import pytest_score_arguments
from peer import Method, Problem, main
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset


class Classification(Task):
    """Cross-entropy, as sums over rows; for the true Fisher matrix with labels drawn from the network."""

    def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Tensor:
        x, y = batch
        outputs = model(x)
        if sample:
            y = torch.multinomial(outputs.detach().softmax(dim=1), 1)[:, 0]
        return cross_entropy(outputs, y, reduction="sum")

    def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
        return self.compute_train_loss(batch, model)


def ekfac(problem: Problem, empirical: bool) -> Tensor:
    task = Classification()
    arguments = pytest_factor_arguments()  # everything in float64
    arguments.use_empirical_fisher = empirical
    rows, tests = TensorDataset(problem.x, problem.y), TensorDataset(problem.x_test, problem.y_test)
    with tempfile.TemporaryDirectory() as folder:
        model = prepare_model(problem.network(), task)
        analyzer = Analyzer("audit", model, task, cpu=True, disable_tqdm=True, output_dir=folder)
        analyzer.fit_all_factors("factors", rows, per_device_batch_size=len(rows), factor_args=arguments)
        analyzer.compute_pairwise_scores(
            "scores", "factors", tests, rows, len(tests), len(rows), score_args=pytest_score_arguments(problem.damping)
        )
        scores = analyzer.load_pairwise_scores("scores")
    assert scores is not None
    return scores["all_modules"].T / len(rows)


METHODS = (
    Method("ekfac", "labels drawn", partial(ekfac, empirical=False)),
    Method("ekfac", "true labels", partial(ekfac, empirical=True)),
)

if __name__ == "__main__":
    main("kronfluence", METHODS)
