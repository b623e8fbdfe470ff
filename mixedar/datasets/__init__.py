"""
Data sets for examples, tests and benchmarks.

Each function returns a new DataFrame with the rows in the order of the
source.  The files are comma-separated text, compressed.  Fractions are read by
Python's own ``float``, which returns the nearest double, so that every
installation has the same bits; the parsers of some pandas versions round in the
last place.
"""

from __future__ import annotations

import io
import pkgutil
from collections.abc import Sequence
from gzip import decompress

import pandas as pd


def load_growth() -> pd.DataFrame:
    """
    Simulated growth of 2,500 people in two arms, four times each.

    Returns
    -------
    DataFrame, shape (10000, 4)
        Sorted by person and time.  ``y`` (float) is the response, ``time``
        (int) is 0, 1, 2, 3, ``treatment`` (categorical) is ``"control"`` or
        ``"treatment"`` and constant within a person, ``id`` (int) is the
        person, 1 to 2500.

    Notes
    -----
    The data are simulated; they describe nobody.  Each person has a random
    intercept and a random slope on time, and the errors within a person
    follow an AR(1) process with correlation 0.7 between neighbouring times.

    Examples
    --------
    >>> from mixedar.datasets import load_growth
    >>> load_growth().shape
    (10000, 4)
    """
    return _load("growth", "y", factors=["treatment"])


def load_orthodont() -> pd.DataFrame:
    """
    Dental growth of 27 children at four ages.

    Returns
    -------
    DataFrame, shape (108, 5)
        Sorted by child and age.  ``subject`` (str), ``sex`` (categorical,
        ``"Female"`` or ``"Male"``), ``age`` (int, years: 8, 10, 12, 14), ``occ`` (int,
        occasion: 1 to 4), ``distance`` (float, millimetres from the pituitary
        to the pterygomaxillary fissure).

    References
    ----------
    Potthoff, R. F. and Roy, S. N. (1964). A generalized multivariate analysis
    of variance model useful especially for growth curve problems. Biometrika
    51, 313-326.

    Examples
    --------
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> teeth.groupby("sex", observed=True)["subject"].nunique().to_dict()
    {'Female': 11, 'Male': 16}
    """
    return _load("orthodont", "distance", factors=["sex"])


def load_bodyweight() -> pd.DataFrame:
    """
    Body weight of 16 rats on three diets over nine weeks.

    Returns
    -------
    DataFrame, shape (176, 4)
        Sorted by rat and time.  ``rat`` (int), ``diet`` (int, 1 to 3: a label,
        write ``C(diet)``), ``time`` (int, days: 1 to 64, unequally spaced),
        ``weight`` (int, grams).

    References
    ----------
    Crowder, M. J. and Hand, D. J. (1990). Analysis of Repeated Measures.
    Chapman and Hall, London.

    Examples
    --------
    >>> from mixedar.datasets import load_bodyweight
    >>> rats = load_bodyweight()
    >>> rats.groupby("diet")["rat"].nunique().to_dict()
    {1: 8, 2: 4, 3: 4}
    """
    return _load("bodyweight")


def _load(name: str, *fractions: str, factors: Sequence[str] = ()) -> pd.DataFrame:
    """Read a file of this folder: its columns of floats, and its factors."""
    packed = pkgutil.get_data(__name__, f"{name}.csv.gz")
    if packed is None:
        raise FileNotFoundError(f"{name}.csv.gz is missing from the installation")
    table = pd.read_csv(
        io.BytesIO(decompress(packed)), converters=dict.fromkeys(fractions, float)
    )
    return table.astype(dict.fromkeys(factors, "category"))


__all__ = ["load_bodyweight", "load_growth", "load_orthodont"]
