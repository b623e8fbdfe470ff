"""
What arrays of a model have to be: numbers, of one length, finite, of full rank.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar._types import BoolArray, FloatArray, without_mask
from mixedar.exceptions import (
    GroupError,
    LengthError,
    MagnitudeError,
    MissingDataError,
    RankDeficiencyError,
    ResponseError,
    UnsupportedError,
    listing,
    shown,
)
from mixedar.numeric.linalg import dependent_columns, r_factor


def check_lengths(n: int, /, **arrays: Any) -> None:
    """
    Raise unless all arrays have `n` rows.

    Parameters
    ----------
    n : int
        Rows of the response.
    **arrays
        Arrays by argument name; None is skipped.

    Raises
    ------
    LengthError
    """
    for name, array in arrays.items():
        if array is None:
            continue
        if np.ndim(array) == 0:
            raise LengthError(
                f"{name} is a single value; pass one value for each observation"
            )
        if len(array) != n:
            raise LengthError(
                f"{name} has {len(array)} rows but endog has {n}; pass one value for "
                "each observation"
            )


def check_labels(name: str, array: object, index: pd.Index, what: str) -> None:
    """Raise if a Series or DataFrame has other row labels than `what`."""
    if not isinstance(array, (pd.Series, pd.DataFrame)) or array.index.equals(index):
        return
    given = array.index
    if len(given) != len(index):
        raise LengthError(
            f"{name} has {len(given)} rows but {what} has {len(index)}; pass one value "
            "for each of them"
        )
    if given.nlevels != index.nlevels:
        raise UnsupportedError(
            f"{name} has row labels of {_levels_of(given)}, and {what} of "
            f"{_levels_of(index)}: give both the same index, or pass "
            f"{name}.to_numpy() to go by position"
        )
    if given.is_unique and index.is_unique and given.isin(index).all():
        raise UnsupportedError(
            f"{name} and {what} have different row labels (the same ones in another "
            f"order): pass {name}.reindex({what}.index) to match labels, or "
            f"{name}.to_numpy() to go by position"
        )
    row = int(np.argmax(np.asarray(given != index)))
    raise UnsupportedError(
        f"{name} and {what} have different row labels (in row {row}, counted from 0, "
        f"{shown(given[row])} and {shown(index[row])}): give both the same index, or "
        f"pass {name}.to_numpy() to go by position"
    )


def _levels_of(index: pd.Index) -> str:
    """How many levels an index has, and their names."""
    names = ", ".join(shown(name) for name in index.names if name is not None)
    count = "one level" if index.nlevels == 1 else f"{index.nlevels} levels"
    return count + (f" ({names})" if names else "")


def offset_values(offset: Any, index: pd.Index | None = None) -> FloatArray:
    """An offset as finite floats, shape (n,)."""
    values = float_array(offset, "offset")
    if values.ndim != 1:
        raise LengthError(
            f"offset has {values.ndim} dimensions; pass one value for each row"
        )
    check_finite(values, ["offset"], "offset's", index)
    return values


def check_scale(scale: object) -> float | None:
    """A known residual variance, if it can be one."""
    if scale is None:
        return None
    number = isinstance(scale, (int, float, np.number)) and not isinstance(scale, bool)
    if not number or not 0.0 < float(scale) < np.inf:  # type: ignore[arg-type]
        raise UnsupportedError(
            f"scale={shown(scale)} is no variance: pass the known residual variance, a "
            "positive number, or None to estimate it"
        )
    return float(scale)  # type: ignore[arg-type]


def check_distinct(names: Sequence[object], what: str) -> None:
    """Raise if two columns have the same name."""
    name, count = Counter(names).most_common(1)[0] if len(names) else ("", 1)
    if count > 1:
        raise UnsupportedError(
            f"the {what} design has {count} columns named {shown(name)}, and "
            "coefficients are told apart by their names: rename such a column (a "
            "formula calls its constant 'Intercept')"
        )


def apart(names: Sequence[str], taken: Collection[str], what: str) -> list[str]:
    """The names; those that are taken with `what` they belong to in brackets."""
    return [f"{name} ({what})" if name in taken else name for name in names]


def as_pandas(values: Any) -> Any:
    """
    Tables and columns of other packages as those of pandas.

    Of polars and narwhals (lazy ones are collected), pyarrow, and relations of DuckDB.
    """
    if isinstance(values, (pd.DataFrame, pd.Series, np.ndarray)):
        return values
    if type(values).__name__ == "DuckDBPyRelation":
        return values.df()
    if hasattr(values, "lazy") and hasattr(values, "collect"):
        values = values.collect()
    return values.to_pandas() if hasattr(values, "to_pandas") else values


def check_finite(
    x: FloatArray,
    names: Sequence[str],
    what: str,
    index: Sequence[Any] | pd.Index | None = None,
) -> None:
    """
    Raise if an array holds NaN or infinite values.

    Parameters
    ----------
    x : ndarray, shape (n,) or (n, k)
    names : sequence of str
        Column names.
    what : str
        The argument's name, for the message.
    index : sequence, optional
        Row labels; positions by default.

    Raises
    ------
    MissingDataError
    """
    columns = x.reshape(len(x), -1)
    # a sum is finite unless a value is not (or it overflows): no mask is built
    # for clean data
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(columns.sum(axis=0)).all():
            return
    for j, name in enumerate(names):
        bad = ~np.isfinite(columns[:, j])
        if bad.any():
            first = int(np.argmax(bad))
            label = first if index is None else index[first]
            remedy = "remove those rows or pass missing='drop'"
            if not np.isnan(columns[bad, j]).all():  # dropped or not, it is an error
                remedy = "correct or remove those rows"
            raise MissingDataError(
                f"{what} column {name!r} has {int(bad.sum())} missing or infinite "
                f"values, first in row {shown(label)}; {remedy}"
            )


def float_array(x: object, what: str) -> FloatArray:
    """
    Numbers from whatever a user passes as an array.

    Parameters
    ----------
    x : array_like
    what : str
        The argument's name, for messages.

    Returns
    -------
    ndarray
        The array itself if it holds float64 already.

    Raises
    ------
    ResponseError
        If it holds text, categories, dates, durations or complex numbers.
    """
    values, holds = _plain_numbers(x)
    if values.dtype.kind in "biuf":
        return np.asarray(values, dtype=np.float64)
    if values.dtype.kind == "O":
        # text and durations in objects would become numbers in silence
        wrong = next((v for v in values.flat if isinstance(v, _NO_NUMBERS)), None)
        holds = holds if wrong is None else type(wrong).__name__
        try:
            if wrong is None:
                return np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError):
            pass
    raise ResponseError(
        f"{what} is not numeric (it holds {holds}); convert it, or use the formula "
        "interface for categories"
    )


_NO_NUMBERS = (str, bytes, complex, np.complexfloating, np.datetime64, np.timedelta64)


def _plain_numbers(x: Any) -> tuple[NDArray[Any], str]:
    """What a user passes as an array, missing values as NaN, and what it holds."""
    if isinstance(x, (pd.Series, pd.DataFrame)):
        dtypes = list(x.dtypes) if isinstance(x, pd.DataFrame) else [x.dtype]
        for dtype in dtypes:
            if isinstance(dtype, pd.CategoricalDtype):
                return np.empty(0, dtype=np.str_), "categories"
        plain = all(isinstance(dtype, np.dtype) for dtype in dtypes)
        if not plain and all(pd.api.types.is_numeric_dtype(dtype) for dtype in dtypes):
            x = x.to_numpy(dtype=np.float64, na_value=np.nan)
    values = np.asarray(without_mask(x))
    return values, str(values.dtype)


def check_columns(
    x: FloatArray,
    names: Sequence[str],
    what: str,
    index: Sequence[Any] | pd.Index | None = None,
) -> None:
    """
    Raise unless columns are finite, and of a size whose squares can be squared.

    Parameters
    ----------
    x, names, what, index
        As for :func:`check_finite`.

    Raises
    ------
    MissingDataError
    MagnitudeError
        If squares of squares would overflow or underflow.
    """
    check_finite(x, names, what, index)
    columns = x.reshape(len(x), -1)
    for j, name in enumerate(names):
        largest = max(float(columns[:, j].max()), -float(columns[:, j].min()))
        if largest != 0.0 and not 1e-30 <= largest <= 1e30:
            raise MagnitudeError(
                f"{what} column {name!r} has values up to {largest:.3g} in size, whose "
                "variances double precision cannot hold; use another unit"
            )


def check_rank(x: FloatArray, names: Sequence[str], what: str) -> None:
    """
    Raise if the columns of a design are linearly dependent.

    Parameters
    ----------
    x : ndarray, shape (n, k)
        The design, or rows with the same cross-product.
    names : sequence of str
        Column names.
    what : str
        What the columns are, for the message.

    Raises
    ------
    RankDeficiencyError
        Naming columns whose removal mends it.
    """
    dependent = dependent_columns(x)
    if len(dependent):
        culprits = listing([repr(names[j]) for j in dependent])
        raise RankDeficiencyError(
            f"the {what} design of {x.shape[1]} columns has rank "
            f"{x.shape[1] - len(dependent)}: {culprits} "
            f"{'is a' if len(dependent) == 1 else 'are'} linear "
            f"combination{'' if len(dependent) == 1 else 's'} of the columns before; "
            "leave out such columns"
        )


def check_response(w: FloatArray, y_range: float, name: str) -> None:
    """
    Raise if the response leaves nothing to be explained.

    Parameters
    ----------
    w : ndarray, shape (n, p + 1)
        Fixed-effects design and response, or rows with their cross-product.
    y_range : float
        Largest less smallest response.
    name : str
        The response's name.

    Raises
    ------
    ResponseError
    """
    if y_range == 0.0:
        raise ResponseError(
            f"the response {name!r} is constant; there is no variation to model"
        )
    factor = r_factor(w)
    last = abs(factor[-1, -1]) if len(factor) == w.shape[1] else 0.0
    if last <= 1e-13 * np.sqrt((factor[:, -1] ** 2).sum()):
        raise ResponseError(
            f"the response {name!r} is a linear combination of the fixed effects; no "
            "residual variation is left to model"
        )


def _runs(groups: Any) -> tuple[NDArray[np.intp], NDArray[Any]] | None:
    """Numbers and labels of groups that are whole numbers and never fall."""
    kind = getattr(groups, "dtype", None)
    if not (isinstance(kind, np.dtype) and kind.kind in "iu" and len(groups)):
        return None
    numbers = np.asarray(groups)
    if not (numbers[1:] >= numbers[:-1]).all():
        return None
    new = np.append(True, numbers[1:] != numbers[:-1])
    return np.cumsum(new) - 1, numbers[new]


def _first_row(found: BoolArray, values: Any) -> str:
    """The first of some rows, by its label where the values have any."""
    row = int(np.argmax(found))
    return shown(values.index[row]) if isinstance(values, pd.Series) else str(row)


def group_codes(
    groups: Any, name: str = "groups"
) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """
    Number the groups in the sorted order of their labels.

    Parameters
    ----------
    groups : array_like, shape (n,)
    name : str
        For messages.

    Returns
    -------
    codes : ndarray of int, shape (n,)
    labels : ndarray, shape (m,)

    Raises
    ------
    MissingDataError
        If a label is missing.
    GroupError
        If labels of different types cannot be sorted.
    """
    if np.ndim(groups) != 1:
        raise GroupError(
            f"{name} must be one label for each row, not an object of "
            f"{np.ndim(groups)} dimensions"
        )
    groups = without_mask(groups)
    sorted_already = _runs(groups)
    if sorted_already is not None:
        return sorted_already
    # a list may mix types, which an array would turn into text
    values: Any = groups if hasattr(groups, "dtype") else pd.Series(list(groups))
    if isinstance(values, (pd.Series, pd.Index)):
        values = values.array
    if isinstance(getattr(values, "dtype", None), pd.CategoricalDtype):
        used = values.remove_unused_categories()
        codes, labels = used.codes.astype(np.intp), np.asarray(used.categories)
    else:
        if getattr(values.dtype, "kind", "O") == "f":
            infinite = np.isinf(np.asarray(values, dtype=np.float64))
            if infinite.any():
                raise MissingDataError(
                    f"{name} has an infinite label in row "
                    f"{_first_row(infinite, groups)}; remove or rename it"
                )
        try:
            # pandas 2's own function warns of arrays of columns, their method does not
            extension = isinstance(values, pd.api.extensions.ExtensionArray)
            codes, found = values.factorize() if extension else pd.factorize(values)
        except TypeError as error:  # lists and the like
            raise GroupError(
                f"{name} has labels that cannot be told apart ({error}); convert the "
                "column, for example with .astype(str)"
            ) from error
        labels = np.asarray(found)
    missing = codes < 0
    if missing.any():
        raise MissingDataError(
            f"{name} has {int(missing.sum())} missing labels, first in row "
            f"{_first_row(missing, groups)}; remove those rows or pass missing='drop'"
        )
    try:
        order = np.argsort(labels, kind="stable")
    except TypeError:
        kinds = sorted({type(v).__name__ for v in labels})
        raise GroupError(
            f"{name} mixes labels of the types {', '.join(kinds)}, which cannot be "
            "sorted (1 and '1' would be two groups); convert the column to one type, "
            "for example with .astype(str)"
        ) from None
    if (np.diff(order) == 1).all():
        return codes, labels
    rank = np.empty(len(order), dtype=np.intp)
    rank[order] = np.arange(len(order))
    return rank[codes], labels[order]
