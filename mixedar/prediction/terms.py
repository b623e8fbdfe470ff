"""
Effects of several factors in predictions: of levels that are in the fit, and others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.data.random_terms import RandomTerm
from mixedar.engine.levels import MetLevels
from mixedar.exceptions import GroupError, UnknownColumnError, UnsupportedError, shown
from mixedar.fit import Fit


def check_included(fit: Fit, include: Sequence[str] | None, level: str) -> None:
    """
    Raise unless factors can be chosen, and have random effects.

    Raises
    ------
    UnsupportedError
        For another level than ``"group"``.
    UnknownColumnError
        If a factor has no random effects.
    """
    if include is None:
        return
    if level != "group":
        raise UnsupportedError(
            f"include= chooses random effects of level='group', not {level!r}"
        )
    if isinstance(include, str):
        raise UnsupportedError(f"include= takes a list, as in [{include!r}]")
    known = [fit.data.groups_name, *(term.factor for term in fit.data.terms)]
    for name in include:
        if name not in known:
            raise UnknownColumnError(
                f"include= names {shown(name)}, which has no random effects; there are "
                f"{', '.join(map(repr, dict.fromkeys(known)))}"
            )


@dataclass(frozen=True)
class NewTerms:
    """
    Further random-effects terms of k new rows.

    Attributes
    ----------
    codes : ndarray of int, shape (k, terms)
        Levels; -1 for those that are not in the fit, or not wanted.
    designs : tuple of ndarray
        Columns of each term's effects.
    """

    codes: IntArray
    designs: tuple[FloatArray, ...]

    @classmethod
    def of_table(
        cls, terms: Sequence[RandomTerm], table: pd.DataFrame, unknown: str
    ) -> NewTerms:
        """
        Those of new rows.

        Raises
        ------
        GroupError
            If a level is not in the fit and `unknown` is ``"error"``.
        """
        codes = np.empty((len(table), len(terms)), dtype=np.intp)
        for t, term in enumerate(terms):
            codes[:, t] = term.numbers(table)
            lost = np.flatnonzero(codes[:, t] < 0)
            if unknown == "error" and len(lost):
                label = tuple(table.iloc[lost[0]][list(term.columns)])
                label = label[0] if len(label) == 1 else label
                raise GroupError(
                    f"level {shown(label)} of {term.factor!r} in row "
                    f"{shown(table.index[lost[0]])} is not in the fit; pass "
                    "unknown='population' to predict it with random effects of zero "
                    "and their variance"
                )
        designs = tuple(term.spec.complete_matrix(table) for term in terms)
        return cls(codes, designs)

    @classmethod
    def of_data(cls, terms: Sequence[RandomTerm]) -> NewTerms:
        """Those of the model's own rows."""
        codes = np.stack([term.codes for term in terms], axis=1)
        return cls(codes, tuple(term.design for term in terms))

    @classmethod
    def of_new_levels(
        cls, terms: Sequence[RandomTerm], table: pd.DataFrame
    ) -> NewTerms:
        """Those of new rows whose effects are drawn anew, whatever their levels."""
        found = cls.of_table(terms, table, "population")
        codes = [table.groupby(list(term.columns)).ngroup() for term in terms]
        return cls(np.stack(codes, axis=1), found.designs)

    @property
    def n_effects(self) -> int:
        """Number of effects of all levels."""
        levels = self.codes.max(axis=0, initial=-1) + 1
        return sum(
            int(n) * design.shape[1]
            for n, design in zip(levels, self.designs, strict=True)
        )

    def add(
        self, out: FloatArray, draws: FloatArray, roots: Sequence[FloatArray]
    ) -> None:
        """
        Add drawn effects to responses.

        Parameters
        ----------
        out : ndarray, shape (k, sets)
        draws : ndarray, shape (sets, n_effects)
            Standard normal.
        roots : sequence of ndarray
            Of the covariances of each term's effects.
        """
        first = 0
        for codes, design, root in zip(self.codes.T, self.designs, roots, strict=True):
            levels, order = int(codes.max(initial=-1)) + 1, design.shape[1]
            own = draws[:, first : first + levels * order]
            effects = own.reshape(len(draws), levels, order) @ root.T
            out += np.einsum("na,sna->ns", design, effects[:, codes])
            first += levels * order

    def take(self, rows: IntArray) -> NewTerms:
        """Some of the rows."""
        designs = tuple(design[rows] for design in self.designs)
        return NewTerms(self.codes[rows], designs)

    def including(self, names: Sequence[str], factors: Sequence[str]) -> NewTerms:
        """The same rows without the effects of factors that are not among some."""
        codes, designs = self.codes.copy(), list(self.designs)
        for t, name in enumerate(names):
            if name not in factors:
                codes[:, t] = -1
                designs[t] = np.zeros_like(designs[t])
        return NewTerms(codes, tuple(designs))

    def without_levels(self) -> NewTerms:
        """The same rows, of no known level."""
        return NewTerms(np.full_like(self.codes, -1), self.designs)

    def mean(self, fit: Fit) -> FloatArray:
        """What the known levels add to the mean, shape (k,)."""
        out = np.zeros(len(self.codes))
        for codes, design, found in zip(
            self.codes.T, self.designs, fit.term_effects, strict=True
        ):
            known = codes >= 0
            out[known] += (design[known] * found.means[codes[known]]).sum(axis=1)
        return out

    def prior_variance(self, fit: Fit) -> FloatArray:
        """Variance of the effects of the other levels, shape (k,)."""
        out = np.zeros(len(self.codes))
        for codes, design, cov in zip(
            self.codes.T, self.designs, fit.term_covs, strict=True
        ):
            own = np.einsum("na,ab,nb->n", design, cov, design)
            out += np.where(codes < 0, own, 0.0)
        return out


class TermErrors:
    """
    Errors of predicted effects that predictions of rows are made of.

    Parameters
    ----------
    fit : Fit
    codes : ndarray of int, shape (n, terms)
        Levels that observed rows met, of which predictions take residuals.
    designs : sequence of ndarray
        Their columns.
    groups : ndarray of int, shape (n,)
        Numbers of their groups, increasing.
    n_groups : int
    """

    def __init__(
        self,
        fit: Fit,
        codes: IntArray,
        designs: Sequence[FloatArray],
        groups: IntArray,
        n_groups: int,
    ) -> None:
        self.fit = fit
        self._posterior = fit.term_posterior
        self._slopes = np.concatenate(
            [found.slopes.reshape(-1, fit.k_fe) for found in fit.term_effects]
        )
        columns, which, owner = [], [], []
        for t, design in enumerate(designs):
            order = design.shape[1]
            met = MetLevels.of(groups, n_groups, codes[:, t])
            most = int(met.count.max(initial=0))
            local = np.zeros((len(groups), most, order))
            local[np.arange(len(groups)), met.number] = design
            numbers = np.full((n_groups, most, order), -1)
            numbers[met.cluster, met.rank] = self._posterior.numbers(t, met.level)
            columns.append(local.reshape(len(groups), most * order))
            which.append(numbers.reshape(n_groups, most * order))
            owner.append(np.full(most * order, t))
        #: columns of the levels that each row's group met, shape (n, l)
        self.columns: FloatArray = np.hstack(columns)
        self._which, self._owner = np.hstack(which), np.concatenate(owner)

    @classmethod
    def of_no_rows(cls, fit: Fit) -> TermErrors:
        """Where no observed rows matter but by the predicted effects."""
        none = np.empty((0, len(fit.layout.terms)), dtype=np.intp)
        designs = [np.empty((0, term.width)) for term in fit.layout.terms]
        return cls(fit, none, designs, np.empty(0, dtype=np.intp), 1)

    def variance(
        self,
        d_x: FloatArray,
        d_met: FloatArray,
        groups: IntArray,
        own: NewTerms,
        cov: FloatArray,
    ) -> FloatArray:
        """
        Variances of ``d_x (beta - b) + d (u - predicted u)``.

        Parameters
        ----------
        d_x : ndarray, shape (m, p)
        d_met : ndarray, shape (m, l)
            Of the effects that the rows' groups met.
        groups : ndarray of int, shape (m,)
        own : NewTerms
            Of the rows themselves.
        cov : ndarray, shape (p, p)
            Of the fixed effects.

        Returns
        -------
        ndarray, shape (m,)
        """
        d, which, owner = [d_met], [self._which[groups]], [self._owner]
        for t, design in enumerate(own.designs):
            numbers = self._posterior.numbers(t, own.codes[:, t])
            which.append(np.where(own.codes[:, t, None] >= 0, numbers, -1))
            d.append(design)
            owner.append(np.full(design.shape[1], t))
        every, at = np.hstack(d), np.hstack(which)
        every = np.where(at >= 0, every, 0.0)
        moved = d_x - np.einsum("ml,mlp->mp", every, self._slopes[np.maximum(at, 0)])
        fixed = np.einsum("mp,pq,mq->m", moved, cov, moved)
        spread = self._posterior.quadratic(np.concatenate(owner), every, at)
        return fixed + self.fit.scale * spread
