"""The largest summed memory of a process and those it starts."""

import time

import psutil

INTERVAL = 1.0  # seconds: each look takes the process a while


def peak(process: psutil.Popen) -> tuple[float, float]:
    """Until it ends, in MB: shared pages counted once (PSS), and once a process (RSS)."""
    shared_once = shared_each = 0.0
    while process.poll() is None:
        pss = rss = 0.0
        for one in [process, *process.children(recursive=True)]:
            try:
                memory = one.memory_full_info()
                pss, rss = pss + memory.pss / 1e6, rss + memory.rss / 1e6
            except psutil.Error:  # it has just ended
                continue
        shared_once, shared_each = max(shared_once, pss), max(shared_each, rss)
        time.sleep(INTERVAL)
    return shared_once, shared_each
