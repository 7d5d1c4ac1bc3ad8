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


def test_removal_sets_of_several_test_points_are_all_counted(tmp_path):
    spec = tmp_path / "several.toml"
    text = (ROOT / "experiments" / "iris_depth_quick.toml").read_text()
    spec.write_text(text.replace("test_rows = [83]", "test_rows = [0, 60, 83]"))
    for rule, test, removals in (
        ("highest_loss", "all", 8), ("highest_influence", "all", 24), ("highest_influence", "highest_loss", 8)
    ):  # fmt: skip
        overrides = (f"points.train={rule}", "points.train_count=8", f"points.test={test}")
        trial = trials.load(spec, overrides).trials[0]
        assert sweep.sizes(trial).removals == removals
