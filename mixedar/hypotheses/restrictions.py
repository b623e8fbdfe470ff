"""
Linear restrictions on coefficients, from what a user wrote, and their tests.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.formula._manager import FormulaManager

from mixedar._types import FloatArray
from mixedar.exceptions import (
    LengthError,
    MissingDataError,
    MixedARError,
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
)
from mixedar.hypotheses.contrast import WaldTest

WITHOUT_ERROR = (
    "a coefficient that the restrictions involve has no standard error; the notes of "
    "the summary say why"
)
_NOT_FIXED = (
    "{!r} is a covariance parameter, and t and F tests are for fixed effects: compare "
    "fits with and without it by anova(), or see conf_int_re()"
)


def restrictions(
    hypothesis: Any,
    names: Sequence[str],
    others: Sequence[str] = (),
    what: str = "fixed effect",
) -> tuple[FloatArray, FloatArray]:
    """
    ``R`` and ``q`` of the hypothesis ``R b = q``.

    Parameters
    ----------
    hypothesis : array_like, Series, DataFrame, str, mapping, list of str or tuple
        Restrictions, one a row; labelled ones are matched by name, and effects
        that they leave out count zero.  Text such as ``"time = 0.5"``, one or
        several; a mapping of names to values; or ``(R, q)``.
    names : sequence of str
        The coefficients, of which there are p.
    others : sequence of str
        The further parameters of the model, in the order of its results.
    what : str
        What a coefficient is called in messages.

    Returns
    -------
    matrix : ndarray, shape (k, p)
        No row is zero.
    values : ndarray, shape (k,)

    Raises
    ------
    MixedARError
        For text that cannot be read.
    UnknownColumnError
        For names and labels that are no coefficients.
    UnsupportedError
        For another shape, for what is no numbers, and for hypotheses on
        covariance parameters.
    MissingDataError
        For numbers that are missing or infinite.
    LengthError
        If there are more or fewer right-hand sides than rows.
    NotComputedError
        If a row is zero.
    """
    several = isinstance(hypothesis, (list, tuple)) and len(hypothesis) > 0
    texts = several and all(isinstance(item, str) for item in hypothesis)
    if isinstance(hypothesis, (str, Mapping)) or texts:
        matrix, values = _read(hypothesis, names, others, what)
    elif isinstance(hypothesis, tuple):
        if len(hypothesis) != 2:
            raise UnsupportedError(
                f"a hypothesis R b = q is the pair (R, q); this tuple has "
                f"{len(hypothesis)} parts"
            )
        matrix = _matrix(hypothesis[0], names, others, what)
        values = _right_hand_side(hypothesis[1], len(matrix))
        rows = [p.index for p in hypothesis if isinstance(p, (pd.Series, pd.DataFrame))]
        if len(rows) == 2 and len(values) > 1 and not rows[0].equals(rows[1]):
            raise UnsupportedError(
                "the rows of R and q of a hypothesis (R, q) have different labels; "
                "give both the same, or pass arrays to go by position"
            )
    else:
        matrix = _matrix(hypothesis, names, others, what)
        values = np.zeros(len(matrix))
    if not (np.abs(matrix).max(axis=1) > 0.0).all():
        raise NotComputedError(
            f"a contrast involves no {what}: its row is zero, and there is nothing to "
            "test"
        )
    return matrix, values


def _read(
    hypothesis: Any, names: Sequence[str], others: Sequence[str], what: str
) -> tuple[FloatArray, FloatArray]:
    try:
        found = FormulaManager().get_linear_constraints(hypothesis, list(names))
    except Exception as error:
        for name in others:
            if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", str(hypothesis)):
                raise _not_fixed(name) from error
        raise _unreadable(hypothesis, names, what) from error
    matrix = np.atleast_2d(np.asarray(found.constraint_matrix, dtype=float))
    return matrix, np.ravel(np.asarray(found.constraint_values, dtype=float))


def _unreadable(hypothesis: Any, names: Sequence[str], what: str) -> MixedARError:
    """What is wrong with a hypothesis that cannot be read."""
    there = f"the {what}s are {', '.join(names)}"
    if not hypothesis:
        return MixedARError(f"the hypothesis {hypothesis!r} is empty; {there}")
    texts = [hypothesis] if isinstance(hypothesis, str) else list(hypothesis)
    text = ", ".join(map(str, texts))
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"(?<![\w.]){re.escape(name)}(?![\w\[(:])", " ", text)
    unknown = re.search(r"(?<![\w.])[^\W\d][\w.]*(?:\[[^\]]*\])?", text)
    if unknown is None:
        return MixedARError(
            f"the hypothesis {hypothesis!r} cannot be read: a restriction is a sum of "
            f"numbers times {what}s, one '=' and a number, as in "
            f"'2 * {names[-1]} = 1', and several are separated by commas; {there}"
        )
    word = unknown[0]
    near = difflib.get_close_matches(word, names, n=3)
    near = near or [name for name in names if name.startswith(word)][:3]
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return UnknownColumnError(
        f"there is no {what} {word!r}, which the hypothesis {hypothesis!r} names; "
        f"{there}.{hint}"
    )


def _not_fixed(name: str) -> UnsupportedError:
    return UnsupportedError(_NOT_FIXED.format(name))


def _matrix(
    given: Any, names: Sequence[str], others: Sequence[str], what: str
) -> FloatArray:
    given = _by_label(given, names, others, what)
    matrix = _numbers(given, "a hypothesis is text, numbers, or a pair (R, q)")
    shape = matrix.shape
    matrix = np.atleast_2d(matrix)
    p = len(names)
    if given is None or matrix.size == 0 or matrix.ndim > 2:
        raise UnsupportedError(
            "a hypothesis has one row a restriction, and one restriction at least; "
            f"this one {'is None' if given is None else f'has the shape {shape}'}"
        )
    # statsmodels' own helpers pass a column for every parameter
    if matrix.shape[1] == p + len(others) and len(others):
        used = np.flatnonzero(np.any(matrix[:, p:] != 0.0, axis=0))
        if len(used):
            raise UnsupportedError(
                f"r_matrix for t-test should have {p:d} columns, one for each {what}: "
                f"{_NOT_FIXED.format(others[used[0]])}"
            )
        matrix = matrix[:, :p]
    if matrix.shape[1] != p:
        raise UnsupportedError(
            f"r_matrix for t-test should have {p:d} columns, one for each {what} "
            f"({', '.join(names)}); it has {matrix.shape[1]} columns"
        )
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise MissingDataError(
            f"row {row} of the hypothesis (counted from 0) has {matrix[row, column]} "
            f"for {names[column]!r}"
        )
    return matrix


def _by_label(
    given: Any, names: Sequence[str], others: Sequence[str], what: str
) -> Any:
    """Rows whose labels are names of coefficients, in the order of these."""
    if not isinstance(given, (pd.Series, pd.DataFrame)):
        return given
    frame = given.to_frame().T if isinstance(given, pd.Series) else given
    labels = list(frame.columns)
    if frame.columns.equals(pd.RangeIndex(len(labels))):  # numbers that pandas made
        return frame
    for name in others:
        if name in labels and (np.asarray(frame[name]) != 0.0).any():
            raise _not_fixed(name)
    unknown = [label for label in labels if label not in {*names, *others}]
    if unknown or len(set(labels)) < len(labels):
        there = f"no {unknown[0]!r}" if unknown else "each of them once"
        raise UnknownColumnError(
            f"the labels of the hypothesis are not those of the {what}s: there is "
            f"{there} among {', '.join(names)}"
        )
    return frame.reindex(columns=list(names), fill_value=0.0)


def _numbers(given: Any, expected: str) -> FloatArray:
    """Numbers as an array, masked ones as NaN."""
    try:
        if np.asarray(given).dtype.kind in "SUMmc":
            raise TypeError("no numbers")
        found = np.ma.masked_array(given, dtype=float)
    except (TypeError, ValueError) as error:
        raise UnsupportedError(f"{expected}; this is {given!r}") from error
    return np.asarray(found.filled(np.nan))


def _right_hand_side(given: Any, count: int) -> FloatArray:
    values = np.ravel(_numbers(given, "the right-hand side of a hypothesis is numbers"))
    if len(values) not in (1, count):
        raise LengthError(
            f"the hypothesis has {count} row{'s' if count > 1 else ''} and "
            f"{len(values)} right-hand sides"
        )
    if not np.isfinite(values).all():
        raise MissingDataError("a right-hand side of the hypothesis is not finite")
    return np.broadcast_to(values, (count,)).copy()


def covariance_of(matrix: FloatArray, cov: FloatArray) -> FloatArray:
    """Covariance of combinations; NaN if a coefficient has no standard error."""
    lost = np.isnan(np.diag(cov))
    out = matrix @ np.where(np.isnan(cov), 0.0, cov) @ matrix.T
    rows = (matrix[:, lost] != 0.0).any(axis=1)
    out[rows, :] = out[:, rows] = np.nan
    return np.asarray(out)


def single_tests(
    effect: FloatArray,
    values: FloatArray,
    cov: FloatArray,
    df: FloatArray | float | None,
) -> WaldTest:
    """T tests that each effect has its value; normal ones if `df` is None."""
    variances = np.diag(cov)
    sd = np.sqrt(np.where(variances >= 0.0, variances, np.nan))
    t = (effect - values) / sd
    if df is None:
        return WaldTest(effect=effect, statistic=t, sd=sd, distribution="norm")
    return WaldTest(effect=effect, t=t, sd=sd, df_denom=df)


def joint_test(difference: FloatArray, cov: FloatArray, df: float | None) -> WaldTest:
    """F test that all differences are zero; chi-squared if `df` is None."""
    count, variances = len(difference), np.diag(cov)
    if np.isnan(variances).any():
        raise NotComputedError(WITHOUT_ERROR)
    sd = np.sqrt(np.where(variances > 0.0, variances, 1.0))
    scaled = cov / np.outer(sd, sd)
    if not (variances > 0.0).all() or np.linalg.eigvalsh(scaled)[0] <= 1e-12 * count:
        raise NotComputedError(
            f"the covariance of the {count} restrictions is singular; some follow "
            "from others, or there are fewer clusters than restrictions"
        )
    d = difference / sd
    chi2 = float(d @ np.linalg.solve(scaled, d))
    if df is not None:
        return WaldTest(F=chi2 / count, df_denom=df, df_num=count)
    return WaldTest(
        chi2=chi2, df_denom=count, statistic=chi2, distribution="chi2",
        distargs=(count,),
    )  # fmt: skip
