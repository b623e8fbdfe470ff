"""
What all rows share: the fixed effects, and the coefficients of smooths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.data.formula.smooths import RandomPart
from mixedar.data.random_terms import RandomTerm
from mixedar.engine.terms import TermEffects, TermPosterior
from mixedar.exceptions import UnsupportedError, listing

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Population:
    """
    Coefficients of the mean of the population: fixed effects, then those of smooths.

    Attributes
    ----------
    parts : sequence of RandomPart
        What the coefficients of smooths are multiplied by, smooth by smooth.
    fe_params : ndarray, shape (p,)
    smooths : ndarray, shape (q,)
        Predicted coefficients of the smooths.
    slopes : ndarray, shape (q, p)
        How these fall as the fixed effects rise.
    spread : ndarray, shape (q, q)
        Their covariance given data and fixed effects.
    """

    parts: Sequence[RandomPart]
    fe_params: FloatArray
    smooths: FloatArray
    slopes: FloatArray
    spread: FloatArray

    @classmethod
    def without_smooths(cls, fe_params: FloatArray) -> Self:
        """Fixed effects alone."""
        none = np.empty(0)
        slopes = np.empty((0, len(fe_params)))
        return cls((), fe_params, none, slopes, np.empty((0, 0)))

    @classmethod
    def of(
        cls,
        terms: Sequence[RandomTerm],
        fe_params: FloatArray,
        effects: Sequence[TermEffects],
        posterior: TermPosterior,
        scale: float,
    ) -> Self:
        """Those of a fit, from all its further terms and their effects."""
        smooths = [t for t, term in enumerate(terms) if term.shared]
        first = np.zeros(1, dtype=np.intp)
        some = np.concatenate([posterior.numbers(t, first)[0] for t in smooths])
        return cls(
            tuple(
                part for t in smooths if isinstance(part := terms[t].spec, RandomPart)
            ),
            fe_params,
            np.concatenate([effects[t].means[0] for t in smooths]),
            np.concatenate([effects[t].slopes[0] for t in smooths]),
            scale * posterior.covariance(some),
        )

    def check_no_smooths(self, what: str) -> None:
        """Raise if a matrix of fixed effects leaves smooths out."""
        if self.parts:
            names = list(dict.fromkeys(part.smooth.label for part in self.parts))
            raise UnsupportedError(
                f"{what}: a matrix of the fixed effects says nothing of "
                f"{listing(names)}; pass rows of data, as in get_prediction(newdata)"
            )

    @property
    def coefficients(self) -> FloatArray:
        """All of them, shape (p + q,)."""
        return np.concatenate([self.fe_params, self.smooths])

    def covariance(self, cov: FloatArray) -> FloatArray:
        """
        Covariance of all of them, as mgcv's ``Vp``.

        Parameters
        ----------
        cov : ndarray, shape (p, p)
            Of the fixed effects.

        Returns
        -------
        ndarray, shape (p + q, p + q)
        """
        p = len(self.fe_params)
        turn = np.vstack([np.eye(p), -self.slopes])
        out = turn @ cov @ turn.T
        out[p:, p:] += self.spread
        return np.asarray(out)

    def columns(self, table: pd.DataFrame, *, gaps: bool = False) -> FloatArray:
        """
        Columns of the smooths for new rows, shape (k, q).

        Where a covariate is missing they are NaN with `gaps`, else an error.
        """
        none = np.empty((len(table), 0))
        if gaps:
            some = [part.smooth.random(table, part.part) for part in self.parts]
        else:
            some = [part.complete_matrix(table) for part in self.parts]
        return np.hstack([none, *some])
