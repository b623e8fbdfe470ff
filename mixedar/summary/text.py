"""
Numbers to strings, and strings to lines of text.

Knows strings only; :mod:`mixedar.summary.tables` decides what is printed.
"""

from __future__ import annotations

import math
import numbers
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

Format = str | Callable[[Any], str]

_WIDEST = 10  # characters that a number in fixed notation may take
_STUB = 24  # characters left to row names before a table is split into blocks
NARROWEST = 40
_CUT = ".."
_LEAST = 0.001  # p-values below are not told apart
_KINDS = {
    "pvalue": re.compile(r"p|pr\(.*|prob.*|(.*[_ -])?p([>_ -].*|_?values?)?", re.I),
    "df": re.compile(r"df\d?|df[ _.].*|(num|den|resid)[ _.]*df", re.I),
    "statistic": re.compile(
        r"(outlier_)?[tzf]([ _.-](value|stat\w*|ratio|re|within))?|chi2|stat\w*|"
        r"(lr|wald)( .*)?",
        re.I,
    ),
}
_LATEX = {c: "\\" + c for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after a line break a bare one would start an argument
}


def format_values(
    values: Iterable[Any], fmt: Format = "number", missing: str = ""
) -> list[str]:
    """
    Format the values of one column.

    Parameters
    ----------
    values : iterable, length n
        Numbers, strings, booleans or missing values, mixed as they come.
    fmt : str or callable
        ``"number"``: 4 decimals (3 or 2 if more of the column then fits into
        10 characters), and four significant digits with an exponent for a
        value that would need more or would show fewer than two digits.
        ``"statistic"``: 3 decimals (or 2), fewer for a large value, never an
        exponent; what would round to zero is ``<0.001`` or ``>-0.001``.
        ``"pvalue"``: 3 decimals, ``<0.001`` below; as a number where the column
        is none of probabilities.  ``"share"`` (correlations, R-squared): 3
        decimals.  ``"df"``: integers, or one decimal if any value is fractional.
        In all of these zero is ``0``.  Any other string is a format
        specification (``".2f"`` or ``"%.2f"``) and is obeyed to the letter; a
        callable gets the value, returns its text.
    missing : str
        Shown for NaN, None, NA and NaT.

    Returns
    -------
    list of str, length n
    """
    values = list(values)
    finite = [float(v) for v in values if _is_float(v) and math.isfinite(v)]
    if fmt == "pvalue" and not all(0.0 <= v <= 1.0 for v in finite):
        fmt = "number"
    decimals = {"number": (4, 3, 2), "statistic": (3, 2)}.get(str(fmt), ())
    best = min(decimals, key=lambda d: sum(not _fits(v, d) for v in finite), default=3)
    if fmt == "df":
        fmt = ".0f" if all(v.is_integer() for v in finite) else ".1f"

    def one(value: Any) -> str:
        if pd.api.types.is_scalar(value) and pd.isna(value):
            return missing
        if callable(fmt):
            return str(fmt(value))
        if pd.api.types.is_bool(value):
            return "Yes" if value else "No"
        if not isinstance(value, numbers.Real) or (decimals and not _is_float(value)):
            return str(value)
        if fmt in _NAMED:
            return _NAMED[fmt](float(value), best)
        text = fmt % value if fmt.startswith("%") else format(value, fmt)
        # A zero has no sign: not -0.0, not a rounded -0.0004.
        return text.replace("-", "") if re.fullmatch(r" *-0*\.?0* *", text) else text

    return [one(value) for value in values]


def _number(value: float, decimals: int) -> str:
    if value == 0.0:
        return "0"
    return f"{value:.{decimals}f}" if _fits(value, decimals) else f"{value:.3e}"


def _statistic(value: float, decimals: int) -> str:
    """In fixed notation, whatever its size."""
    if value == 0.0:
        return "0"
    if math.isinf(value):
        return str(value)
    sign, most = ("-" if value < 0.0 else ""), 10.0 ** (_WIDEST - 1) - 1.0
    if abs(value) > most:
        return f"{'<' if sign else '>'}{sign}{most:.0f}"
    text = f"{value:.{decimals}f}"
    if float(text) == 0.0:
        return f"{'>' if sign else '<'}{sign}{10.0**-decimals:.{decimals}f}"
    return text if len(text) <= _WIDEST else f"{value:.0f}"


def _pvalue(value: float, _: int = 3) -> str:
    return f"<{_LEAST}" if value < _LEAST else f"{value:.3f}"


def _share(value: float, _: int) -> str:
    text = f"{value:.3f}"
    return text if float(text) else "0"


_NAMED: dict[str, Callable[[float, int], str]] = {
    "number": _number,
    "statistic": _statistic,
    "pvalue": _pvalue,
    "share": _share,
}


def in_words(name: str, value: float) -> str:
    """A number as it reads in a sentence: ``rho = 0.31``, ``p < 0.001``."""
    if kind_of(name) != "pvalue":
        return f"{name} = {value:.4g}"
    return equation(name, _pvalue(value))


def equation(name: str, text: str) -> str:
    """A number as it is printed, after its name: ``F = 2.13``, ``F < 0.001``."""
    return f"{name} < {text[1:]}" if text.startswith("<") else f"{name} = {text}"


def _is_float(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral)


def _fits(value: float, decimals: int) -> bool:
    """Whether fixed notation is short and shows two digits of `value`."""
    if value == 0 or not math.isfinite(value):
        return True
    short = len(f"{value:.{decimals}f}") <= _WIDEST
    return short and abs(value) >= 10.0 ** (1 - decimals)


def kind_of(column: object) -> str:
    """Return the format that a column has by its name."""
    name = str(column).strip()
    return next((k for k, rule in _KINDS.items() if rule.fullmatch(name)), "number")


def cell_text(value: object, float_format: str) -> str:
    """Return a cell of a table as the parent prints it."""
    try:
        return plain(float_format % value)
    except (TypeError, ValueError):
        return plain(value)


def latex_text(text: str) -> str:
    r"""Escape for LaTeX; set minus, infinity and powers of ten as mathematics."""
    number = re.fullmatch(r"([<>]?-?)(\d+\.?\d*|inf)(?:e([-+]\d+))?(\**)", text)
    if number and (number[1] or number[3] or number[2] == "inf"):
        power = rf" \times 10^{{{int(number[3])}}}" if number[3] else ""
        value = number[1] + number[2].replace("inf", r"\infty") + power
        return f"${value}${number[4]}"
    return "".join(_LATEX.get(char, char) for char in text)


def markdown_text(text: str) -> str:
    """Escape what Markdown reads as markup in a cell."""
    return re.sub(r"([\\|*_`<\[\]])", r"\\\1", text)


@dataclass
class View:
    """Strings of one table, the same for every printer."""

    labels: list[str]
    heads: list[str]
    columns: list[list[str]]
    aligns: list[str]
    header: bool = True
    index: bool = True
    pairs: bool = False
    triangle: bool = False
    title: str = ""
    corner: str = ""
    note: str = ""

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield the label and the cells of each row."""
        return zip(self.labels, *self.columns, strict=True)

    def printed(self) -> tuple[list[str], list[tuple[str, ...]]]:
        """Headings, and the cells of each row, row names first where there are any."""
        heads = [self.corner] * self.index + self.heads
        return heads, [row if self.index else row[1:] for row in self.rows()]

    def items(self) -> list[tuple[str, str]]:
        """Key-value pairs of a header table, in reading order."""
        sides = zip(self.columns[::2], self.columns[1::2], strict=True)
        return [p for side in sides for p in zip(*side, strict=True) if any(p)]


def plain(value: object) -> str:
    """Return a name as one line; levels of a MultiIndex joined, None empty."""
    value = " ".join(map(str, value)) if isinstance(value, tuple) else value
    return "" if value is None else " ".join(str(value).split())


def _shorten(names: Sequence[str], limits: Iterable[int]) -> list[str]:
    """Cut names to their limits; different names stay different."""
    pairs = list(zip(names, limits, strict=True))
    if all(len(name) <= limit for name, limit in pairs):
        return list(names)
    # Next to names that are cut, middling ones may lose arguments as well.
    done = {name: name for name, limit in pairs if len(name) <= min(limit, _STUB)}
    for k, (name, limit) in enumerate(pairs, 1):
        if name in done:
            continue
        # Later arguments go first: C(x, Treatment("b"))[T.a] is C(x..)[T.a].
        bare = re.sub(r",[^()]*(\([^()]*\))?[^()]*\)", _CUT + ")", name)
        tries = [_cut_factors(bare, limit), _cut_factors(name, limit)]
        tries += [_cut(name, limit, head) for head in range(1, limit - len(_CUT))]
        tries += [f"{name[: max(limit - len(f'{_CUT}{k}'), 0)]}{_CUT}{k}"]
        taken = set(done.values())
        left = (t for t in tries if t not in taken and len(t) <= limit)
        done[name] = next(left, tries[-1])
    return [done[name] for name in names]


def _cut_factors(name: str, limit: int) -> str:
    """Cut each factor of an interaction, the longest ones first."""
    factors = name.split(":")
    room = limit - len(factors) + 1
    caps = (n for n in range(5, limit + 1) if _capped(factors, n) <= room)
    cap = max(caps, default=5)
    return ":".join(_cut(factor, cap) for factor in factors)


def _capped(names: Iterable[str], cap: int) -> int:
    return sum(min(len(name), cap) for name in names)


def _cut(name: str, limit: int, head: int | None = None) -> str:
    """Cut a name after `head` characters, by default before its level."""
    room = limit - len(_CUT)
    if len(name) <= limit:
        return name
    if head is None:
        start = name.rfind("[")
        level = len(name) - start
        if start > 0 and level > room > 7 and name.endswith("]"):
            return _CUT + name[start:][: room - len(_CUT) - 1] + _CUT + "]"
        head = room - level if start > 0 and level <= room else 2 * room // 5
    return name[:head] + _CUT + name[len(name) - room + head :]


def _align(cells: list[str], how: str, limit: int) -> list[str]:
    """Pad to one width; right-aligned numbers have their points in line."""
    cells = _shorten(cells, [limit] * len(cells))
    if how == "r":
        found = [re.match(r"[-+(<>]*\d+(?=\D|$)(?!.*e)", cell) for cell in cells]
        tails = [len(m.string) - m.end() if m else -1 for m in found]
        pads = [" " * ((max(tails) - n) * (n >= 0)) for n in tails]
        lined = [cell + pad for cell, pad in zip(cells, pads, strict=True)]
        cells = lined if _longest(lined) <= limit else cells
    width = _longest(cells)
    return [_pad(how)(cell, width) for cell in cells]


def _longest(texts: Iterable[str]) -> int:
    return max(map(len, texts), default=0)


def _pad(how: str) -> Callable[[str, int], str]:
    return {"r": str.rjust, "c": str.center}.get(how, str.ljust)


def column_blocks(widths: Sequence[float], room: float) -> Iterator[list[int]]:
    """Split columns into runs that fit into `room`."""
    block: list[int] = []
    for j, width in enumerate(widths):
        if block and sum(widths[i] for i in block) + width > room:
            yield block
            block = []
        block.append(j)
    yield block


def pair_columns(
    pairs: list[tuple[str, str]], width: int
) -> tuple[list[list[tuple[str, str]]], list[int]]:
    """Two columns of pairs and their widths; the longest go until they fit."""
    pairs = list(pairs)
    while True:
        half = (len(pairs) + 1) // 2
        sides = [pairs[:half], pairs[half:]]
        wide = [max((len(k + v) + 2 for k, v in side), default=0) for side in sides]
        if sum(wide) + 3 <= width or not pairs:
            return sides, wide
        pairs.remove(max(pairs, key=lambda pair: len(pair[0] + pair[1])))


def pair_lines(pairs: list[tuple[str, str]], width: int) -> list[str]:
    """Set pairs in two columns; one that is too long gets lines of its own."""
    (left, right), wide = pair_columns(pairs, width)
    spare = max(width - 3 - sum(wide), 0)
    wide = [wide[0] + spare // 2, wide[1] + spare - spare // 2]
    lines = []
    for k, (key, value) in enumerate(left):
        line = key + value.rjust(wide[0] - len(key))
        if k < len(right):
            line += "   " + right[k][0] + right[k][1].rjust(wide[1] - len(right[k][0]))
        lines.append(line)
    for pair in pairs:
        if pair not in left + right:
            lines += textwrap.wrap("  ".join(pair), width, subsequent_indent="    ")
    return lines


def table_lines(view: View, width: int) -> list[str | None]:
    """Lay a table out in at most `width` characters; None stands for a rule."""
    labels, heads = view.labels, view.heads
    floor = min(_STUB, width // 3)
    cap = width - floor - 2
    pairs = zip(view.columns, view.aligns, strict=True)
    columns = [_align(texts, how, cap) for texts, how in pairs]
    cells = [len(column[0]) if column else 0 for column in columns]
    marks = [""] * len(labels)

    def need(sep: int) -> int:
        wide = [max(n, len(h)) + sep for n, h in zip(cells, heads, strict=True)]
        return _longest(labels) + _longest(marks) + sum(wide)

    if view.triangle and labels and need(2) > width:  # number the variables
        columns = [[" " * len(c[0]), *c] for c in columns]
        labels = [heads[0], *labels]
        heads = [str(j) for j in range(1, len(heads) + 1)]
        marks = [f"{i:>2} " for i in range(1, len(labels) + 1)]
    if need(1) > width:
        heads = _shorten(heads, [min(max(n, 12), cap) for n in cells])
    sep = 2 if need(2) <= width else 1
    room = width - need(sep) + _longest(labels) + _longest(marks)
    if room < min(_longest(labels) + _longest(marks), floor):
        sep = 2
        widest = max(map(max, zip(cells, map(len, heads), strict=True)), default=0)
        room = min(2 * width // 5, width - widest - sep)
    labels = _shorten(labels, [room - _longest(marks)] * len(labels))
    labels = [mark + label for mark, label in zip(marks, labels, strict=True)]
    title, corner = view.title, view.corner
    if not corner and len(title) <= room:
        title, corner = "", title
    corner = corner[: max(room, 0)]
    stub = _longest([corner, *labels])
    wide = [max(n, len(h)) + sep for n, h in zip(cells, heads, strict=True)]
    lines: list[str | None] = [*textwrap.wrap(title, width)]
    for k, block in enumerate(column_blocks(wide, width - stub)):
        lines += [None] * (k > 0)
        if view.header:
            names = (_pad(view.aligns[j])(heads[j], wide[j] - sep) for j in block)
            lines += [(" " * sep).join([corner.ljust(stub), *names]), None]
        for i, label in enumerate(labels):
            texts = [_pad(view.aligns[j])(columns[j][i], wide[j] - sep) for j in block]
            if not (view.triangle and k) or any(map(str.strip, texts)):
                lines.append((" " * sep).join([label.ljust(stub), *texts]))
    return [*lines, *textwrap.wrap(view.note, width)]
