"""A tiny experiment and the command line, as a user would use them in a folder of their own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

TINY = """
name = "tiny"
question = "Is it quick?"
[data]
name = "iris"
test_rows = [83, 10]
[model]
kind = "mlp"
width = 3
[training]
learning_rate = 1e-2
steps = {steps}
weight_decay = 0.01
[points]
train = "highest_loss"
train_count = 5
[[estimators]]
kind = "exact"
[[protocols]]
kind = "warm"
steps = 20
[[protocols]]
name = "certified"
kind = "stationary"
[sweep]
"model.depth" = [1, 2]
seed = {{ first = 0, count = {seeds} }}
"""


def tiny(folder: Path, steps: int = 200, seeds: int = 2) -> Path:
    """A spec of 2 × `seeds` trials, written into the folder."""
    path = folder / "tiny.toml"
    path.write_text(TINY.format(steps=steps, seeds=seeds))
    return path


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **extra}


def study(folder: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run `study …` in the folder and wait for it."""
    command = [sys.executable, "-m", "study", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment(**extra), capture_output=True, text=True, timeout=300, check=False
    )


def listen_to_interrupts() -> None:
    """A shell's background jobs ignore SIGINT, and so would every process they start, this test's too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `study …` in the folder, in a process group of its own."""
    command = [sys.executable, "-m", "study", *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=listen_to_interrupts,
    )
