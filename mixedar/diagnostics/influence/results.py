"""
Influence of the groups of a fit on its estimates.

Every group is left out in turn.  Given the covariance parameters the
fixed effects without it are exact, from sums over groups that the likelihood
has anyway; the covariance parameters follow by Newton steps.

With the covariance parameters known, giving a group a mean of its own lowers
the weighted residual sum of squares by the group's squared Mahalanobis distance
from what the other groups predict, and the ratio to what is left is F
distributed.  It splits into the part of the group's random effects (is its
level, or its slope, like those of the others?) and the part within the group
(do its observations scatter around its own level and slope as those of others
do?).

References
----------
Christensen, R., Pearson, L. M. and Johnson, W. (1992), Case-deletion
diagnostics for mixed models, Technometrics 34, 38-45.

Demidenko, E. and Stukel, T. A. (2005), Influence analysis for linear
mixed-effects models, Statistics in Medicine 24, 893-909.

Cook, R. D. and Weisberg, S. (1982), Residuals and Influence in Regression,
Chapman and Hall, section 2.2.2.

Langford, I. H. and Lewis, T. (1998), Outliers in multilevel data, Journal of
the Royal Statistical Society A 161, 121-160.

Belsley, D. A., Kuh, E. and Welsch, R. E. (1980), Regression Diagnostics,
Wiley, chapter 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.diagnostics.influence.deletion import (
    DeletionCoordinates,
    Deletions,
    delete_groups,
)
from mixedar.diagnostics.influence.linked import LinkedCoordinates, are_apart
from mixedar.exceptions import (
    ConvergenceWarning,
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
    check_flags,
    listing,
    shown,
    warn,
)
from mixedar.fit import Fit
from mixedar.fit.linked import group_levels, linked_rows
from mixedar.hypotheses.df import constant_within
from mixedar.inference.information import information
from mixedar.summary import NamedInALine, ResultFrame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Up to so many groups the maximum without each is found; beyond, one step.
_FEW = 500
# So much for levels that are linked: rows times levels, of the maximum and of a step.
_MAXIMUM, _STEP = 100_000, 500_000
_ENOUGH = 100
# Groups with a p-value above are none of interest when taken by themselves, ...
_SUSPECT = 0.05
# ... nor are more than so many: one group among many hides little.
_MOST = 50


@dataclass(frozen=True)
class LeftOut:
    """
    What is left out: the levels of a factor.

    Attributes
    ----------
    factor : str
    levels : Index
    codes : ndarray of int, shape (n,)
        Level of each row.
    """

    factor: str
    levels: pd.Index
    codes: IntArray

    @classmethod
    def of(cls, fit: Fit, by: str | None) -> LeftOut:
        """
        The levels of a factor of the model.

        By default those of the groups, or of the outermost factor that they are
        nested in.

        Raises
        ------
        UnknownColumnError
            If the model has no such factor.
        """
        data = fit.data
        found = {
            term.factor: cls(term.factor, term.levels, term.codes)
            for term in data.factor_terms
        }
        if data.groups_name not in found:
            index = group_levels(fit) if data.terms else data.group_index
            found[data.groups_name] = cls(data.groups_name, index, data.codes)
        if by is None:
            outermost = linked_rows(fit).word if data.terms else data.groups_name
            by = outermost if outermost in found else data.groups_name
        if not isinstance(by, str) or by not in found:
            given = repr(by) if isinstance(by, str) else f"a {type(by).__name__}"
            raise UnknownColumnError(
                f"by={given} is no factor of the model: choose "
                f"{', '.join(map(repr, found))}"
            )
        return found[by]

    def coordinates(self, fit: Fit) -> DeletionCoordinates:
        """The likelihood, in units that make deletions simple."""
        if not fit.data.terms:
            return DeletionCoordinates(fit)
        return LinkedCoordinates(fit, self.codes, self.factor)


class GroupInfluence(NamedInALine):
    """
    A fit without each of its groups; made by :func:`influence`.

    Frames and series are indexed by the labels of the groups, or of the levels of
    another factor.

    Parameters
    ----------
    fit : Fit
    left_out : LeftOut
    maxiter : int
    progress : bool

    Attributes
    ----------
    fit : Fit
        With all groups.
    by : str
        The factor whose levels are left out.
    maxiter : int
        Newton steps that the covariance parameters were allowed.
    iterations : Series
        Steps that were taken.
    converged : Series
        False where the search for the maximum without a group ended before it, or
        could not begin (NaN then): such measures say little.  As many steps as it
        takes are allowed unless `maxiter` says otherwise.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> influence = fit.influence()
    >>> influence.cooks_distance.idxmax()
    'M13'
    >>> influence.dfbetas.shape
    (27, 2)
    """

    def __init__(
        self, fit: Fit, left_out: LeftOut, maxiter: int, progress: bool = False
    ) -> None:
        self.fit, self.maxiter, self.by = fit, maxiter, left_out.factor
        self._left_out = left_out
        at = left_out.coordinates(fit)
        self._found = delete_groups(at, maxiter, progress=progress)
        self._index = left_out.levels
        self._names = list(fit.exog_names)
        self._names_theta = [*fit.names[fit.k_fe :], "scale"]
        self.iterations = pd.Series(self._found.iterations, self._index)
        self.converged = pd.Series(self._found.converged, self._index)

    @property
    def unsettled(self) -> pd.Index:
        """Groups without which no maximum was found, though steps were not limited."""
        limited = 1 < self.maxiter < _ENOUGH
        return self._index[~self._found.converged & (not limited)]

    # estimates ------------------------------------------------------------

    @cached_property
    def params(self) -> pd.DataFrame:
        """
        Estimates without each group: fixed effects, variances, ``scale``.

        NaN where the other groups do not determine the fixed effects.
        """
        values = np.concatenate([self._found.beta, self._theta], axis=1)
        return self._frame(values, [*self._names, *self._names_theta])

    @property
    def _theta(self) -> FloatArray:
        found = self._found
        parts = [found.cov_values, found.residual_params, found.scale[:, None]]
        return np.concatenate(parts, axis=1)

    @cached_property
    def _change(self) -> FloatArray:
        """Estimate of all groups less that without each, shape (m, p)."""
        return self.fit.fe_params - self._found.beta

    @cached_property
    def _change_theta(self) -> FloatArray:
        whole = np.append(self.fit.params[self.fit.k_fe :], self.fit.scale)
        return whole - self._theta

    def _frame(self, values: FloatArray, names: list[str]) -> ResultFrame:
        """Values by group and parameter."""
        return ResultFrame.of(pd.DataFrame(values, self._index, names), "number")

    def _series(self, values: FloatArray, name: str) -> pd.Series:
        return pd.Series(values, index=self._index, name=name)

    # fixed effects --------------------------------------------------------

    @cached_property
    def cooks_distance(self) -> pd.Series:
        """
        Cook's distance of the fixed effects.

        ``d' Cov(b)^-1 d / p`` with the change ``d`` of the estimate.
        """
        p = max(self.fit.k_fe, 1)
        solved = np.linalg.solve(self.fit.cov_beta, self._change.T)
        values = np.einsum("mi,im->m", self._change, solved) / p
        return self._series(values, "cooks_d")

    @cached_property
    def mdffits(self) -> pd.Series:
        """As Cook's distance, with the covariance matrix without the group."""
        cov = self._found.cov_beta
        lost: BoolArray = np.any(~np.isfinite(cov), axis=(1, 2))
        cov = np.where(lost[:, None, None], self.fit.cov_beta, cov)
        solved = np.linalg.solve(cov, self._change[..., None])[..., 0]
        values = np.einsum("mi,mi->m", self._change, solved) / max(self.fit.k_fe, 1)
        return self._series(values, "mdffits")

    @cached_property
    def _cov_ratios(self) -> tuple[FloatArray, FloatArray]:
        """Determinant and trace of ``Cov(b)^-1 Cov(b without the group)``."""
        ratio = np.linalg.solve(self.fit.cov_beta, self._found.cov_beta)
        lost: BoolArray = np.any(~np.isfinite(ratio), axis=(1, 2))
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
        return self._frame(self._change, self._names)

    @cached_property
    def dfbetas(self) -> pd.DataFrame:
        """
        Changes of the fixed effects in standard errors without the group.

        Positive: with the group the coefficient is larger.
        """
        errors = np.sqrt(np.einsum("mii->mi", self._found.cov_beta))
        return self._frame(self._change / errors, self._names)

    # covariance parameters ------------------------------------------------

    @cached_property
    def dftheta(self) -> pd.DataFrame:
        """
        Changes of the covariance parameters in standard errors of the fit.

        NaN for parameters without a standard error: held ones, and those of a
        covariance on the boundary.
        """
        variances = np.diag(self.fit.estimate.cov_theta)
        errors = np.sqrt(np.where(variances > 0.0, variances, np.nan))
        return self._frame(self._change_theta / errors, self._names_theta)

    @cached_property
    def cooks_distance_theta(self) -> pd.Series:
        """
        Cook's distance of the covariance parameters.

        ``d' I d / k`` with the change ``d`` of the k estimated variances,
        covariances and residual parameters (the residual variance included)
        and their information ``I``: the observed one, or on the boundary,
        where that has no inverse, the expected one.
        """
        k = self.fit.k_estimated - self.fit.k_fe
        change = self._change_theta
        values = np.einsum("mi,ij,mj->m", change, information(self.fit), change)
        return self._series(values / k, "cooks_d_theta")

    # groups ---------------------------------------------------------------

    @cached_property
    def leverage(self) -> pd.Series:
        """
        Share of the fixed effects that a group determines; the sum is p.

        The trace of its part of ``X (X'V^-1 X)^-1 X'V^-1``.
        """
        return self._series(self._found.leverage, "leverage")

    @cached_property
    def leverage_re(self) -> pd.Series:
        """
        What predicting its random effects takes of a group's observations.

        With :attr:`leverage` this adds up to the effective number of
        coefficients (Vaida and Blanchard, 2005, Biometrika 92, 351-370).
        """
        return self._series(self._found.leverage_re, "leverage_re")

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
            them.

        Raises
        ------
        UnsupportedError
            For an unknown method.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> influence = fit.influence()
        >>> influence.outlier_test().columns.tolist()
        ['F', 'df', 'p', 'p_adj', 'F_re', 'df_re', 'p_re', 'p_adj_re', 'F_within',
         'df_within', 'p_within', 'p_adj_within']
        """
        check_flags(external=external)
        frame = self._outlier_tests
        if external:
            frame = external_tests(frame, self.fit, self._left_out, self._found)
        return ResultFrame.of(with_adjusted(frame, method))

    @cached_property
    def _outlier_tests(self) -> pd.DataFrame:
        return outlier_tests(self._found, self.fit.nobs - self.fit.k_fe, self._index)

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

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> influence = fit.influence()
        >>> influence.summary_frame().shape[0]
        27
        """
        tests = self._outlier_tests
        frame = pd.DataFrame(
            {
                "nobs": self._found.rank,
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
        return ResultFrame.of(frame.join(self.dfbetas.add_prefix("dfb_")))

    def plot_index(
        self, y_var: str = "cooks_d", labels: int = 5, ax: Axes | None = None
    ) -> Axes:
        """
        A measure by group, the largest labelled.

        A broken line at four divided by the number of groups marks large distances,
        by a common rule of thumb.

        Parameters
        ----------
        y_var : str
            A column of :meth:`summary_frame`.
        labels : int
            How many of the largest values to label.
        ax : matplotlib Axes, optional

        Returns
        -------
        matplotlib.axes.Axes

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> influence = fit.influence()
        >>> ax = influence.plot_index("cooks_d")
        """
        from mixedar.plotting.groups import plot_index

        return plot_index(self.summary_frame(), y_var, labels, ax)

    def plot_dfbetas(self, theta: bool = False, labels: int = 3) -> Figure | SubFigure:
        """
        Changes of each coefficient by group, a panel a coefficient.

        Broken lines at two divided by the root of the number of groups mark large
        changes, by a common rule of thumb.

        Parameters
        ----------
        theta : bool
            Whether to draw changes of the covariance parameters instead.
        labels : int
            How many of the largest changes to label in each panel.

        Returns
        -------
        matplotlib.figure.Figure or SubFigure

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> influence = fit.influence()
        >>> figure = influence.plot_dfbetas()
        >>> len(figure.axes)
        2
        """
        from mixedar.plotting.groups import plot_dfbetas

        check_flags(theta=theta)
        return plot_dfbetas(self.dftheta if theta else self.dfbetas, labels)

    def __repr__(self) -> str:
        largest, where = self.cooks_distance, ""
        what = f"levels of {self.by}" if self.fit.data.terms else "groups"
        if largest.notna().any():
            where = f", largest at {shown(largest.idxmax())}"
        return (
            f"<GroupInfluence of {len(self._index)} {what}, at most {self.maxiter} "
            f"steps: Cook's distance up to {largest.max():.3g}{where}>"
        )


def influence(
    fit: Fit,
    maxiter: int | None = None,
    *,
    by: str | None = None,
    progress: bool = False,
) -> GroupInfluence:
    """
    Leave out every group of a fit in turn, or every level of another factor.

    Parameters
    ----------
    fit : Fit
    maxiter : int, optional
        Newton steps of the covariance parameters from the estimate of all
        groups.  0 holds them (but for the residual variance, which has a
        closed form): the classical deletion diagnostics.  1 is a step for all
        groups at once, whose cost grows with the number of groups alone; a
        group for which one step is too short a way is iterated for all that.
        More steps, each with the exact likelihood without the group, lead to
        its maximum near by.  By default that maximum for up to 500 groups, and
        one step for more.

        Levels of a factor that crosses others, or lies in another, are linked: all
        that is left has to be looked at for each.  There the default is the maximum
        if levels times rows are at most 100,000, one step up to 500,000, and none
        beyond.
    by : str, optional
        With random effects of several factors, the one whose levels are left out:
        ``"item"``, ``"school:pupil"``.  By default the groups, or the outermost
        factor that they are nested in.
    progress : bool
        A progress bar where groups are taken one by one.

    Returns
    -------
    GroupInfluence

    Raises
    ------
    UnsupportedError
        If `maxiter` is no whole number from 0 up.
    UnknownColumnError
        If the model has no factor `by`.
    NotComputedError
        If there is one group only, or the data were removed from the fit.

    Notes
    -----
    Deleting a group from the restricted likelihood is exact: its terms are
    taken out of ``X'V^-1 X``, of ``X'V^-1 y`` and of their derivatives, and the
    determinant is that of what is left.  A variance function of the fitted values
    goes on reading those of all groups.  Rows that stay keep their times: where a
    level of a crossed factor goes, there is a gap in the series of the groups.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> fit = mar.mixedlm("distance ~ age + (age | subject)", load_orthodont()).fit()
    >>> fit.influence().cooks_distance.idxmax()
    'M13'
    """
    found = without_each(fit, maxiter, by=by, progress=progress)
    lost = found.unsettled.tolist()
    if lost:
        text = (
            f"without {found.by} = {listing(lost)} no maximum of the likelihood was "
            "found: see influence.converged. Too many parameters for so few groups, "
            "perhaps; take a simpler residual structure"
        )
        warn(ConvergenceWarning(text))
    return found


def without_each(
    fit: Fit,
    maxiter: int | None = None,
    *,
    by: str | None = None,
    progress: bool = False,
) -> GroupInfluence:
    """What :func:`influence` gives, for readers that say themselves what it lacks."""
    whole = isinstance(maxiter, (int, np.integer)) and not isinstance(maxiter, bool)
    if maxiter is not None and not (whole and maxiter >= 0):
        raise UnsupportedError(
            f"maxiter={shown(maxiter)} is not a whole number from 0 up; None chooses"
        )
    fit.data  # noqa: B018  raises if they were removed
    fit.check_scale_estimated("influence()")
    fit.check_maximum("influence()")
    left_out = LeftOut.of(fit, by)
    m = len(left_out.levels)
    if m < 2:
        raise NotComputedError(
            "there is one group only: nothing is left without it. Influence is by "
            "group; name smaller groups with groups="
        )
    if maxiter is None:
        maxiter = _ENOUGH if m <= _FEW else 1
        if fit.data.terms and not are_apart(fit, m):
            work = m * fit.nobs
            maxiter = _ENOUGH if work <= _MAXIMUM else int(work <= _STEP)
    return GroupInfluence(fit, left_out, int(maxiter), progress)


def outlier_tests(found: Deletions, df_resid: int, index: pd.Index) -> pd.DataFrame:
    """
    F tests of every group, the covariance parameters being those of all groups.

    ``F``, ``df`` and ``p`` of the group as a whole, then the same with ``_re`` for
    its random effects and with ``_within`` for the rest.  NaN where there is
    nothing to test.
    """
    whole, effects, n, q = found.shift, found.shift_re, found.rank, found.rank_re
    within = np.maximum(whole - effects, 0.0)
    parts = {
        "": (whole, n, 1.0 - whole, df_resid - n),
        "_re": (effects, q, 1.0 - effects, df_resid - q),
        "_within": (within, n - q, 1.0 - whole, df_resid - n),
    }
    columns: dict[str, Any] = {}
    for name, (share, df, rest, df_rest) in parts.items():
        there = (df > 0) & (df_rest > 0) & (rest > 0.0)
        ratio = np.full(len(share), np.nan)
        np.divide(share * df_rest, rest * np.maximum(df, 1), out=ratio, where=there)
        columns[f"F{name}"], columns[f"df{name}"] = ratio, df
        columns[f"p{name}"] = stats.f.sf(
            ratio, np.maximum(df, 1), np.maximum(df_rest, 1)
        )
    return pd.DataFrame(columns, index=index)


def external_tests(
    frame: pd.DataFrame, fit: Fit, left_out: LeftOut, found: Deletions
) -> pd.DataFrame:
    """
    The same for groups that stand out, by covariance parameters without them.

    A group that is far out has made the variances larger, which hides it.  The
    variances of the random effects come from as many values as there are other
    groups, so the test of a group's random effects is Hotelling's.  The rows with
    the smallest p-values below 0.05 (50 at most) are new.  There ``p`` of the group
    as a whole is twice the smaller one of its parts.
    """
    columns = {name: frame[name].to_numpy(copy=True) for name in frame.columns}
    low = frame[["p", "p_re", "p_within"]].min(axis=1).to_numpy()
    low = np.where(np.isfinite(found.scale), low, np.nan)
    suspects = np.argsort(low, kind="stable")[:_MOST]
    suspects = suspects[low[suspects] < _SUSPECT]
    if len(suspects) == 0:
        return frame
    at, codes = left_out.coordinates(fit), left_out.codes
    df_groups = len(frame) - 1 - int(constant_within(fit.data.exog, codes).sum())
    df_resid = fit.nobs - fit.k_fe
    for i in suspects:
        try:
            whole, effects = _distances(at, int(i), found.theta[i])
        except np.linalg.LinAlgError:
            continue
        n, q = int(frame["df"].iloc[i]), int(frame["df_re"].iloc[i])
        nu = max(df_groups - q + 1, 1)
        parts = {
            "_re": (effects, q, nu, nu / max(df_groups, nu)),
            "_within": (max(whole - effects, 0.0), n - q, df_resid - n, 1.0),
        }
        smallest = 1.0
        for name, (distance, df, df_rest, factor) in parts.items():
            if df > 0 and df_rest > 0:
                ratio = distance / df * factor
                p = float(stats.f.sf(ratio, df, df_rest))
                columns[f"F{name}"][i], columns[f"p{name}"][i] = ratio, p
                smallest = min(smallest, p)
        columns["F"][i], columns["p"][i] = whole / n, min(1.0, 2.0 * smallest)
    return pd.DataFrame(columns, index=frame.index)


def with_adjusted(frame: pd.DataFrame, method: str) -> pd.DataFrame:
    """P-values adjusted for the number of groups beside them."""
    out = {}
    for column in frame.columns:
        out[column] = frame[column]
        if column.startswith("p"):
            adjusted = _adjusted(frame[column].to_numpy(), method)
            out[f"p_adj{column[1:]}"] = pd.Series(adjusted, frame.index)
    return pd.DataFrame(out)


def _adjusted(p: FloatArray, method: str) -> FloatArray:
    """P-values adjusted over those that there are."""
    out = np.full(len(p), np.nan)
    there = ~np.isnan(p)
    values = p[there]
    if method == "holm":  # the default; multipletests takes its time
        order = np.argsort(values, kind="stable")
        raised = values[order] * np.arange(len(values), 0, -1)
        adjusted = np.empty(len(values))
        adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
        out[there] = adjusted
        return out
    try:
        adjusted = multipletests(values if there.any() else [1.0], method=method)[1]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnsupportedError(
            f"method={method!r} is not known: choose 'holm', 'bonferroni', 'fdr_bh' or "
            "another of statsmodels' multipletests"
        ) from error
    if there.any():
        out[there] = adjusted
    return out


def _distances(
    at: DeletionCoordinates, group: int, theta: FloatArray
) -> tuple[float, float]:
    """
    Squared distances of a group from what the others predict.

    ``r'(H + X C X')^-1 r / s2`` with the residuals ``r``, their variance and
    ``C`` all without the group; of it, the part along the group's ``Z``.
    """
    p = len(at.w_map) - 1
    others = at.without(group).profile_at(theta, derivatives=False)
    s, zz, zw = at.own(group, theta)
    e = np.append(-others.beta, 1.0)
    both = np.linalg.inv(others.sxx_inverse) + s[:p, :p]
    across = s[:p] @ e
    whole = float(e @ s @ e - across @ np.linalg.solve(both, across))
    turned = np.linalg.solve(both, zw[:, :p].T).T
    score = zw @ e - turned @ across
    precision = zz - turned @ zw[:, :p].T
    values, vectors = np.linalg.eigh(precision) if len(zz) else (np.zeros(0), zz)
    there = values > 1e-9 * max(float(np.trace(zz)), 1e-300)
    parts = (vectors.T @ score)[there] ** 2 / values[there]
    return whole / others.scale, float(parts.sum()) / others.scale
