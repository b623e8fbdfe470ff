"""
The contract that every variance function fulfils.

The residual of row ``t`` has the standard deviation ``sigma g_t``: a variance
function gives ``log g_t`` from what it reads of the row and few parameters
(Pinheiro and Bates, 2000, section 5.2).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixedar.jets import Jet, variables
from mixedar.residual.base import DataLayout, Link, Mark

__all__ = ["FITTED", "VarianceFunction"]

FloatArray = NDArray[np.float64]

#: The name that stands for the fitted values in place of a column.
FITTED = "fitted"


class VarianceFunction(ABC):
    """
    Standard deviation of the residuals, relative to ``sigma``.

    Attributes
    ----------
    code : str
        The name by which the registry finds it.
    label : str
        The name that summaries print.
    param_names : tuple of str
        Names of the parameters, on the scale that users read.
    fixed : bool
        Whether the parameters are held at their starting values.
    """

    code: ClassVar[str]
    fixed: bool = False

    @property
    @abstractmethod
    def label(self) -> str:
        """The name that summaries print."""

    @property
    @abstractmethod
    def param_names(self) -> tuple[str, ...]:
        """Names of the parameters."""

    @property
    @abstractmethod
    def marks(self) -> tuple[Mark, ...]:
        """What it reads of each row; the column ``"fitted"`` is special."""

    @property
    def k_params(self) -> int:
        """Number of parameters."""
        return len(self.param_names)

    @property
    def k_free(self) -> int:
        """Number of parameters to be estimated."""
        return 0 if self.fixed else self.k_params

    @property
    def links(self) -> tuple[Link, ...]:
        """Scale on which each parameter is roughly normal."""
        plain: Link = "identity"
        return (plain,) * self.k_params

    def bind_layout(self, layout: DataLayout) -> VarianceFunction:
        """
        The function adapted to the data.

        Parameters
        ----------
        layout : DataLayout
            Its marks are this function's own.

        Returns
        -------
        VarianceFunction

        Raises
        ------
        MixedARError
            If the data cannot carry the function.
        """
        return self

    @abstractmethod
    def start_grid(self) -> Sequence[FloatArray]:
        """Unconstrained starting values, each of shape (k_free,)."""

    @abstractmethod
    def to_unconstrained(self, params: ArrayLike) -> FloatArray:
        """Map parameters to the real line, shape (k_free,)."""

    @abstractmethod
    def from_variables(self, u: Jet) -> Jet:
        """Parameters as functions of the unconstrained ones, both jets."""

    @property
    def held(self) -> FloatArray:
        """Values of the parameters if they are fixed, shape (k_params,)."""
        return np.empty(0)

    def natural(self, u: FloatArray) -> Jet:
        """
        Parameters on the user's scale with their derivatives by `u`.

        Parameters
        ----------
        u : ndarray, shape (k_free,)

        Returns
        -------
        Jet of shape (k_params,)
        """
        if self.k_free == 0:
            return Jet.constant(self.held, 0)
        return self.from_variables(variables(np.asarray(u, dtype=np.float64)))

    @abstractmethod
    def log_sd(self, marks: FloatArray, params: Any) -> Any:
        """
        Logarithm of the relative standard deviations.

        Parameters
        ----------
        marks : ndarray, shape (l, c)
        params : ndarray or Jet of shape (k_params,)

        Returns
        -------
        ndarray or Jet of shape (l,)
        """

    def at_boundary(self, params: ArrayLike) -> bool:
        """Whether the parameters lie on the edge of their space."""
        return False
