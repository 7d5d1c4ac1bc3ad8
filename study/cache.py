"""Where what can be made again is kept: kernels compiled for a shape, environments of audited packages."""

import atexit
import functools
import os
import tempfile
from pathlib import Path


def folder() -> Path:
    """$STUDY_CACHE or the user's cache; where neither can be written, a folder of this process."""
    root = os.environ.get("STUDY_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "study"
    )
    try:
        Path(root).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=root).close()  # an existing folder may still refuse to be written
        return Path(root)
    except OSError:
        return _own_folder()


@functools.lru_cache(maxsize=1)
def _own_folder() -> Path:
    own = tempfile.TemporaryDirectory(prefix="study-")
    atexit.register(own.cleanup)
    return Path(own.name)
