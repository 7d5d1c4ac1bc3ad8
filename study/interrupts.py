"""Ctrl-C while workers run: a wish that the sweep grants between two steps, never an exception in the middle of one."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

STOPPING = "stopping: units in flight are discarded, the rest is kept\n"
STANDARD_ERROR = 2


class Interrupt:
    """Whether the user has `asked` to stop; the first Ctrl-C is answered at once, further ones change nothing."""

    def __init__(self) -> None:
        self.asked = False

    def ask(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGINT."""
        if not self.asked:  # written past Python's buffers, which a handler may find half-way through another line
            line = "\n" + STOPPING if os.isatty(STANDARD_ERROR) else STOPPING
            os.write(STANDARD_ERROR, line.encode())
        self.asked = True


@contextlib.contextmanager
def noticed() -> Iterator[Interrupt]:
    """Within the block Ctrl-C raises nothing; a process that ignores it, such as a background job, goes on doing so."""
    interrupt = Interrupt()
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt.ask)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
