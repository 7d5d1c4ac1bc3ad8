"""Which swept paths tell the cells of an experiment apart; never imports pandas."""

from __future__ import annotations

from collections.abc import Sequence

HELD_OUT = ("data.test_rows", "data.split_seed")  # these and the seed vary within a cell


def cell_paths(swept_paths: Sequence[str]) -> list[str]:
    """The swept paths that tell cells apart."""
    return [path for path in swept_paths if path not in HELD_OUT and path != "seed"]
