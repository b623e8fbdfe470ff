"""
Formulas without Python: what they may hold if strangers write them.

A formula is cut into tokens and each has to be on the list, at a place where it can
only be a sum, a product, a comparison or a call of a function that is named here.
What is not on the list is refused, so that nothing depends on how a formula engine
reads the text.
"""

from __future__ import annotations

import ast
import io
import keyword
import re
import tokenize
from collections.abc import Collection
from typing import NamedTuple

from mixedar.exceptions import UnsupportedError


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Functions of formulas, all of which take columns and give columns.
FUNCTIONS = _words(
    "C I Q Treatment Sum Helmert Poly Diff center standardize bs cr cc s te ti"
)
#: Functions of NumPy, written ``np.log(x)``.
NUMPY = _words(
    "abs arcsinh cbrt ceil cos exp expm1 floor isfinite isnan log log10 log1p log2 "
    "sign sin sqrt square tan tanh"
)
_KEYWORDS = _words(
    "base bs by constraints degree df include_intercept k knots levels lower_bound "
    "reference upper_bound"
)
_CONSTANTS = frozenset(("True", "False"))
_OPERATORS = _words("+ - * / ** : ( ) [ ] , ~ | < > <= >= == != & = .")
_NUMBER = re.compile(r"(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")
_STRING = re.compile(r"\"[^\"\\]*\"|'[^'\\]*'")
# More than that in one number, or as an exponent, is no data analysis.
_DIGITS, _EXPONENT = 20, 10
_LONGEST, _DEEPEST = 10_000, 20


def check_formula(formula: str, columns: Collection[str] | None = None) -> None:
    """
    Raise unless a formula consists of columns, numbers and functions of the list.

    Parameters
    ----------
    formula : str
    columns : collection of str, optional
        Names of the columns of the data; any names by default.

    Raises
    ------
    UnsupportedError
        Naming what is not allowed.
    """
    if len(formula) > _LONGEST:
        raise UnsupportedError(f"--no-eval: a formula has {len(formula)} characters")
    if "\\" in formula or not formula.strip().isprintable():
        raise _refusal(formula, "\\")
    none, opened = _Token("", ""), list[str]()
    tokens = [none, none, *_tokens(formula), none]
    around = zip(tokens, tokens[1:], tokens[2:], tokens[3:], strict=False)
    for earlier, before, token, after in around:
        at = _Place(earlier, before, token, after, opened, columns)
        if not _CHECKS[at.token.kind](at):
            raise _refusal(formula, at.token.text)
    if opened:
        raise _refusal(formula, "(")


class _Token(NamedTuple):
    kind: str
    text: str

    @property
    def ends_value(self) -> bool:
        """Whether a value may end with it."""
        return self.kind in ("NAME", "NUMBER", "STRING") or self.text in (")", "]")


class _Place(NamedTuple):
    """
    A token, those around it, and the brackets that are open: call, group or list.

    `columns` are the names of the columns; None if any name may be one.
    """

    earlier: _Token
    before: _Token
    token: _Token
    after: _Token
    opened: list[str]
    columns: Collection[str] | None

    @property
    def in_call(self) -> bool:
        """Whether it is among the arguments of a function."""
        return "call" in self.opened


def _tokens(formula: str) -> list[_Token]:
    """Python's tokens; comments, lines and signs are errors."""
    try:
        found = list(tokenize.generate_tokens(io.StringIO(formula.strip()).readline))
    except (tokenize.TokenError, SyntaxError) as error:
        raise _refusal(formula, str(error.args[0])) from None
    while found and found[-1].type in (tokenize.NEWLINE, tokenize.ENDMARKER):
        found.pop()
    out = [_Token(tokenize.tok_name[token.type], token.string) for token in found]
    for kind, text in out:
        if kind not in _CHECKS:
            raise _refusal(formula, text.strip() or kind.lower())
    return out


def _is_name(at: _Place) -> bool:
    """Whether a name is a column, or a function or keyword at its place."""
    text, before, follows = at.token.text, at.before, at.after.text
    if before.ends_value:
        return False
    if before.text == ".":
        return at.earlier.text == "np" and text in NUMPY and follows == "("
    if follows == ".":
        return text == "np"
    if follows == "(":
        return text in FUNCTIONS
    if follows == "=":
        inside = bool(at.opened) and at.opened[-1] == "call"
        return inside and before.text in ("(", ",") and text in _KEYWORDS
    if at.columns is None or text in at.columns:
        return text.isascii() and not keyword.iskeyword(text)
    return text in FUNCTIONS | _CONSTANTS and at.in_call


def _is_number(at: _Place) -> bool:
    """Whether a number is short, and stands alone."""
    text = at.token.text
    short = bool(_NUMBER.fullmatch(text)) and len(text) <= _DIGITS
    return short and at.after.kind not in ("NAME", "NUMBER", "STRING")


def _is_string(at: _Place) -> bool:
    """Whether a text stands where only a level, or the name of a column, can."""
    text, follows = at.token.text, at.after.text
    plain = bool(_STRING.fullmatch(text)) and at.in_call
    apart = at.before.text in ("(", ",", "=", "[", "==", "!=")
    apart = apart and follows in (")", ",", "]")
    if at.earlier.text == "Q":
        known = at.columns is None or ast.literal_eval(text) in at.columns
        return plain and apart and follows == ")" and known
    return plain and apart


def _is_operator(at: _Place) -> bool:
    """Whether a sign is an operator of formulas, at a place of one."""
    text = at.token.text
    if text not in _OPERATORS or not _is_placed(at):
        return False
    # Q takes the name of a column, and powers of powers have no end
    misused = at.before.text == "Q" and at.after.kind != "STRING"
    return not misused and not (text == "**" == at.earlier.text)


def _is_placed(at: _Place) -> bool:
    """Whether a sign is at a place where it can only be an operator."""
    text, before, after, opened = at.token.text, at.before, at.after, at.opened
    value = before.ends_value
    if text == "(":
        opened.append("call" if before.kind == "NAME" else "group")
        if len(opened) > _DEEPEST:
            return False
        return before.kind not in ("NUMBER", "STRING") and before.text not in ")]"
    if text == "[":  # a list of levels or knots
        opened.append("list")
        return before.text in ("=", ",", "(") and at.in_call
    if text in (")", "]"):
        expected = ("list",) if text == "]" else ("call", "group")
        return bool(opened) and opened.pop() in expected
    if text == "**":
        short = after.text.isdigit() and int(after.text[:3]) <= _EXPONENT
        return value and short and len(after.text) <= 2
    if text == "=":
        return before.kind == "NAME" and at.in_call
    if text == ".":
        return before.text == "np"
    if text in ("+", "-", "~"):
        return True
    if text == ":":
        return value and not at.in_call
    if text == ",":
        return value and at.in_call
    if text == "|":  # also lme4's double bar
        return value or before.text == "|"
    return value


_CHECKS = {
    "NAME": _is_name,
    "NUMBER": _is_number,
    "STRING": _is_string,
    "OP": _is_operator,
}


def _refusal(formula: str, text: str) -> UnsupportedError:
    return UnsupportedError(
        f"--no-eval: {text!r} in the formula {formula!r} is not allowed; formulas hold "
        "names of columns, numbers, + - * / : ** ( ) |, comparisons in I(), "
        f"{', '.join(sorted(FUNCTIONS))}, and np. before {', '.join(sorted(NUMPY))}. "
        "Make other columns before"
    )
