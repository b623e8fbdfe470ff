"""
Influence of the groups of a fit on its estimates.

Every group is left out in turn.  Given the covariance parameters the
fixed effects without it are exact, from sums over groups that the likelihood
has anyway; the covariance parameters follow by Newton steps, or by new fits.

References
----------
Christensen, R., Pearson, L. M. and Johnson, W. (1992), Case-deletion
diagnostics for mixed models, Technometrics 34, 38-45.

Demidenko, E. and Stukel, T. A. (2005), Influence analysis for linear
mixed-effects models, Statistics in Medicine 24, 893-909.

Belsley, D. A., Kuh, E. and Welsch, R. E. (1980), Regression Diagnostics,
Wiley, chapter 2.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar._types import FloatArray
from mixedar.diagnostics.influence.deletion import Deletions, delete_groups
from mixedar.diagnostics.influence.outlying import (
    external_tests,
    outlier_tests,
    with_adjusted,
)
from mixedar.exceptions import NotComputedError, UnsupportedError, shown
from mixedar.inference.information import information_of

# Up to so many groups the maximum without each is found; beyond, one step.
_FEW = 500
_ENOUGH = 100


class GroupInfluence:
    """
    A fit without each of its groups; made by :func:`influence`.

    Frames and series are indexed by the group labels.

    Parameters
    ----------
    results : MixedLMARResults
    deletions : Deletions
    maxiter : int
    refit : bool

    Attributes
    ----------
    fit : MixedLMARResults
    maxiter : int
        Newton steps that the covariance parameters were allowed.
    refit : bool
    iterations : Series
        Steps that were taken.
    """

    def __init__(
        self, results: Any, deletions: Deletions, maxiter: int, refit: bool
    ) -> None:
        self.fit = results
        self.maxiter, self.refit = maxiter, refit
        self._found = deletions
        model = results.model
        self._index = pd.Index(model.group_labels, name=model.groups_name)
        self._sizes = np.asarray(model._grouped.sizes)
        self._names = list(results._names[: results.k_fe])
        self._names_theta = [*results._names[results.k_fe :], "scale"]
        self.iterations = pd.Series(deletions.iterations, self._index)

    # estimates ------------------------------------------------------------

    @cached_property
    def params(self) -> pd.DataFrame:
        """
        Estimates without each group: fixed effects, variances, ``scale``.

        NaN where the other groups do not determine the fixed effects.
        """
        return pd.DataFrame(
            np.concatenate([self._found.beta, self._theta], axis=1),
            index=self._index,
            columns=[*self._names, *self._names_theta],
        )

    @property
    def _theta(self) -> FloatArray:
        found = self._found
        parts = [found.cov_values, found.residual_params, found.scale[:, None]]
        return np.concatenate(parts, axis=1)

    @cached_property
    def _change(self) -> FloatArray:
        """Estimate of all groups less that without each, shape (m, p)."""
        return np.asarray(self.fit.fe_params) - self._found.beta

    @cached_property
    def _change_theta(self) -> FloatArray:
        whole = np.append(np.asarray(self.fit.params)[self.fit.k_fe :], self.fit.scale)
        return whole - self._theta

    def _series(self, values: FloatArray, name: str) -> pd.Series:
        return pd.Series(values, index=self._index, name=name)

    # fixed effects --------------------------------------------------------

    @cached_property
    def _cov_beta(self) -> FloatArray:
        p = self.fit.k_fe
        return np.asarray(self.fit._modes[0][0].cov_beta).reshape(p, p)

    @cached_property
    def cooks_distance(self) -> pd.Series:
        """
        Cook's distance of the fixed effects.

        ``d' Cov(b)^-1 d / p`` with the change ``d`` of the estimate.
        """
        p = max(self.fit.k_fe, 1)
        solved = np.linalg.solve(self._cov_beta, self._change.T)
        values = np.einsum("mi,im->m", self._change, solved) / p
        return self._series(values, "cooks_d")

    @cached_property
    def mdffits(self) -> pd.Series:
        """As Cook's distance, with the covariance matrix without the group."""
        cov = self._found.cov_beta
        lost: NDArray[np.bool_] = np.any(~np.isfinite(cov), axis=(1, 2))
        cov = np.where(lost[:, None, None], self._cov_beta, cov)
        solved = np.linalg.solve(cov, self._change[..., None])[..., 0]
        values = np.einsum("mi,mi->m", self._change, solved) / max(self.fit.k_fe, 1)
        return self._series(values, "mdffits")

    @cached_property
    def _cov_ratios(self) -> tuple[FloatArray, FloatArray]:
        """Determinant and trace of ``Cov(b)^-1 Cov(b without the group)``."""
        ratio = np.linalg.solve(self._cov_beta, self._found.cov_beta)
        lost: NDArray[np.bool_] = np.any(~np.isfinite(ratio), axis=(1, 2))
        ratio = np.where(lost[:, None, None], np.eye(self.fit.k_fe), ratio)
        determinant = np.where(lost, np.nan, np.linalg.det(ratio))
        return determinant, np.where(lost, np.nan, np.einsum("mii->m", ratio))

    @cached_property
    def covratio(self) -> pd.Series:
        """
        Ratio of determinants of the fixed effects' covariance matrices.

        Above one: the group makes the estimates more precise.
        """
        return self._series(self._cov_ratios[0], "covratio")

    @cached_property
    def covtrace(self) -> pd.Series:
        """``|tr(Cov(b)^-1 Cov(b without the group)) - p|``."""
        values = np.abs(self._cov_ratios[1] - self.fit.k_fe)
        return self._series(values, "covtrace")

    @cached_property
    def dfbeta(self) -> pd.DataFrame:
        """Changes of the fixed effects: with all groups, less without each."""
        return pd.DataFrame(self._change, self._index, self._names)

    @cached_property
    def dfbetas(self) -> pd.DataFrame:
        """
        Changes of the fixed effects in standard errors without the group.

        Positive: with the group the coefficient is larger.
        """
        errors = np.sqrt(np.einsum("mii->mi", self._found.cov_beta))
        return pd.DataFrame(self._change / errors, self._index, self._names)

    # covariance parameters ------------------------------------------------

    @cached_property
    def dftheta(self) -> pd.DataFrame:
        """
        Changes of the covariance parameters in standard errors of the fit.

        NaN for parameters without a standard error: held ones, and those of a
        covariance on the boundary.
        """
        variances = np.diag(self.fit._modes[0][0].cov_theta)
        errors = np.sqrt(np.where(variances > 0.0, variances, np.nan))
        return pd.DataFrame(self._change_theta / errors, self._index, self._names_theta)

    @cached_property
    def cooks_distance_theta(self) -> pd.Series:
        """
        Cook's distance of the covariance parameters.

        ``d' I d / k`` with the change ``d`` of the k estimated variances,
        covariances and residual parameters (the residual variance included)
        and their information ``I``: the observed one, or on the boundary,
        where that has no inverse, the expected one.
        """
        k = self.fit._k_estimated - self.fit.k_fe
        change = self._change_theta
        values = np.einsum("mi,ij,mj->m", change, information_of(self.fit), change)
        return self._series(values / k, "cooks_d_theta")

    # groups ---------------------------------------------------------------

    @cached_property
    def leverage(self) -> pd.Series:
        """
        Share of the fixed effects that a group determines; the sum is p.

        The trace of its part of ``X (X'V^-1 X)^-1 X'V^-1``.
        """
        return self._series(self._found.statistics.leverage, "leverage")

    @cached_property
    def leverage_re(self) -> pd.Series:
        """
        What predicting its random effects takes of a group's observations.

        With :attr:`leverage` this adds up to the effective number of
        coefficients (Vaida and Blanchard, 2005, Biometrika 92, 351-370).
        """
        return self._series(self._found.statistics.leverage_re, "leverage_re")

    def outlier_test(
        self, method: str = "holm", *, external: bool = False
    ) -> pd.DataFrame:
        """
        F tests whether each group belongs to the model.

        Parameters
        ----------
        method : str
            How p-values are adjusted for the number of groups, of
            :func:`statsmodels.stats.multitest.multipletests`.
        external : bool
            Judge groups that stand out (p < 0.05) by the covariance parameters
            without them, which a group that is far out has not made larger.

        Returns
        -------
        DataFrame
            ``F``, ``df``, ``p`` and ``p_adj`` of the group as a whole; with
            ``_re`` of its random effects, with ``_within`` of the scatter around
            them.  See :mod:`mixedar.diagnostics.influence.outlying`.

        Raises
        ------
        UnsupportedError
            For an unknown method.
        """
        fit, found = self.fit, self._found
        frame = outlier_tests(found.statistics, fit.nobs - fit.k_fe, self._index)
        if external:
            frame = external_tests(frame, fit, found)
        return with_adjusted(frame, method)

    def summary_frame(self) -> pd.DataFrame:
        """
        All measures, a row a group.

        Returns
        -------
        DataFrame
            ``nobs``; ``cooks_d``, ``mdffits``, ``covratio`` and ``covtrace`` of
            the fixed effects; ``cooks_d_theta`` of the covariance parameters;
            ``leverage``, ``leverage_re``; F statistic and p-value, not adjusted,
            of the group as an outlier; ``iterations``; then ``dfb_<name>``.
        """
        tests = outlier_tests(
            self._found.statistics, self.fit.nobs - self.fit.k_fe, self._index
        )
        frame = pd.DataFrame(
            {
                "nobs": self._sizes,
                "cooks_d": self.cooks_distance,
                "mdffits": self.mdffits,
                "covratio": self.covratio,
                "covtrace": self.covtrace,
                "cooks_d_theta": self.cooks_distance_theta,
                "leverage": self.leverage,
                "leverage_re": self.leverage_re,
                "outlier_F": tests["F"],
                "outlier_p": tests["p"],
                "iterations": self.iterations,
            },
            index=self._index,
        )
        return frame.join(self.dfbetas.add_prefix("dfb_"))

    def plot_index(
        self, y_var: str = "cooks_d", labels: int = 5, ax: Any = None
    ) -> Any:
        """
        A measure by group, the largest labelled.

        See :func:`mixedar.plotting.influence.plot_index`.
        """
        from mixedar.plotting.influence import plot_index

        return plot_index(self, y_var, labels, ax)

    def plot_dfbetas(self, theta: bool = False, labels: int = 3) -> Any:
        """
        Changes of each coefficient by group, a panel a coefficient.

        See :func:`mixedar.plotting.influence.plot_dfbetas`.
        """
        from mixedar.plotting.influence import plot_dfbetas

        return plot_dfbetas(self, theta, labels)

    def __repr__(self) -> str:
        how = "refits" if self.refit else f"at most {self.maxiter} steps"
        largest = self.cooks_distance
        where = (
            "" if largest.isna().all() else f", largest at {shown(largest.idxmax())}"
        )
        return (
            f"<GroupInfluence of {len(self._index)} groups, {how}: Cook's distance up "
            f"to {largest.max():.3g}{where}>"
        )


def influence(
    results: Any,
    maxiter: int | None = None,
    *,
    refit: bool = False,
    progress: bool = False,
) -> GroupInfluence:
    """
    Leave out every group of a fit in turn.

    Parameters
    ----------
    results : MixedLMARResults
    maxiter : int, optional
        Newton steps of the covariance parameters from the estimate of all
        groups.  0 holds them (but for the residual variance, which has a
        closed form): the classical deletion diagnostics.  1 is a step for all
        groups at once, whose cost grows with the number of groups alone; a
        group for which one step is too short a way is iterated for all that.
        More steps, each with the exact likelihood without the group, lead to
        its maximum near by.  By default that maximum for up to 500 groups, and
        one step for more.
    refit : bool
        Fit the model to the other groups instead, each time from the estimate
        of all groups.  The same result as many steps, by another way.
    progress : bool
        A progress bar where groups are taken one by one.

    Returns
    -------
    GroupInfluence

    Raises
    ------
    UnsupportedError
        If `maxiter` is no whole number from 0 up.
    NotComputedError
        If there is one group only, or the data were removed from the fit.

    Notes
    -----
    Deleting a group from the restricted likelihood is exact: its terms are
    taken out of ``X'V^-1 X``, of ``X'V^-1 y`` and of their derivatives, and the
    determinant is that of what is left.  A variance function of the fitted values
    goes on reading those of all groups.
    """
    results = getattr(results, "_results", results)
    whole = isinstance(maxiter, (int, np.integer)) and not isinstance(maxiter, bool)
    if maxiter is not None and not (whole and maxiter >= 0):
        raise UnsupportedError(
            f"maxiter={maxiter!r} is not a whole number from 0 up; None chooses"
        )
    results.fit.problem  # noqa: B018  says so if the data are gone
    if results.n_groups < 2:
        raise NotComputedError(
            "there is one group only: nothing is left without it. Influence is by "
            "group; name smaller groups with groups="
        )
    if maxiter is None:
        maxiter = _ENOUGH if results.n_groups <= _FEW else 1
    found = delete_groups(results, int(maxiter), refit=refit, progress=progress)
    return GroupInfluence(results, found, int(maxiter), refit)
