"""What every benchmark prints and keeps: its figures, the machine, the versions and the commit."""

import json
from pathlib import Path

from study.compute import provenance

KEPT = Path(__file__).parent / "measured"


def report(name: str, figures: dict[str, float | str]) -> None:
    """Print the figures and keep them as measured/<name>.json."""
    width = max(map(len, figures))
    for label, value in figures.items():
        print(f"{label:<{width}}  {value if isinstance(value, str) else format(value, '.4g')}")
    where = provenance.gather("both", "cpu", True, 0.0)
    kept = {"figures": figures, **{key: where[key] for key in ("machine", "versions", "commit", "dirty", "written")}}
    KEPT.mkdir(exist_ok=True)
    (KEPT / f"{name}.json").write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
