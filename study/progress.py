"""Progress of a sweep on standard error: one line that renews itself, or plain lines when it is not a terminal."""

import sys
import time
from typing import TextIO


class Progress:
    """Trials done and time left, weighed by predicted cost and corrected by the pace seen so far."""

    def __init__(self, total: int, done: int, cost: float, stream: TextIO | None = None):
        self.total, self.done, self.failed = total, done, 0
        self.cost, self.spent = max(cost, 1e-9), 0.0
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.started = self.printed = time.monotonic()
        self._show("starting workers")

    def begin(self) -> None:
        """The workers are up."""
        self._show("training")

    def advance(self, trials: int, failed: int, cost: float) -> None:
        """A unit has ended: so many trials, of so much predicted cost; failed is the count so far."""
        self.done, self.failed, self.spent = self.done + trials, failed, self.spent + cost
        elapsed = time.monotonic() - self.started
        left = elapsed * max(self.cost - self.spent, 0.0) / self.spent if self.spent else 0.0
        self._show(f"about {duration(left)} left" if left >= 0.5 else "")

    def close(self) -> None:
        """End the line."""
        if self.terminal:
            print(file=self.stream, flush=True)

    def _show(self, message: str) -> None:
        failed = f"{self.failed} failed" if self.failed else ""
        line = ", ".join(filter(None, [f"{self.done}/{self.total} trials done", failed, message]))
        if self.terminal:
            print(f"\r\x1b[K{line}", end="", file=self.stream, flush=True)
        else:
            print(line, file=self.stream, flush=True)


def duration(seconds: float) -> str:
    """Seconds in words, one second at least: 40 s, 3 min, 2 h 05 min."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"
