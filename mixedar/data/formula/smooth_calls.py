"""
Smooth terms as formulas write them: ``s(time, by=arm, k=7, bs="cr")``.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mixedar.data.formula.bars import pieces_of
from mixedar.data.formula.names import split_formula
from mixedar.data.rows import RowVariable, resolve
from mixedar.exceptions import UnsupportedError, check_choice
from mixedar.smooths.basis import BASES

_DEFAULT_K, _DEFAULT_TENSOR = 10, 5
_KINDS = "s", "te", "ti"
_OPTIONS = "k", "bs", "xt"


@dataclass(frozen=True)
class SmoothCall:
    """
    A smooth as it is written.

    Attributes
    ----------
    kind : str
        ``"s"``, ``"te"`` or ``"ti"``.
    covariates : tuple of str
        Expressions in columns of the data.
    k : tuple of int
        Numbers of functions: one, or of a tensor product one for each covariate.
    bases : tuple of str
        By mgcv's names, as many.
    by : str
        A column whose levels have a smooth each, or whose values multiply it; or empty.
    factor : str
        Whose levels have a smooth each, with common variances; or empty.
    """

    kind: str
    covariates: tuple[str, ...]
    k: tuple[int, ...]
    bases: tuple[str, ...]
    by: str
    factor: str

    @property
    def label(self) -> str:
        """As mgcv's: ``"s(time)"``, ``"s(time):arm"``, ``"s(time,id)"``."""
        names = [*self.covariates, *([self.factor] if self.factor else [])]
        label = f"{self.kind}({','.join(names)})"
        return f"{label}:{self.by}" if self.by else label

    @property
    def is_product(self) -> bool:
        """Whether it is a tensor product."""
        return self.kind != "s" and len(self.covariates) > 1

    @property
    def formula(self) -> str:
        """Formula of the covariates."""
        return "0 + " + " + ".join(self.covariates)

    def read(self, table: pd.DataFrame) -> tuple[str, RowVariable | None]:
        """Formula of what it reads as numbers, and the labels of its factor."""
        labels = by_variable(self, table)
        number = self.by if labels is None else ""
        return f"{self.formula} + {number}" if number else self.formula, labels


def read_smooths(formula: str) -> tuple[str, tuple[SmoothCall, ...]]:
    """
    Take the smooths out of a formula.

    Parameters
    ----------
    formula : str

    Returns
    -------
    formula : str
        What is left.
    smooths : tuple of SmoothCall

    Raises
    ------
    UnsupportedError
        If a smooth cannot be read; the message says how it is written.
    """
    left, right = split_formula(formula)
    kept, found = [], []
    for sign, piece in pieces_of(right):
        _check_interaction(piece)
        called = piece.startswith(tuple(f"{kind}(" for kind in _KINDS))
        if not called or not piece.endswith(")"):
            kept.append(f"{sign} {piece}")
            continue
        if sign == "-":
            raise UnsupportedError(f"- {piece}: a smooth cannot go; leave it out")
        call = _read(piece)
        if call is None:
            kept.append(f"{sign} {piece}")
        else:
            found.append(call)
    if not found:
        return formula, ()
    labels = [call.label for call in found]
    twice = [label for k, label in enumerate(labels) if label in labels[:k]]
    if twice:
        raise UnsupportedError(f"{twice[0]} stands twice in {formula!r}")
    response = (left or "").strip()
    for call in found:
        if response and response in (*call.covariates, call.by, call.factor):
            raise UnsupportedError(
                f"{call.label}: {response!r} is the response, and cannot explain itself"
            )
    text = " ".join(kept).removeprefix("+ ") or "1"
    return f"{left or ''} ~ {text}".strip(), tuple(found)


def _check_interaction(piece: str) -> None:
    """Raise if a smooth is a part of an interaction."""
    try:
        tree = ast.parse(piece.replace(":", "*"), mode="eval").body
    except SyntaxError:
        return
    if not isinstance(tree, ast.BinOp):
        return
    factors: list[ast.expr] = [tree]
    while any(isinstance(part, ast.BinOp) for part in factors):
        factors = [
            side
            for part in factors
            for side in (
                (part.left, part.right) if isinstance(part, ast.BinOp) else (part,)
            )
        ]
    smooth = [
        ast.unparse(part)
        for part in factors
        if isinstance(part, ast.Call)
        and isinstance(part.func, ast.Name)
        and part.func.id in _KINDS
    ]
    if not smooth or len(factors) < 2:
        return
    names = [ast.unparse(part) for part in factors]
    others = [name for name in names if name.isidentifier()]
    by = others[0] if others else "group"
    advice = f"{by} + {smooth[0][:-1]}, by={by}) for a smooth of each level of {by!r}"
    if len(smooth) > 1:
        advice = "te(x, z) for a surface of both covariates"
    raise UnsupportedError(
        f"{piece}: a smooth is no part of an interaction; write {advice}"
    )


def _read(piece: str) -> SmoothCall | None:
    """One smooth; None if it is no single call."""
    try:
        tree = ast.parse(piece, mode="eval").body
    except SyntaxError:
        return None
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name):
        return None
    kind, names = tree.func.id, [ast.unparse(part) for part in tree.args]
    options: dict[str, Any] = {}
    for word in tree.keywords:
        if word.arg == "by":
            options["by"] = ast.unparse(word.value)
            continue
        if word.arg not in _OPTIONS:
            raise UnsupportedError(
                f"{piece}: {word.arg}= is not known; a smooth takes k=, bs= and by="
            )
        try:
            options[word.arg] = ast.literal_eval(word.value)
        except ValueError:
            raise UnsupportedError(
                f"{piece}: {word.arg}= takes a plain value, or a tuple such as "
                f"(4, 6), not {ast.unparse(word.value)!r}"
            ) from None
    if not names:
        raise UnsupportedError(f"{piece}: name the covariate, as in s(time)")
    bs, factor = options.get("bs", "tp" if kind == "s" else "cr"), ""
    if bs == "re":
        raise UnsupportedError(
            f"{piece}: random effects are no smooth here; write "
            f"(1 | {names[0]}), in mixedlm"
        )
    if bs == "fs" and kind == "s":
        if len(names) != 2 or "by" in options:
            raise UnsupportedError(
                f'{piece}: write s(time, id, bs="fs"), a covariate and a factor'
            )
        factor, bs = names.pop(), options.pop("xt", "tp")
    if "xt" in options:
        raise UnsupportedError(
            f'{piece}: xt= names the basis of a smooth of each level, bs="fs", alone'
        )
    fewest, most = (2, 2) if kind == "te" else (1, 2)
    if factor or (kind == "s" and bs != "tp"):
        most = 1
    if not fewest <= len(names) <= most:
        raise UnsupportedError(
            f"{piece}: s() takes one covariate, or two with bs='tp', te(x, z) "
            f"two, and ti() one or two, not {len(names)}"
        )
    count = 1 if kind == "s" else len(names)
    return SmoothCall(
        kind,
        tuple(names),
        _sizes(piece, kind, options.get("k"), count),
        _bases(piece, kind, bs, count),
        options.get("by", ""),
        factor,
    )


def _bases(piece: str, kind: str, bs: Any, count: int) -> tuple[str, ...]:
    """Names of the bases, one for each covariate of a tensor product."""
    each = tuple(bs) if isinstance(bs, (tuple, list)) else (bs,) * count
    if len(each) != count:
        raise UnsupportedError(
            f"{piece}: bs={bs!r} has {len(each)} bases; write "
            + ("one, as in bs='cr'" if count == 1 else "one or two")
        )
    for one in each:
        others = ("fs",) if kind == "s" and one != "fs" else ()
        check_choice(f"{piece}: bs", one, (*BASES, *others))
    return each


def _sizes(piece: str, kind: str, k: Any, count: int) -> tuple[int, ...]:
    """Numbers of functions."""
    default = _DEFAULT_K if kind == "s" else _DEFAULT_TENSOR
    each = (default if k is None else k,) * count
    if isinstance(k, (tuple, list)):
        each = tuple(k)
    plain = all(isinstance(n, int) and not isinstance(n, bool) for n in each)
    if len(each) != count or not plain:
        raise UnsupportedError(
            f"{piece}: k={k!r} is not {'a number' if count == 1 else 'two numbers'} of "
            "basis functions"
        )
    return each


def by_variable(call: SmoothCall, table: pd.DataFrame) -> RowVariable | None:
    """The factor of a smooth; None if there is none, or ``by`` is a number."""
    name = call.factor or call.by
    if not name:
        return None
    if not name.isidentifier() and name not in table:
        inner = name.removeprefix("C(").removesuffix(")")
        raise UnsupportedError(
            f"{call.label}: {name!r} has to be a column of the data, whose levels have "
            "a smooth each unless they are numbers: write "
            f"by={inner}, after data[{inner!r}] = data[{inner!r}].astype('category')"
            if inner.isidentifier()
            else f"{call.label}: {name!r} has to be a column of the data"
        )
    variable = resolve("by", name, table)
    values = variable.values
    if call.factor or not pd.api.types.is_numeric_dtype(values.dtype):
        return variable
    return variable if pd.api.types.is_bool_dtype(values.dtype) else None
