"""Ctrl-C. While workers run it is a wish that the sweep grants between two steps, elsewhere a KeyboardInterrupt."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from types import FrameType

STOPPING = "stopping: units in flight are discarded, the rest is kept\n"
STANDARD_ERROR = 2
CONTINUE = "what was written is kept: run the same command to continue"


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


def advise(advice: str = CONTINUE) -> None:
    """From now on Ctrl-C raises KeyboardInterrupt with this advice; during an import it ends the process with it.

    Python loses an exception that meets certain callbacks of an import.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, partial(_end_or_raise, advice))


def _end_or_raise(advice: str, number: int, frame: FrameType | None) -> None:
    within = frame
    while within is not None:
        if within.f_code.co_filename == "<frozen importlib._bootstrap>":
            print(f"\ninterrupted: {advice}", file=sys.stderr, flush=True)
            sys.stdout.flush()
            os._exit(130)  # nothing is at stake in an import
        within = within.f_back
    raise KeyboardInterrupt(advice)
