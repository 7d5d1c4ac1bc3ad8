"""LaTeX: names made of letters, numbers, text and tables."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from study.evidence.report import cell_rows

DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
SIGNS = {".": "Point", "-": "Minus", "+": "Plus"}
SIGNS_IN_MATHEMATICS = {"λ": r"$\lambda$", "·": r"$\cdot$", "−": "$-$", "…": r"\ldots{}"}
RAISED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
LONG_TABLE = 40  # rows, from where a table needs more than a page
ESCAPED = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    c: f"\\{c}" for c in "&%$#_{}"
}


def command_names(identities: Sequence[tuple[str, ...]]) -> list[str]:
    """Distinct names of letters only, each depending on its own identity and on which others spell alike."""
    spelled = ["".join(map(letters, identity)) for identity in identities]
    counts = Counter(spelled)
    return [
        name if counts[name] == 1 else f"{name}X{_digest(identity)}"
        for name, identity in zip(spelled, identities, strict=True)
    ]


def letters(value: str) -> str:
    """`weight_decay` → WeightDecay, `0.05` → ZeroPointZeroFive, `1e-05` → OneEMinusZeroFive; any other sign by its code."""
    parts = re.findall(r"[A-Za-z]+|[0-9]|[.+-](?=[0-9])|[^\x00-\x7f]", value)
    return "".join(_spelled(part) for part in parts)


def escaped(value: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(ESCAPED.get(character, character) for character in value)


def number(value: Any, whole: bool = False) -> str:
    """A number as LaTeX prints it in text and in formulas: to three decimals or in powers of ten, counts whole."""
    found = cell_rows.number(value)
    if math.isnan(found):
        return "undefined"
    if whole:
        shown = f"{found:.0f}"
    elif found == 0 or 1e-3 <= abs(found) < 1e4:
        shown = f"{found:.3f}"
    else:
        mantissa, _, power = f"{found:.2e}".partition("e")
        shown = f"{mantissa}\\times10^{{{int(power)}}}"
    return f"\\ensuremath{{{shown}}}" if found < 0 or "times" in shown else shown


def _spelled(part: str) -> str:
    if part.isascii():
        return DIGITS[int(part)] if part.isdigit() else SIGNS.get(part) or part[0].upper() + part[1:]
    return "U" + "".join(DIGITS[int(digit)] for digit in str(ord(part)))


def _digest(identity: tuple[str, ...]) -> str:
    digits = hashlib.sha256(repr(identity).encode()).hexdigest()[:8]
    return "".join(chr(ord("a") + int(digit, 16)) for digit in digits)


def in_mathematics(text: str) -> str:
    """The signs of `wording` in LaTeX: λ, 5·10⁻³, −1."""
    text = re.sub(r"[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda found: "$^{" + found[0].translate(RAISED) + "}$", text)
    return "".join(SIGNS_IN_MATHEMATICS.get(character, character) for character in text)


def booktabs(name: str, layout: str, heads: list[list[str]], body: list[list[str]], caption: str) -> str:
    """A table with label `tab:name`: a float, or a longtable where it has more than LONG_TABLE rows."""
    label = "tab:" + name.replace("_", "-")
    lines = [" & ".join(row) + r" \\" for row in body]
    head = "\n".join(" & ".join(row) + r" \\" for row in heads)
    if len(body) > LONG_TABLE:
        parts = [
            "% needs \\usepackage{booktabs,longtable}", r"\begingroup\small\setlength{\tabcolsep}{4pt}",
            rf"\begin{{longtable}}{{{layout}}}",
            rf"\caption{{{caption}}}\label{{{label}}} \\", r"\toprule", head, r"\midrule", r"\endfirsthead",
            r"\toprule", head, r"\midrule", r"\endhead", r"\bottomrule", r"\endlastfoot", *lines, r"\end{longtable}",
            r"\endgroup",
        ]  # fmt: skip
    else:
        parts = [
            "% needs \\usepackage{booktabs}", r"\begin{table}", r"\centering\small\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{caption}}}",
            rf"\label{{{label}}}", rf"\begin{{tabular}}{{{layout}}}", r"\toprule", head, r"\midrule", *lines,
            r"\bottomrule", r"\end{tabular}", r"\end{table}",
        ]  # fmt: skip
    return "\n".join(parts) + "\n"
