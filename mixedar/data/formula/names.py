"""
Reading formulas as text: which names they use, and how.

The formula engines do not tell which columns a formula needs before they
evaluate it.  Knowing that early lets the package look at these columns only,
name a misspelt column, and recognise formulas that work row by row.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd

from mixedar.data.rows import resolve, table_column
from mixedar.exceptions import MixedARError, ResponseError, UnsupportedError

#: Quoted names and texts in a formula.
QUOTED = r"`[^`]*`|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"
# What separates the factors of a formula, unless it stands in a call.
_SIGNS = re.compile(rf"{QUOTED}|%in%|[][(){{}}+\-*/:^|~]")
_ENGINES = ("patsy", "formulaic")


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
    def quoted(self) -> frozenset[str]:
        """Names that stand in ``Q()``, if no other function may read them."""
        return self.opaque if self.functions <= {"C", "Q"} else frozenset()

    @property
    def names(self) -> frozenset[str]:
        """All names that may be columns or variables of the caller."""
        return self.direct | self.opaque

    def is_rowwise(self, columns: Collection[str]) -> bool:
        """Whether rows can be evaluated separately, given the columns."""
        known = set(columns)
        return self.rowwise and self.direct <= known and not self.opaque & known


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
    signs = [m.start() for m in _SIGNS.finditer(formula) if m.group() == "~"]
    if len(signs) > 1:
        raise ResponseError(f"The formula {formula!r} has more than one '~'.")
    if not signs:
        return None, formula.strip()
    return formula[: signs[0]].strip() or None, formula[signs[0] + 1 :].strip()


def in_calls(formula: str, sign: str) -> list[bool]:
    """Whether each occurrence of a sign in a formula stands in a call."""
    return [inside for found, inside, _ in _signs(formula) if found == sign]


def _signs(text: str) -> Iterator[tuple[str, bool, str | None]]:
    """Signs of a formula, whether in a call, and the factor that each ends."""
    start, brackets = 0, ""  # of the factor; "(" opens a call, "g" a group of terms
    for match in _SIGNS.finditer(text):
        sign, before = match.group(), text[start : match.start()].strip()
        if sign[0] in "`\"'":
            continue
        if sign in "([{":
            group = sign == "(" and not before and "(" not in brackets
            brackets += "g" if group else "("
        elif sign in ")]}":
            group = brackets[-1:] != "("
            brackets = brackets[:-1]
        else:
            group = "(" not in brackets
        yield sign, "(" in brackets, before if group else None
        if group:
            start = match.end()
    yield "", False, text[start:].strip()


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
    text = re.sub(r"\s", "", split_formula(formula)[1])
    match = re.fullmatch(
        r"(?:(?:0|-1)\+)(?:C\((\w+)\)|(\w+))|(?:C\((\w+)\)|(\w+))(?:-1|\+0)", text
    )
    if match is None:
        return None
    wrapped = match[1] or match[3]
    name = wrapped or match[2] or match[4]
    return (name, bool(wrapped)) if name.isidentifier() else None


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
    reader = _Reader(namespace)
    for _, _, factor in _signs(text):
        if factor is not None:
            reader.read(factor)
    roles = {role: frozenset(names) for role, names in reader.roles.items()}
    return FormulaUse(text, rowwise=reader.rowwise, **roles)


class _Reader:
    """Names by role, and whether rows can be evaluated one by one."""

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self.namespace = namespace
        roles = "terms", "coded", "levelled", "elementwise", "opaque", "functions"
        self.roles: dict[str, set[str]] = {role: set() for role in roles}
        self.rowwise = True
        self.quoted: list[str] = []

    def read(self, factor: str) -> None:
        """Read a factor of the formula, a Python expression."""

        def placeholder(match: re.Match[str]) -> str:
            if not match.group().startswith("`"):
                return match.group()
            self.quoted.append(match.group().strip("`"))
            return f"_quoted_{len(self.quoted) - 1}_"

        code = re.sub(QUOTED, placeholder, factor)
        try:
            self.visit(ast.parse(code, mode="eval").body, "terms")
        except SyntaxError:  # the engine says what is wrong
            for name in re.findall(r"\b[^\W\d]\w*", code):
                self.add("opaque", name)
            self.rowwise = self.rowwise and not code

    def add(self, role: str, name: str) -> None:
        match = re.fullmatch(r"_quoted_(\d+)_", name)
        self.roles[role].add(self.quoted[int(match[1])] if match else name)

    def visit(self, node: ast.AST, role: str) -> None:
        """
        Classify the names of an expression.

        The role is ``"terms"``, ``"elementwise"``, ``"opaque"``, or ``"options"``
        for arguments of ``C()`` that are not rows, as ``Treatment("b")``.
        """
        if isinstance(node, ast.Call):
            self.call(node, role)
        elif isinstance(node, ast.Name):
            self.add("opaque" if role == "options" else role, node.id)
        elif isinstance(node, ast.Constant):
            if role == "opaque" and isinstance(node.value, str):
                self.add("opaque", node.value)  # Q("a name")
        elif isinstance(node, ast.Attribute) and _dotted(node):
            name = _dotted(node)[0]
            if role == "terms" or name not in self.namespace:
                self.rowwise = False
            self.add("opaque", name)
        else:
            children = list(ast.iter_child_nodes(node))
            if isinstance(node, ast.Subscript):
                self.visit(children.pop(0), role)
            plain = ast.BinOp | ast.BoolOp | ast.Compare | ast.IfExp | ast.UnaryOp
            whole = isinstance(node, ast.expr) and not isinstance(node, plain)
            if whole and role != "options":
                role, self.rowwise = "opaque", False
            for child in children:
                self.visit(child, role)

    def call(self, node: ast.Call, role: str) -> None:
        chain = _dotted(node.func)
        kind = _call_kind(chain, self.namespace) if chain else "opaque"
        if role not in ("terms", "elementwise")[: 1 + (kind == "elementwise")]:
            kind = "opaque"
        if chain:
            self.roles["functions"].add(chain[0])
            if len(chain) > 1:  # x in x.clip(0), or a module
                self.add("opaque", chain[0])
        else:
            self.visit(node.func, role)
        arguments: list[ast.AST] = [*node.args, *node.keywords]
        if role == "options":
            kind = "options"
        elif kind == "coded" and arguments:
            factor, kind = arguments.pop(0), "options"
            if isinstance(factor, ast.Name):
                self.add("coded", factor.id)
                named = any(word.arg == "levels" for word in node.keywords)
                if named or len(arguments) > 1:
                    self.add("levelled", factor.id)
            else:
                self.rowwise = False
                self.visit(factor, "opaque")
        elif kind == "opaque":
            self.rowwise = False
        for argument in arguments:
            self.visit(argument, kind)


def _dotted(node: ast.AST) -> list[str]:
    """The parts of ``np.linalg.norm``; empty for anything that is not names."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value)
        return [*inner, node.attr] if inner else []
    return []


def _call_kind(chain: list[str], namespace: Mapping[str, Any]) -> str:
    """Kind of a call: ``"coded"``, ``"elementwise"`` or ``"opaque"``."""
    name, value = chain[0], namespace.get(chain[0])
    module = getattr(value, "__module__", "") or ""
    if chain in (["C"], ["I"]) and (
        name not in namespace or module.split(".")[0] in _ENGINES
    ):
        return "coded" if name == "C" else "elementwise"
    if name == "np" and value is None:
        value = np
    for attribute in chain[1:]:
        value = getattr(value, attribute, None)
    unary = isinstance(value, np.ufunc) and value.nin == value.nout == 1
    return "elementwise" if unary else "opaque"


def capture_namespace(above: int = 0) -> dict[str, Any]:
    """
    Variables visible to the caller of the package: locals over globals.

    Parameters
    ----------
    above : int, optional
        0 is the first frame outside this package, 1 is its caller, and so on.

    Returns
    -------
    dict[str, object]
        A snapshot; no frame is kept alive.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and (above or _passes_on(frame)):
        above -= not _passes_on(frame)
        frame = frame.f_back
    try:
        return {**frame.f_globals, **frame.f_locals}
    finally:
        del frame


def _passes_on(frame: FrameType) -> bool:
    """Whether a frame is this package's, or a subclass's ``from_formula``."""
    module = str(frame.f_globals.get("__name__", ""))
    ours = module.split(".")[0] == __name__.split(".")[0]
    return ours or frame.f_code.co_name == "from_formula"


def as_namespace(eval_env: object) -> Mapping[str, Any]:
    """
    Turn an ``eval_env`` argument into a mapping.

    Parameters
    ----------
    eval_env : Mapping, patsy.EvalEnvironment, int or None
        None stands for the variables of the caller, k for those of the caller k
        frames above, -1 for none.

    Returns
    -------
    Mapping[str, object]
        Variables by name.

    Raises
    ------
    UnsupportedError
        If `eval_env` is anything else.
    """
    if isinstance(eval_env, Mapping):
        return eval_env
    if eval_env is None:
        return capture_namespace()
    if isinstance(eval_env, int) and eval_env >= -1:
        return capture_namespace(eval_env) if eval_env >= 0 else {}
    layers = getattr(eval_env, "_namespaces", None)
    if isinstance(layers, list):  # patsy's: the first one wins
        merged: dict[str, Any] = {}
        for layer in reversed(layers):
            merged.update(layer)
        return merged
    raise UnsupportedError(
        "eval_env must be a mapping of names to values, such as locals(), or None; "
        f"not {eval_env!r}."
    )


@dataclass(frozen=True)
class ModelFormulas:
    """The formulas of a model, read."""

    left: FormulaUse
    right: FormulaUse
    random: FormulaUse | None
    components: dict[str, FormulaUse]
    terms: list[FormulaUse]

    def uses(self) -> list[FormulaUse]:
        """All formulas, the response first."""
        parts = [self.left, self.right, self.random, *self.components.values()]
        parts += self.terms
        return [use for use in parts if use is not None]


def read_formulas(
    formula: str,
    re_formula: str | None,
    vc_formula: Mapping[str, str] | None,
    namespace: Mapping[str, Any],
    terms: Iterable[str] = (),
) -> ModelFormulas:
    """
    Read the formulas of a model.

    Parameters
    ----------
    formula : str
        Two-sided formula.
    re_formula : str or None
        Random effects.
    vc_formula : Mapping[str, str] or None
        Variance components.
    namespace : Mapping[str, object]
        The caller's variables.
    terms : Iterable[str]
        Effects of further random-effects terms.

    Returns
    -------
    ModelFormulas
        How they use names; components sorted.

    Raises
    ------
    ResponseError
        If there is no response.
    UnsupportedError
        If another formula is two-sided.
    MixedARError
        If a formula is not a string, or `vc_formula` not a dict.
    """
    left, right = split_formula(formula)
    if left is None:
        raise ResponseError(
            f"The formula {formula!r} has no response; write 'y ~ {right or 'x'}'."
        )
    names = vc_formula if isinstance(vc_formula, Mapping) else (0,)
    if vc_formula is not None and not all(isinstance(name, str) for name in names):
        raise MixedARError(
            "vc_formula must be a dict of names and formulas, such as "
            "{'classroom': '0 + C(classroom)'}."
        )
    vc = dict(vc_formula or {})
    one_sided = {"formula": right, "re_formula": re_formula, **vc}
    for key, text in one_sided.items():
        if text is not None and split_formula(text)[0] is not None:
            raise UnsupportedError(f"{key}: the formula {text!r} must be one-sided.")
        if text is not None and not all(in_calls(text, "|")):
            raise UnsupportedError(_bar_message(key, text))
    random = "1" if re_formula is None and vc_formula is None else re_formula
    return ModelFormulas(
        read_formula(left, namespace),
        read_formula(right, namespace),
        None if random is None else read_formula(random, namespace),
        {key: read_formula(vc[key], namespace) for key in sorted(vc)},
        [read_formula(text, namespace) for text in terms],
    )


def _bar_message(what: str, formula: str) -> str:
    """What a formula with a bar outside of brackets may have meant."""
    group = re.sub(r"\W.*", "", formula.rpartition("|")[2].strip()) or "g"
    return (
        f"{what}: the formula {formula!r} has a bar. The groups are named by "
        f"groups={group!r}; random effects of mixedlm are a term in brackets, "
        f"+ (1 | {group}), or re_formula='~t'; fixed effects of a panel are not "
        f"written, entity={group!r} and effects='entity' take them out (inside I() a "
        "bar is Python's 'or')"
    )


def formula_columns(
    uses: Sequence[FormulaUse], table: pd.DataFrame, namespace: Mapping[str, Any]
) -> dict[str, pd.Series]:
    """Columns that the formulas name, in the order of the data."""
    names = set().union(*(use.names for use in uses))
    known = set(table.columns) | set(table.index.names)
    found = {name: table_column(table, name) for name in sorted(names & known)}
    direct = set().union(*(use.direct for use in uses)) - known
    for name in sorted(direct & set(namespace)):
        # A variable of the caller with one value a row is as good as a column.
        value = namespace[name]
        if isinstance(value, (np.ndarray, pd.Series)) and value.shape == (len(table),):
            found[name] = resolve(name, value, table).values.rename(name)
    return found
