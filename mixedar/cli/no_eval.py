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

from mixedar.exceptions import UnsupportedError


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Functions of formulas, all of which take columns and give columns.
FUNCTIONS = _words("C I Q Treatment Sum Helmert Poly Diff center standardize bs cr cc")
#: Functions of NumPy, written ``np.log(x)``.
NUMPY = _words(
    "abs arcsinh cbrt ceil cos exp expm1 floor isfinite isnan log log10 log1p log2 "
    "sign sin sqrt square tan tanh"
)
_KEYWORDS = _words(
    "base constraints degree df include_intercept knots levels lower_bound reference "
    "upper_bound"
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
    tokens = [("", ""), *_tokens(formula), ("", "")]
    opened: list[str] = []  # the brackets around a token: call, group or list
    for k in range(1, len(tokens) - 1):
        kind, text = tokens[k]
        before, after = tokens[k - 1], tokens[k + 1]
        if kind == "NAME":
            fine = _is_name(text, before, after, tokens[max(k - 2, 0)], columns, opened)
        elif kind == "NUMBER":
            fine = bool(_NUMBER.fullmatch(text)) and len(text) <= _DIGITS
            fine = fine and after[0] not in ("NAME", "NUMBER", "STRING")
        elif kind == "STRING":
            fine = _is_string(
                text, before, after, tokens[max(k - 2, 0)], columns, opened
            )
        else:
            fine = text in _OPERATORS and _is_operator(text, before, after, opened)
            # Q takes the name of a column, and powers of powers have no end
            fine = fine and not (before[1] == "Q" and after[0] != "STRING")
            fine = fine and not (text == "**" == tokens[max(k - 2, 0)][1])
        if not fine:
            raise _refusal(formula, text)
    if opened:
        raise _refusal(formula, "(")


def _tokens(formula: str) -> list[tuple[str, str]]:
    """Kinds and texts of Python's tokens; comments, lines and signs are errors."""
    try:
        found = list(tokenize.generate_tokens(io.StringIO(formula.strip()).readline))
    except (tokenize.TokenError, SyntaxError) as error:
        raise _refusal(formula, str(error.args[0])) from None
    while found and found[-1].type in (tokenize.NEWLINE, tokenize.ENDMARKER):
        found.pop()
    out = []
    for token in found:
        kind = tokenize.tok_name[token.type]
        if kind not in ("NAME", "NUMBER", "STRING", "OP"):
            raise _refusal(formula, token.string.strip() or kind.lower())
        out.append((kind, token.string))
    return out


def _is_name(
    text: str,
    before: tuple[str, str],
    after: tuple[str, str],
    earlier: tuple[str, str],
    columns: Collection[str] | None,
    opened: list[str],
) -> bool:
    """Whether a name is a column, or a function or keyword at its place."""
    if before[0] in ("NAME", "NUMBER", "STRING") or before[1] in (")", "]"):
        return False
    if before[1] == ".":
        return earlier[1] == "np" and text in NUMPY and after[1] == "("
    if text == "np" and after[1] == ".":
        return True
    if after[1] == "(":
        return text in FUNCTIONS
    if after[1] == "=":
        inside = bool(opened) and opened[-1] == "call"
        return inside and before[1] in ("(", ",") and text in _KEYWORDS
    if after[1] == ".":
        return False
    if columns is None or text in columns:
        return text.isascii() and not keyword.iskeyword(text)
    return text in FUNCTIONS | _CONSTANTS and "call" in opened


def _is_string(
    text: str,
    before: tuple[str, str],
    after: tuple[str, str],
    earlier: tuple[str, str],
    columns: Collection[str] | None,
    opened: list[str],
) -> bool:
    """Whether a text stands where only a level, or the name of a column, can."""
    plain = bool(_STRING.fullmatch(text)) and "call" in opened
    apart = before[1] in ("(", ",", "=", "[", "==", "!=") and after[1] in (
        ")",
        ",",
        "]",
    )
    if earlier[1] == "Q":
        known = columns is None or ast.literal_eval(text) in columns
        return plain and apart and after[1] == ")" and known
    return plain and apart


def _is_operator(
    text: str, before: tuple[str, str], after: tuple[str, str], opened: list[str]
) -> bool:
    """Whether a sign is at a place where it can only be an operator."""
    value = before[0] in ("NAME", "NUMBER", "STRING") or before[1] in (")", "]")
    if text == "(":
        opened.append("call" if before[0] == "NAME" else "group")
        if len(opened) > _DEEPEST:
            return False
        return before[0] != "NUMBER" and before[0] != "STRING" and before[1] not in ")]"
    if text == "[":  # a list of levels or knots
        opened.append("list")
        return before[1] in ("=", ",", "(") and "call" in opened
    if text in (")", "]"):
        expected = ("list",) if text == "]" else ("call", "group")
        return bool(opened) and opened.pop() in expected
    if text == "**":
        short = after[1].isdigit() and int(after[1][:3]) <= _EXPONENT
        return value and short and len(after[1]) <= 2
    if text == "=":
        return before[0] == "NAME" and "call" in opened
    if text == ".":
        return before[1] == "np"
    if text in ("+", "-", "~"):
        return True
    if text == ":":
        return value and "call" not in opened
    if text == "," and "call" in opened:
        return value
    if text == "|":  # also lme4's double bar
        return value or before[1] == "|"
    return value and text != ","


def _refusal(formula: str, text: str) -> UnsupportedError:
    return UnsupportedError(
        f"--no-eval: {text!r} in the formula {formula!r} is not allowed; formulas hold "
        "names of columns, numbers, + - * / : ** ( ) |, comparisons in I(), "
        f"{', '.join(sorted(FUNCTIONS))}, and np. before {', '.join(sorted(NUMPY))}. "
        "Make other columns before"
    )
