"""
Random effects written in the formula, as in lme4: ``(1 + time | school/pupil)``.
"""

from __future__ import annotations

import builtins
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pandas as pd

from mixedar import relations
from mixedar._types import IntArray
from mixedar.data.formula.names import QUOTED, in_calls, split_formula
from mixedar.data.rows import RowVariable, combine, resolve
from mixedar.exceptions import (
    GroupError,
    MixedARError,
    UnknownColumnError,
    UnsupportedError,
)
from mixedar.relations.base import Relation

_NAME = re.compile(r"""(?:Q\(\s*)?(?:"([^"]+)"|'([^']+)'|`([^`]+)`)\s*\)?|([\w.]+)""")


@dataclass(frozen=True)
class Bar:
    """
    A random-effects term.

    Attributes
    ----------
    effects : str
        Formula of its columns, as ``"1 + time"``.
    factor : tuple of str
        Columns whose combinations are the levels.
    correlated : bool
        False for lme4's ``||``.
    cov : str
        What relates the levels, as it is written in ``gr(animal, cov=A)``, or empty.
    apart : bool
        Whether the name tells it from other terms of the same factor.
    """

    effects: str
    factor: tuple[str, ...]
    correlated: bool
    cov: str = ""
    apart: bool = False

    @property
    def name(self) -> str:
        """The factor as lme4 names it, ``"school:pupil"``."""
        name = ":".join(self.factor)
        return f"gr({name}, {self.cov})" if self.apart else name

    def relation(self, namespace: Mapping[str, Any]) -> Relation | None:
        """
        What relates the levels, looked up where the formula is written.

        Raises
        ------
        UnsupportedError
            If it cannot be evaluated, or is no relation.
        """
        if not self.cov:
            return None
        names = {**vars(relations), **namespace}
        try:
            found = eval(self.cov, {"__builtins__": builtins}, names)
        except MixedARError:
            raise
        except Exception as error:
            raise UnsupportedError(
                f"gr({':'.join(self.factor)}, cov={self.cov}): {self.cov!r} cannot be "
                f"evaluated where the formula is written: {error}"
            ) from error
        if isinstance(found, Relation):
            return found
        if isinstance(found, pd.DataFrame):
            return relations.Relationship(found)
        raise UnsupportedError(
            f"gr({':'.join(self.factor)}, cov={self.cov}): {self.cov} is "
            f"{type(found).__name__}; it has to be a DataFrame with the levels as "
            "index and columns, Relationship(...), CAR(W), ICAR(W) or Field(coords=...)"
        )

    def variable(self, table: pd.DataFrame) -> RowVariable:
        """Labels of the levels, row by row."""
        try:
            parts = [resolve("groups", name, table) for name in self.factor]
        except UnknownColumnError as error:
            text = str(error).removeprefix("groups=")
            raise UnknownColumnError(
                f"({self.effects} | {self.name}): {text}"
            ) from error
        if len(parts) == 1:
            return parts[0]
        values = combine("groups", parts, table.index).values.rename(self.name)
        return RowVariable("groups", self.name, values, True)


def read_bars(formula: str) -> tuple[str, tuple[Bar, ...]]:
    """
    Take the random-effects terms out of a formula.

    Parameters
    ----------
    formula : str

    Returns
    -------
    formula : str
        What is left: the response and the fixed effects.
    bars : tuple of Bar
        ``a/b`` stands for ``a`` and ``a:b``.

    Raises
    ------
    UnsupportedError
        If a term cannot be read; the message says how it is written.
    """
    left, right = split_formula(formula)
    if "|" not in right:
        return formula, ()
    kept, bars = [], []
    for sign, piece in pieces_of(right):
        inside = piece[1:-1] if _is_bracketed(piece) else ""
        at = _bar_at(inside)
        if at is None:
            inside_call = re.search(r"\(\s*[01]\s*(\+[^()|]*)?\|", piece)
            if inside_call or not all(in_calls(piece, "|")):
                raise UnsupportedError(_unreadable(piece))
            kept.append(f"{sign} {piece}")
            continue
        if sign == "-":
            raise UnsupportedError(
                f"- {piece}: a random-effects term cannot go, as none is there that "
                "was not added; leave it out"
            )
        bars.extend(_read(piece, inside, at))
    twice = [bar for k, bar in enumerate(bars) if bar in bars[:k]]
    if twice:
        raise UnsupportedError(
            f"({twice[0].effects} | {twice[0].name}) stands twice in {formula!r}"
        )
    bars = _told_apart(bars)
    _check_intercepts(bars)
    text = " ".join(kept).removeprefix("+ ") or "1"
    return f"{left or ''} ~ {text}".strip(), tuple(bars)


def _unreadable(piece: str) -> str:
    """What to say of a piece with a bar that is no pair of brackets."""
    missing = piece.count("(") - piece.count(")")
    if missing:
        which = f"misses a {')' if missing > 0 else '('}"
        return f"{piece!r} {which}, or has one bracket too many; write it as in (1 | g)"
    if "(" not in piece:
        return f"{piece!r}: random effects stand in brackets, as in (1 | g)"
    return (
        f"{piece!r}: a random-effects term such as (1 | g) has to stand by itself, "
        "between plus signs"
    )


def _told_apart(bars: Sequence[Bar]) -> list[Bar]:
    """Terms whose levels are related, with names unlike those of the same factor."""
    count = Counter(bar.factor for bar in bars)
    return [
        replace(bar, apart=True) if bar.cov and count[bar.factor] > 1 else bar
        for bar in bars
    ]


def _check_intercepts(bars: Sequence[Bar]) -> None:
    """Raise if two terms give the levels of a factor an intercept."""
    seen: dict[str, Bar] = {}
    for bar in bars:
        if re.match(r"\s*(0\b|-\s*1\b)", bar.effects):
            continue
        if bar.name in seen:
            raise UnsupportedError(
                f"({seen[bar.name].effects} | {bar.name}) and ({bar.effects} | "
                f"{bar.name}) both have an intercept: write 0 + in one of them"
            )
        seen[bar.name] = bar


def _read(piece: str, inside: str, at: int) -> list[Bar]:
    """The terms of one pair of brackets."""
    effects, rest = inside[:at].strip(), inside[at + 1 :]
    if re.fullmatch(r"0|-\s*1", effects):
        raise UnsupportedError(
            f"{piece}: no effect is left that could be random; write (1 |{rest}) for "
            "random intercepts, or leave the term out (groups= and re_formula='0' "
            "name groups without random effects)"
        )
    correlated = not rest.startswith("|")
    chain = rest.removeprefix("|").strip()
    while _is_bracketed(chain):
        chain = chain[1:-1].strip()
    factors: list[tuple[str, ...]] = []
    if chain.startswith("gr("):
        return [_read_related(piece, effects, chain, correlated)]
    for part in chain.split("/"):
        names = tuple(_column(name, piece) for name in part.split(":"))
        factors.append((*(factors[-1] if factors else ()), *names))
    if not effects:
        raise UnsupportedError(f"{piece}: write (1 | {chain}) for random intercepts")
    return [Bar(effects, factor, correlated) for factor in factors]


def _read_related(piece: str, effects: str, chain: str, correlated: bool) -> Bar:
    """``gr(factor, cov=...)``, as in brms."""
    inside = chain[3:-1] if chain.endswith(")") else ""
    depths = _depths(inside)
    commas = [k for k, x in enumerate(inside) if x == "," and not depths[k]]
    first = inside[: commas[0]] if commas else ""
    match = re.fullmatch(r"\s*cov\s*=\s*(.+?)\s*", inside[len(first) + 1 :], re.DOTALL)
    if len(commas) == 0 or match is None or not effects:
        raise UnsupportedError(
            f"{piece}: related levels are written (1 | gr(animal, cov=A)), with A a "
            "DataFrame or Relationship(...), CAR(W), ICAR(W) or Field(coords=...)"
        )
    names = tuple(_column(name, piece) for name in first.split(":"))
    return Bar(effects, names, correlated, match[1])


def _column(text: str, piece: str) -> str:
    match = _NAME.fullmatch(text.strip())
    if match is None:
        raise UnsupportedError(
            f"{piece}: right of the bar stand columns of the data, as in (1 | g), "
            f"(1 | a:b) or (1 | a/b), not {text.strip()!r}; a name with other signs "
            'than letters, digits, _ and . goes into quotes, as in (1 | Q("my school"))'
        )
    return next(part for part in match.groups() if part is not None)


def _depths(text: str) -> list[int]:
    """Depth of brackets at every character; quoted ones count as inside."""
    plain = re.sub(QUOTED, lambda found: f"[{'_' * (len(found[0]) - 2)}]", text)
    after = accumulate((letter in "([{") - (letter in ")]}") for letter in plain)
    return [
        depth - (letter in "([{") for depth, letter in zip(after, plain, strict=True)
    ]


def pieces_of(text: str) -> list[tuple[str, str]]:
    """The summands of a formula, each with its sign."""
    outside = zip(text, _depths(text), strict=True)
    cuts = [
        k for k, (letter, depth) in enumerate(outside) if letter in "+-" and not depth
    ]
    signs = ["+", *(text[k] for k in cuts)]
    ends = pairwise([-1, *cuts, len(text)])
    pieces = [text[start + 1 : end].strip() for start, end in ends]
    return [(sign, piece) for sign, piece in zip(signs, pieces, strict=True) if piece]


def _is_bracketed(piece: str) -> bool:
    """Whether a pair of brackets holds all of a piece."""
    if not (piece.startswith("(") and piece.endswith(")")):
        return False
    return all(depth > 0 for depth in _depths(piece)[1:-1])


def _bar_at(inside: str) -> int | None:
    """The first bar that is in no further brackets."""
    depths = _depths(inside)
    at = [k for k, letter in enumerate(inside) if letter == "|" and depths[k] == 0]
    return at[0] if at else None


def arrange_bars(
    bars: Sequence[Bar], table: pd.DataFrame, groups: object, *, correlated: bool
) -> tuple[object, tuple[Bar, ...]]:
    """
    Decide which factor the groups are, inside which residuals are correlated.

    Parameters
    ----------
    bars : sequence of Bar
    table : DataFrame
    groups : str or array_like, optional
        As the caller gave it.
    correlated : bool
        Whether residuals are correlated within groups.

    Returns
    -------
    groups : RowVariable, or what was given
    bars : tuple of Bar
        The first is the groups' own, unless they have none.

    Raises
    ------
    GroupError
        If `groups` is needed, or is none of the factors.
    """
    factors = {bar.name: bar for bar in bars}
    if groups is None:
        name = _innermost(factors, table, correlated)
    elif isinstance(groups, str):
        name = groups
    else:
        name = str(getattr(groups, "name", None) or "")
    own = factors.get(name)
    if own is None:
        if groups is not None and correlated:
            return groups, tuple(bars)
        raise GroupError(
            f"groups={name!r} is none of the factors of the formula, which are "
            f"{', '.join(map(repr, factors))}: leave it out, or name one of them"
        )
    mine = [bar for bar in bars if bar.name == name and not bar.cov]
    others = [bar for bar in bars if bar not in mine]
    return own.variable(table), (*mine, *others)


def _innermost(factors: dict[str, Bar], table: pd.DataFrame, correlated: bool) -> str:
    """The factor whose levels lie within those of all others, or the largest."""
    codes = {name: _codes(bar.variable(table)) for name, bar in factors.items()}
    levels = {name: int(code.max(initial=-1)) + 1 for name, code in codes.items()}
    finest = max(levels, key=lambda name: levels[name])
    nested = all(
        len(np.unique(codes[finest] * (levels[name] + 1) + codes[name]))
        == len(np.unique(codes[finest]))
        for name in factors
    )
    if nested or not correlated:
        return finest
    raise GroupError(
        "groups= is missing: the factors of the formula are crossed, and residuals "
        "are correlated within the levels of one of them. Pass groups= as one of "
        f"{', '.join(map(repr, factors))}, or residual='independent'"
    )


def _codes(variable: RowVariable) -> IntArray:
    return np.asarray(pd.factorize(variable.values)[0], dtype=np.int64)
