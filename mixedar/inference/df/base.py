"""
What a method of degrees of freedom answers: one class, one method each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from mixedar._types import FloatArray


class JointDF(NamedTuple):
    """
    Reference distribution of a joint F statistic.

    Attributes
    ----------
    df : float
        Denominator degrees of freedom.
    scaling : float
        Factor of the F statistic (Kenward and Roger's lambda).
    """

    df: float
    scaling: float


class ContrastMethod(ABC):
    """
    Covariance of the fixed effects, and degrees of freedom of contrasts.

    Attributes
    ----------
    cov : ndarray, shape (p, p)
        Covariance of the fixed effects that belongs to the method.
    notes : list of str
        What a reader of the results has to know.
    """

    cov: FloatArray
    notes: list[str]

    @abstractmethod
    def single(self, matrix: FloatArray) -> FloatArray:
        """
        Degrees of freedom of each row's t test.

        Parameters
        ----------
        matrix : ndarray, shape (c, p)
            One contrast a row, none of them zero.

        Returns
        -------
        ndarray, shape (c,)
        """

    @abstractmethod
    def joint(self, matrix: FloatArray, rank: int) -> JointDF:
        """
        Degrees of freedom of the joint F test of all rows.

        Parameters
        ----------
        matrix : ndarray, shape (c, p)
        rank : int
            Its rank.

        Returns
        -------
        JointDF
        """


class ColumnDF(ContrastMethod):
    """
    Methods that give each column of the design its degrees of freedom.

    A contrast has the smallest of the columns it involves.

    Parameters
    ----------
    cov : ndarray, shape (p, p)
    df : ndarray, shape (p,)
    """

    def __init__(self, cov: FloatArray, df: FloatArray) -> None:
        self.cov = cov
        self.df = df
        self.notes: list[str] = []

    def single(self, matrix: FloatArray) -> FloatArray:
        """See :meth:`ContrastMethod.single`."""
        used = np.abs(matrix) > 0.0
        return np.where(used, self.df, np.inf).min(axis=1)

    def joint(self, matrix: FloatArray, rank: int) -> JointDF:
        """See :meth:`ContrastMethod.joint`."""
        return JointDF(float(self.single(matrix).min()), 1.0)
