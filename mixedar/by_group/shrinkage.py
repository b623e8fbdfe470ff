"""
How far a mixed model draws the estimates of groups toward those of the population.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar._types import FloatArray, IntArray, Seed
from mixedar.by_group import ByGroupOLS, ByGroupResults
from mixedar.by_group.effects import (
    GroupTerms,
    conditional_variances,
    group_terms,
    marginal_variances,
    same_column,
)
from mixedar.by_group.summary import note_on_groups
from mixedar.exceptions import UnsupportedError
from mixedar.fit import Fit
from mixedar.inference.arguments import understands
from mixedar.inference.comparable import same_rows
from mixedar.summary import Printed, ResultFrame, ResultsSummary, SummaryTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_MEANING = (
    "Own: least squares in each group alone; mixed: fixed effect plus predicted "
    "random effect; model: the variance of the random effect. Shrinkage is 1 less "
    "the slope of mixed on own deviations from the population, reliability the "
    "mean squared correlation of predicted and true effects, distances are medians."
)


@dataclass(frozen=True, eq=False, repr=False)
class Shrinkage(Printed):
    """
    Estimates of groups by themselves and in a mixed model, side by side.

    Attributes
    ----------
    table : DataFrame, shape (m k, 7)
        A row for each group and coefficient, its index:

        - ``own``: least squares in the group alone;
        - ``mixed``: fixed effect plus predicted random effect;
        - ``population``: the fixed effect (0 where there is none);
        - ``distance_own``, ``distance_mixed``: absolute distances to it;
        - ``shrinkage``: the part of the way to the population that `mixed` has
          gone, ``1 - (mixed - population) / (own - population)``;
        - ``reliability``: the squared correlation of predicted and true random
          effect in the model, ``1 - var(b | y) / var(b)``.
    measures : DataFrame, shape (k, 8)
        For each coefficient: ``groups`` with an estimate of their own,
        ``variance_own`` and ``variance_mixed`` over these groups, their ``ratio``;
        ``variance_model`` (of the random effect, in ``cov_re``), the
        ``ratio_model`` of ``variance_mixed`` to it; ``shrinkage``, 1 less the slope
        of the mixed deviations from the population on the own ones; and the mean
        ``reliability``.
    cov_re : DataFrame, shape (k, k)
        Covariance of the random effects in the model.
    problems : Series
        Why groups lack an estimate of their own, by group.
    adjusted : list of str
        Fixed effects without a random effect: their contributions were taken out
        of the response before the groups' own regressions.

    Notes
    -----
    With several coefficients the shrinkage of one can be negative or exceed 1,
    since the estimate of one coefficient of a group informs on the others; and it
    is unstable where `own` happens to lie close to the population.  The slope in
    `measures` weighs such groups down.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm(
    ...     "distance ~ age", teeth, groups="subject", re_formula="~age"
    ... ).fit()
    >>> shrinkage = fit.shrinkage()
    >>> shrinkage.coefficients
    ['Intercept', 'age']
    """

    table: pd.DataFrame
    measures: pd.DataFrame
    cov_re: pd.DataFrame
    problems: pd.Series
    adjusted: list[str]
    groups_name: str

    @property
    def coefficients(self) -> list[str]:
        """Names of the k coefficients."""
        return list(self.measures.index)

    @property
    def population(self) -> pd.Series:
        """Estimates of the population, shape (k,)."""
        return self.table["population"].groupby(level=1, sort=False).first()

    def frame(self, what: str) -> pd.DataFrame:
        """
        One column of the table with a row for each group.

        Parameters
        ----------
        what : str
            Name of the column.

        Returns
        -------
        DataFrame, shape (m, k)

        Raises
        ------
        UnsupportedError
            If there is no such column.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> fit = mar.mixedlm(
        ...     "distance ~ age", teeth, groups="subject", re_formula="~age"
        ... ).fit()
        >>> fit.shrinkage().frame("mixed").shape
        (27, 2)
        """
        if what not in self.table.columns:
            raise UnsupportedError(
                f"the table has no column {what!r}; it has {list(self.table.columns)}"
            )
        k = len(self.measures)
        groups = self.table.index.get_level_values(0)[::k]
        values = self.table[what].to_numpy().reshape(-1, k)
        frame = pd.DataFrame(values, groups, self.coefficients)
        return ResultFrame.of(frame, "number")

    def summary(self, title: str | None = None) -> ResultsSummary:
        """
        The measures, and what was compared.

        Parameters
        ----------
        title : str, optional

        Returns
        -------
        ResultsSummary

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> fit = mar.mixedlm(
        ...     "distance ~ age", teeth, groups="subject", re_formula="~age"
        ... ).fit()
        >>> list(fit.shrinkage().summary().to_frames())
        ['variances', 'coefficients']
        """
        measures, table = self.measures, self.table
        names = {
            "Groups": "groups",
            "Own": "variance_own",
            "Mixed": "variance_mixed",
            "Model": "variance_model",
            "Mixed/own": "ratio",
            "Mixed/model": "ratio_model",
        }
        variances = pd.DataFrame({new: measures[old] for new, old in names.items()})
        medians = table.groupby(level=1, sort=False).median()
        means = pd.DataFrame(
            {
                "Population": self.population,
                "Shrinkage": measures["shrinkage"],
                "Reliability": measures["reliability"],
                "Distance, own": medians["distance_own"],
                "mixed": medians["distance_mixed"],
            }
        )
        notes = [_MEANING]
        if self.adjusted:
            notes.append(
                "Taken out of the response before the own regressions, at their "
                f"estimates: {', '.join(self.adjusted)}."
            )
        for reason, labels in self.problems.groupby(self.problems).groups.items():
            notes.append(note_on_groups(reason, labels, "own estimates"))
        ratios = {"Groups": "df", "Mixed/own": "share", "Mixed/model": "share"}
        shares = {"Shrinkage": "share", "Reliability": "share"}
        return ResultsSummary(
            title=title or "Shrinkage toward the population",
            header={"Groups:": f"{self.groups_name} ({len(table) // len(measures)})"},
            tables=[
                SummaryTable(variances, title="Variances", formats=ratios),
                SummaryTable(means, title="Coefficients", formats=shares),
            ],
            notes=notes,
        )

    @understands(seed="rng")
    def plot(
        self,
        kind: str = "density",
        coefficients: str | Sequence[str] | None = None,
        *,
        max_groups: int = 150,
        rng: Seed = 0,
        ax: Axes | Sequence[Axes] | None = None,
    ) -> Axes | Figure | SubFigure:
        """
        Draw own estimates and those of the mixed model.

        Parameters
        ----------
        kind : {"density", "arrows"}
            Densities of the estimates of all groups, with that of the random effect
            in the model (a panel for each coefficient); or an arrow for each group
            from its own estimate to that of the mixed model, in the plane of two
            coefficients, or from left to right for one.
        coefficients : str or sequence of str, optional
            All by default; for arrows the first two.
        max_groups : int
            Of more groups so many have arrows, drawn at random.
        rng : int or Generator
            Of this choice.
        ax : Axes or sequence of Axes, optional
            One for each panel.

        Returns
        -------
        matplotlib.axes.Axes or Figure
            The figure if there are several panels.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> fit = mar.mixedlm(
        ...     "distance ~ age", teeth, groups="subject", re_formula="~age"
        ... ).fit()
        >>> ax = fit.shrinkage().plot("arrows")
        """
        from mixedar.plotting.groups import plot_shrinkage

        return plot_shrinkage(
            self.frame("own"),
            self.frame("mixed"),
            self.population,
            self.measures,
            self.cov_re,
            kind,
            coefficients,
            max_groups=max_groups,
            rng=rng,
            ax=ax,
        )


def shrinkage(fit: Fit, by_group: ByGroupResults | None = None) -> Shrinkage:
    """
    Compare the coefficients of groups in a mixed model with their own regressions.

    The own regressions are least squares on the columns of the random effects.
    What the other fixed effects contribute, at their estimates in the mixed model,
    is taken out of the response first: then all groups have the same population
    value, and differ from it by their random effects and error alone.  Where the
    other fixed effects do not vary within groups (treatment arms), only the
    estimates' origin changes by that.

    Parameters
    ----------
    fit : Fit
    by_group : ByGroupResults, optional
        Regressions of the same rows whose columns include those of the random
        effects; further columns are kept in the own regressions.  By default there
        are none.

    Returns
    -------
    Shrinkage

    Raises
    ------
    UnsupportedError
        If the model has no random effects, or `by_group` has other rows or lacks
        their columns.
    NotComputedError
        If the data were removed from the fit.

    Notes
    -----
    ``ratio`` is below 1 because predictions of random effects vary less than the
    effects (by the reliability, on average) and own estimates vary more (by their
    errors).

    References
    ----------
    Raudenbush, S. W. and Bryk, A. S. (2002), Hierarchical Linear Models, 2nd ed.,
    Sage, chapter 3; Robinson, G. K. (1991), That BLUP is a good thing: the
    estimation of random effects, Statistical Science 6, 15-51.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm(
    ...     "distance ~ age", teeth, groups="subject", re_formula="~age"
    ... ).fit()
    >>> shrinkage = fit.shrinkage()
    >>> shrinkage.coefficients
    ['Intercept', 'age']
    """
    terms = group_terms(fit)
    if not terms.names:
        raise UnsupportedError(
            "the model has no random effect of the groups themselves: there is nothing "
            "that it could draw toward the population (re_formula='1' is a random "
            "intercept)"
        )
    regressions, columns = _regressions(fit, terms, by_group)
    own = regressions.solve(fit.data.endog - fit.fitted_marginal)
    deviations = np.where(own.identified, own.coefficients, np.nan)[columns].T
    predicted = fit.effects.means[:, terms.columns]
    model = marginal_variances(fit)[terms.columns]
    errors = conditional_variances(fit, "known")[:, terms.columns]
    reliability = np.zeros_like(errors)
    np.divide(model - errors, model, out=reliability, where=model > 0.0)
    # effects without a fixed one lie around zero
    population = np.append(fit.fe_params, 0.0)[terms.fixed]
    index = fit.data.group_index
    reasons = regressions.fit().groups["reason"].set_axis(index)
    others = set(range(fit.k_fe)) - set(terms.fixed.tolist())
    return Shrinkage(
        table=_table(
            deviations, predicted, population, reliability, index, terms.names
        ),
        measures=_measures(deviations, predicted, model, reliability, terms.names),
        cov_re=_cov_re(fit, terms),
        problems=reasons.iloc[np.flatnonzero(np.isnan(deviations).any(axis=1))],
        adjusted=[fit.exog_names[j] for j in sorted(others)],
        groups_name=str(index.name),
    )


def _regressions(
    fit: Fit, terms: GroupTerms, by_group: ByGroupResults | None
) -> tuple[ByGroupOLS, IntArray]:
    """The groups' own regressions, and where the columns of the terms are."""
    data = fit.data
    design = data.random_design[:, terms.columns]
    if by_group is None:
        frame = pd.DataFrame(design, columns=terms.names)
        own = ByGroupOLS(data.response, frame, data.codes)
        return own, np.arange(len(terms.names))
    if not isinstance(by_group, ByGroupResults):
        raise UnsupportedError(
            f"by_group= is a {type(by_group).__name__}; pass what by_group(...) returns"
        )
    if not isinstance(by_group.model, ByGroupOLS):
        raise UnsupportedError(
            "by_group= was read from a source, whose rows are not kept; pass "
            "regressions of a frame, or none"
        )
    own = by_group.model
    if own.weights is not None:
        raise UnsupportedError(
            "by_group= has weights, which the comparison does not know; pass "
            "regressions without weights="
        )
    rows = None
    if len(own.endog) == data.nobs and list(own.labels) == data.group_labels:
        both = set(data.exog_names) & set(own.exog_names)
        keys: list[tuple[NDArray[Any], NDArray[Any]]] = [(data.codes, own.codes)]
        for name in both:
            k, j = data.exog_names.index(name), own.exog_names.index(name)
            keys.append((data.exog[:, k], own.exog[:, j]))
        rows = same_rows(data.endog, data.index, own.endog, own.index, keys)
    if rows is None or not np.array_equal(own.codes[rows], data.codes):
        raise UnsupportedError(
            "the regressions by group have other rows, or other groups, than the fit "
            f"({len(own.endog)} and {data.nobs} rows); fit both to the same data"
        )
    own = copy.copy(own)
    own.endog, own.exog, own.codes = own.endog[rows], own.exog[rows], own.codes[rows]
    columns = np.array([same_column(column, own.exog) for column in design.T])
    if (columns < 0).any():
        raise UnsupportedError(
            f"the regressions by group have no column for the random effect "
            f"{terms.names[int(np.argmin(columns))]!r}; theirs are {own.exog_names}"
        )
    return own, columns


def _table(
    deviations: FloatArray,
    predicted: FloatArray,
    population: FloatArray,
    reliability: FloatArray,
    index: pd.Index,
    names: list[str],
) -> pd.DataFrame:
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(deviations != 0.0, 1.0 - predicted / deviations, np.nan)
    labels = pd.MultiIndex.from_product([index, pd.Index(names, name="coefficient")])
    columns = {
        "own": population + deviations,
        "mixed": population + predicted,
        "population": np.broadcast_to(population, deviations.shape),
        "distance_own": np.abs(deviations),
        "distance_mixed": np.abs(predicted),
        "shrinkage": part,
        "reliability": reliability,
    }
    return pd.DataFrame({k: v.ravel() for k, v in columns.items()}, index=labels)


def _measures(
    deviations: FloatArray,
    predicted: FloatArray,
    model: FloatArray,
    reliability: FloatArray,
    names: list[str],
) -> pd.DataFrame:
    own = pd.DataFrame(deviations, columns=pd.Index(names, name="coefficient"))
    mixed = pd.DataFrame(predicted, columns=own.columns).where(own.notna())
    squares = (own * own).sum()
    measures = pd.DataFrame({"groups": own.count(), "variance_own": own.var()})
    measures["variance_mixed"] = mixed.var()
    measures["ratio"] = _ratio(mixed.var(), own.var())
    measures["variance_model"] = model
    measures["ratio_model"] = _ratio(mixed.var(), measures["variance_model"])
    measures["shrinkage"] = 1.0 - _ratio((own * mixed).sum(), squares)
    measures["reliability"] = reliability.mean(axis=0)
    return measures


def _ratio(a: pd.Series, b: pd.Series) -> pd.Series:
    return a / b.where(b > 0.0)


def _cov_re(fit: Fit, terms: GroupTerms) -> pd.DataFrame:
    """Covariance of the terms; variance components stand on their own."""
    values = np.diag(marginal_variances(fit)[terms.columns])
    inner = np.flatnonzero(terms.columns < fit.k_re)
    values[np.ix_(inner, inner)] = fit.cov_re
    return pd.DataFrame(values, index=terms.names, columns=terms.names)
