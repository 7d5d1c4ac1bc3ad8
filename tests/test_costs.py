"""What a sweep is predicted to take."""

from pathlib import Path

from study import costs, sweep, trials

ROOT = Path(__file__).parent.parent


def test_predicted_size_of_a_record_is_that_of_the_committed_ones():
    """Eighty records of 149 removals, two estimators and one protocol."""
    experiment = trials.load(ROOT / "experiments" / "iris_depth_quick.toml")
    predicted = sum(costs.record_bytes(trial.settings, sweep.sizes(trial)) for trial in experiment.trials)
    written = sum(path.stat().st_size for path in (ROOT / "results" / "iris_depth_quick" / "records").rglob("*.npz"))
    assert 0.85 * written < predicted < 1.15 * written
