"""The one class of error that is the user's to mend, and the wording its messages share."""

import json
from collections.abc import Iterable
from difflib import get_close_matches

WIDEST = 80


class StudyError(Exception):
    """A mistake in what the user gave, or a damaged file: the command line prints the message and exits with 2."""


def show(value: object) -> str:
    """The value roughly as TOML writes it, on one line, shortened, and safe to print whatever it holds."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):  # Python refuses to write an integer of thousands of digits
        return "(a value too large to show)"
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= WIDEST else text[:WIDEST] + " …"


def listed(names: Iterable[object]) -> str:
    """The names, quoted and separated by commas."""
    return ", ".join(show(name) for name in names)


def nearest(name: object, valid: Iterable[str]) -> str | None:
    """The valid name most like `name`, None where nothing comes close or `name` is no text."""
    if not isinstance(name, str):
        return None
    matches = get_close_matches(name[:WIDEST].lower(), list(valid), n=1, cutoff=0.6)
    return matches[0] if matches else None


def suggestion(name: object, valid: Iterable[str], kind: str = "valid") -> str:
    """`did you mean "…"?`, or the whole list where no valid name comes close."""
    names = list(valid)
    match = nearest(name, names)
    if match is not None:
        return f"did you mean {show(match)}?"
    return f"{kind}: {listed(names)}" if names else f"{kind}: none"
