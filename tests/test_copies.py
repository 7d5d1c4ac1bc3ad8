"""Jobs in copies of a process: in order, with what they see, and with their errors."""

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import os, sys, threading
from study.evidence import copies
seen = list(range(100))
def job(place):
    return lambda: (os.getpid(), seen[place] if place != {broken} else 1 / 0)
if {threads}:
    threading.Thread(target=threading.Event().wait, daemon=True).start()
try:
    found = copies.results([job(place) for place in range({jobs})])
except ZeroDivisionError:
    sys.exit("as it was raised")
assert [value for _, value in found] == list(range({jobs})), found
print(len({{pid for pid, _ in found}} - {{os.getpid()}}))
"""


def _printed(**given) -> subprocess.CompletedProcess:
    code = CODE.format(**{"broken": -1, "threads": 0, "jobs": 12} | given)
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parent.parent,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux copies processes safely")
def test_jobs_run_in_copies_that_see_what_is_in_memory_and_keep_their_order():
    import os

    found = _printed()
    assert found.returncode == 0, found.stderr
    assert 1 <= int(found.stdout) <= len(os.sched_getaffinity(0)) or len(os.sched_getaffinity(0)) == 1


@pytest.mark.parametrize("given", [{"threads": 1}, {"jobs": 3}])
def test_a_process_with_threads_or_little_to_do_is_not_copied(given):
    found = _printed(**given)
    assert (found.returncode, found.stdout.strip()) == (0, "0"), found.stderr


def test_an_error_in_a_copy_is_raised_here():
    found = _printed(broken=7)
    assert found.returncode == 1
    assert "as it was raised" in found.stderr
