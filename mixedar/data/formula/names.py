"""
Reading formulas as text: which names they use, and how.

The formula engines do not tell which columns a formula needs before they
evaluate it.  Knowing that early lets the package look at these columns only,
name a misspelt column, and recognise formulas that work row by row.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixedar.exceptions import MixedARError, ResponseError

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<quoted>`[^`]*`)
      | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<number>(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<name>[^\W\d]\w*)
      | (?P<op>\*\*|==|!=|<=|>=|//|.)""",
    re.VERBOSE | re.DOTALL,
)
_ENGINES = ("patsy", "formulaic")
_ROLES = ("terms", "coded", "levelled", "elementwise", "opaque")


@dataclass(frozen=True)
class FormulaUse:
    """
    How the names of a one-sided formula are used.

    Attributes
    ----------
    formula : str
        The formula, without ``~``.
    terms : frozenset[str]
        Names that are terms by themselves, as ``x`` in ``x + z:x``.
    coded : frozenset[str]
        Names that occur as ``C(x)`` or ``C(x, contrast)``.
    levelled : frozenset[str]
        Names whose ``C()`` may list the levels.
    elementwise : frozenset[str]
        Names inside ``I()`` or a NumPy universal function.
    opaque : frozenset[str]
        Names (and quoted strings) that appear anywhere else.
    functions : frozenset[str]
        Names that are called, or whose attributes are.
    rowwise : bool
        A row of the matrix needs nothing but that row of the columns, given
        the levels of categorical columns.
    """

    formula: str
    terms: frozenset[str]
    coded: frozenset[str]
    levelled: frozenset[str]
    elementwise: frozenset[str]
    opaque: frozenset[str]
    functions: frozenset[str]
    rowwise: bool

    @property
    def direct(self) -> frozenset[str]:
        """Names whose missing values make the row missing."""
        return self.terms | self.coded | self.elementwise

    @property
    def names(self) -> frozenset[str]:
        """All names that may be columns or variables of the caller."""
        return self.direct | self.opaque

    def is_rowwise(self, columns: Collection[str]) -> bool:
        """Whether rows can be evaluated separately, given the columns."""
        known = set(columns)
        return self.rowwise and self.direct <= known and not self.opaque & known


def _tokens(formula: str) -> list[tuple[str, str]]:
    found = [(str(m.lastgroup), m.group()) for m in _TOKEN.finditer(formula)]
    return [(kind, text) for kind, text in found if kind != "space"]


def split_formula(formula: str) -> tuple[str | None, str]:
    """
    Split a formula at its ``~``.

    Parameters
    ----------
    formula : str
        ``"y ~ x"``, ``"~ x"`` or ``"x"``.

    Returns
    -------
    tuple[str | None, str]
        Left-hand side (None when there is none) and right-hand side.

    Raises
    ------
    ResponseError
        If there is more than one ``~``.
    MixedARError
        If `formula` is not a string.
    """
    if not isinstance(formula, str):
        raise MixedARError(f"A formula must be a string, not {type(formula).__name__}.")
    sides, start = [], 0
    for match in _TOKEN.finditer(formula):
        if match.group() == "~":
            sides.append(formula[start : match.start()])
            start = match.end()
    sides.append(formula[start:])
    if len(sides) > 2:
        raise ResponseError(f"The formula {formula!r} has more than one '~'.")
    left = sides[0].strip() if len(sides) == 2 else ""
    return left or None, sides[-1].strip()


def has_bar(formula: str) -> bool:
    """
    Whether a formula has a ``|`` outside of function calls.

    Parameters
    ----------
    formula : str

    Returns
    -------
    bool
    """
    previous = None
    while formula != previous:  # innermost calls first
        previous, formula = formula, re.sub(r"[\w.]+\([^()]*\)", "", formula)
    return "|" in formula


def plain_terms(formula: str) -> list[str] | None:
    """
    Terms of a formula that is a sum of names, with or without an intercept.

    Parameters
    ----------
    formula : str
        One-sided, without ``~``.

    Returns
    -------
    list[str] or None
        ``"Intercept"`` first, unless the formula has ``0 +``, then the names in
        their order; None for any other formula.
    """
    names: dict[str, None] = {}
    intercept = True
    for i, piece in enumerate(formula.split("+")):
        word = piece.strip()
        if word == "0" and i == 0:
            intercept = False
        elif word.isidentifier():
            names[word] = None
        elif not (word == "1" and i == 0):
            return None
    return [*(["Intercept"] if intercept else []), *names]


def indicator_factor(formula: str) -> tuple[str, bool] | None:
    """
    The factor of a formula that is one full set of indicators.

    Parameters
    ----------
    formula : str
        A one-sided formula.

    Returns
    -------
    tuple[str, bool] or None
        Name of the factor and whether it stands in ``C()``; None unless the
        formula is ``0 + f`` or ``0 + C(f)`` (or ``-1`` for ``0 +``).
    """
    text = "".join(t for _, t in _tokens(split_formula(formula)[1]))
    match = re.fullmatch(
        r"(?:(?:0|-1)\+)(?:C\((\w+)\)|(\w+))|(?:C\((\w+)\)|(\w+))(?:-1|\+0)", text
    )
    if match is None:
        return None
    wrapped = match[1] or match[3]
    name = wrapped or match[2] or match[4]
    return (name, bool(wrapped)) if name.isidentifier() else None


def _is_engine_name(name: str, namespace: Mapping[str, Any]) -> bool:
    """Whether `name` means what the formula engine means by it."""
    module = getattr(namespace.get(name), "__module__", "") or ""
    return name not in namespace or module.split(".")[0] in _ENGINES


def _call_kind(chain: list[str], namespace: Mapping[str, Any]) -> str:
    """Kind of a call: ``"coded"``, ``"elementwise"`` or ``"opaque"``."""
    if chain in (["C"], ["I"]) and _is_engine_name(chain[0], namespace):
        return "coded" if chain == ["C"] else "elementwise"
    value = namespace.get(chain[0])
    if chain[0] == "np" and value is None:
        value = np
    for attribute in chain[1:]:
        value = getattr(value, attribute, None)
    unary = isinstance(value, np.ufunc) and value.nin == value.nout == 1
    return "elementwise" if unary else "opaque"


def read_formula(formula: str, namespace: Mapping[str, Any]) -> FormulaUse:
    """
    Find the names in a one-sided formula and their roles.

    Parameters
    ----------
    formula : str
        Formula; anything left of ``~`` is ignored.
    namespace : Mapping[str, object]
        The caller's variables, to recognise NumPy functions.

    Returns
    -------
    FormulaUse
        The roles of the names.
    """
    text = split_formula(formula)[1]
    reader = _Reader(_tokens(text), namespace)
    reader.run()
    roles = {role: frozenset(names) for role, names in reader.roles.items()}
    return FormulaUse(text, rowwise=reader.rowwise, **roles)


class _Reader:
    """One pass over the tokens with a stack of enclosing brackets."""

    def __init__(
        self, tokens: list[tuple[str, str]], namespace: Mapping[str, Any]
    ) -> None:
        self.tokens = tokens
        self.namespace = namespace
        self.roles: dict[str, set[str]] = {
            role: set() for role in (*_ROLES, "functions")
        }
        self.rowwise = True
        # "terms", "coded" (first argument of C), "options" (its others),
        # "elementwise", "opaque".
        self.stack = ["terms"]
        self.factors: list[str | None] = []
        self.commas: list[int] = []

    def text(self, i: int) -> str:
        return self.tokens[i][1] if 0 <= i < len(self.tokens) else ""

    def run(self) -> None:
        i = 0
        while i < len(self.tokens):
            kind, text = self.tokens[i]
            if kind in ("name", "quoted"):
                i = self.name(i)
            else:
                if kind == "string" and self.stack[-1] == "opaque":
                    self.opaque_name(text[1:-1])  # Q("a name")
                elif kind == "op":
                    self.operator(i, text)
                i += 1

    def operator(self, i: int, text: str) -> None:
        top = self.stack[-1]
        if text == "(":
            called = i > 0 and self.text(i - 1) in (")", "]")
            self.push("opaque" if called else top)
        elif text in ("[", "{"):
            self.push("opaque")
        elif text in (")", "]", "}"):
            if len(self.stack) > 1:
                self.pop()
        elif text == "," and top in ("coded", "options"):
            self.stack[-1] = "options"
            self.commas[-1] += 1
            factor = self.factors[-1]
            if self.commas[-1] > 1 and factor is not None:
                self.roles["levelled"].add(factor)

    def push(self, kind: str) -> None:
        if self.stack[-1] == "options":
            kind = "options"  # arguments that are not rows: Treatment("b")
        if kind == "opaque":
            self.rowwise = False
        self.stack.append(kind)
        self.factors.append(self.factors[-1] if kind == "options" else None)
        self.commas.append(0)

    def pop(self) -> None:
        self.stack.pop()
        self.factors.pop()
        self.commas.pop()

    def opaque_name(self, name: str) -> None:
        self.roles["opaque"].add(name)

    def name(self, i: int) -> int:
        """Classify the (dotted) name at position `i`; return what follows."""
        kind, text = self.tokens[i]
        chain, j = [text.strip("`")], i + 1
        while self.text(j) == "." and self.tokens[j + 1 : j + 2]:
            if self.tokens[j + 1][0] != "name":
                break
            chain.append(self.text(j + 1))
            j += 2
        top, following = self.stack[-1], self.text(j)
        if self.text(i - 1) == ".":  # an attribute of a call's result
            return j
        if kind == "name" and keyword.iskeyword(text):
            return j
        if following == "=" and top not in ("terms", "elementwise"):
            if top == "options" and text == "levels" and self.factors[-1]:
                self.roles["levelled"].add(self.factors[-1])
            return j
        if following == "(" and kind == "name":
            self.call(chain)
            return j + 1
        if len(chain) > 1:
            if top == "terms" or chain[0] not in self.namespace:
                self.rowwise = False
            self.opaque_name(chain[0])
        elif top in ("terms", "elementwise"):
            self.roles[top].add(chain[0])
        elif top == "coded" and self.text(i - 1) == "(" and following in (",", ")"):
            self.roles["coded"].add(chain[0])
            self.factors[-1] = chain[0]
        else:
            if top == "coded":
                self.rowwise = False
            self.opaque_name(chain[0])
        return j

    def call(self, chain: list[str]) -> None:
        kind = _call_kind(chain, self.namespace)
        if kind == "coded" and self.stack[-1] != "terms":
            kind = "opaque"
        if kind == "elementwise" and self.stack[-1] not in ("terms", "elementwise"):
            kind = "opaque"
        self.roles["functions"].add(chain[0])
        if len(chain) > 1:  # x in x.clip(0), or a module
            self.opaque_name(chain[0])
        self.push(kind)
