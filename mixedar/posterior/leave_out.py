"""
What groups contribute to the likelihood of draws, and predictions without them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from mixedar._types import FloatArray, IntArray
from mixedar.engine.batch import ManyPoints
from mixedar.engine.blocks.base import ParameterPoint
from mixedar.engine.compress import ClusterRows
from mixedar.engine.groups import sums_apart
from mixedar.exceptions import UnsupportedError, check_choice
from mixedar.fit import Fit
from mixedar.fit.linked import group_levels, linked_rows
from mixedar.inference.arguments import check_count
from mixedar.posterior.psis import GOOD, smoothed
from mixedar.posterior.results import Posterior
from mixedar.summary import Printed, ResultFrame, ResultsSummary, SummaryTable


@dataclass(frozen=True, eq=False, repr=False)
class LeaveOneOut(Printed):
    """
    Expected log predictive density of new groups.

    Attributes
    ----------
    table : DataFrame, a row a group
        ``elpd``, what the group counts for the ``p`` of parameters, and Pareto's ``k``
        of its weights.
    word : str
        What is left out one by one, as a plural: groups, or levels of a factor.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ").fit()
    >>> fit.posterior(draws=1000, rng=1).loo().table.shape
    (27, 3)
    """

    table: pd.DataFrame
    word: str = "groups"

    @property
    def elpd(self) -> float:
        """Expected log predictive density, summed over groups."""
        return float(self.table["elpd"].sum())

    @property
    def se(self) -> float:
        """Standard error of `elpd`, by how groups differ."""
        return float(np.sqrt(len(self.table)) * self.table["elpd"].std())

    @property
    def p_loo(self) -> float:
        """Effective number of parameters."""
        return float(self.table["p"].sum())

    @property
    def looic(self) -> float:
        """``-2 elpd``."""
        return -2.0 * self.elpd

    def summary(self) -> ResultsSummary:
        """
        The sums, and the groups whose weights have heavy tails.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> page = model.fit().posterior(draws=1000, rng=1).loo().summary().as_text()
        """
        bad = self.table[self.table["k"] > GOOD]
        values = {"elpd": self.elpd, "p_loo": self.p_loo, "looic": self.looic}
        frame = pd.DataFrame({"Value": values})
        frame["Std.Err."] = [self.se, np.nan, 2.0 * self.se]
        notes = []
        if len(bad):
            named = ", ".join(map(str, bad.index[:5]))
            notes.append(
                f"Pareto k is above {GOOD} in {len(bad)} of {len(self.table)} "
                f"{self.word} ({named}): without them the parameters are others, and "
                "elpd is not reliable"
            )
        header = {
            f"No. {self.word}:": len(self.table),
            "Largest Pareto k:": f"{self.table['k'].max():.2f}",
        }
        return ResultsSummary(
            title="Leave-one-group-out cross-validation",
            header=header,
            tables=[SummaryTable(frame, "Criterion", name="criteria")],
            notes=notes,
        )


def log_likelihood(
    post: Posterior, by: str = "group", draws: int = 1000
) -> pd.DataFrame:
    """
    Log-likelihood of each group given the parameters, random effects integrated out.

    Of nested factors the parts are those of the outermost one's levels.

    Parameters
    ----------
    post : Posterior
    by : {"group"}
    draws : int
        How many of the draws to take at most.

    Returns
    -------
    DataFrame, shape (draws, groups)

    Raises
    ------
    UnsupportedError
        If crossed factors, related levels or smooths make all rows depend on one
        another.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ").fit()
    >>> fit.posterior(draws=1000, rng=1).log_likelihood(draws=100).shape
    (100, 27)
    """
    check_choice("by", by, ("group",))
    count = min(check_count(draws, "draws"), len(post))
    if post.fit.data.terms:
        return _of_linked_groups(post, count)
    fit, points = post.fit, post.points
    rows = fit.data.clusters(fit.data.response[:, None])
    apart, problem = sums_apart(rows, fit.structure), fit.problem
    group = _groups_of(fit, rows)
    first = np.flatnonzero(np.diff(group, prepend=-1))
    sizes = np.diff(rows.offsets)
    beta = post.draws.to_numpy()[:, : fit.k_fe]
    out = np.empty((count, len(first)))
    for k in range(count):
        theta, variance = points.theta[k], points.sigma[k] ** 2
        factor = problem.z_map @ problem.factor(theta)
        u = problem.split(theta)[1]
        sums = apart(ParameterPoint(problem.covariance, factor, u), derivatives=False)
        left = np.append(-beta[k], 1.0)
        rss = np.einsum("a,abm,b->m", left, sums.s, left)
        logs = sizes * np.log(2.0 * np.pi * variance) + sums.d + rss / variance
        out[k] = -0.5 * np.add.reduceat(logs, first)
    return pd.DataFrame(out, columns=group_levels(fit))


def _of_linked_groups(post: Posterior, count: int) -> pd.DataFrame:
    """The same of sets of groups that further factors bind together."""
    fit, points = post.fit, post.points
    clusters = linked_rows(fit, together=True)
    if len(clusters) == 1:
        raise UnsupportedError(
            "loo(): random effects of several factors, or smooths, bind all rows "
            "together, so that the likelihood has no parts; compare such models by "
            "log_marginal_likelihood"
        )
    rows, problem = fit.data.compressed, fit.problem
    own = clusters.of_groups[_groups_of(fit, rows)]
    theta, log_variance = points.theta[:count], 2.0 * np.log(points.sigma[:count])
    beta = post.draws.to_numpy()[:count, : fit.k_fe]
    # residuals as combinations of the scaled columns
    left = np.column_stack([-beta, np.ones(count)]) @ np.linalg.inv(problem.w_map).T
    out = np.empty((count, len(clusters)))
    for k in range(len(clusters)):
        part = rows.part(np.flatnonzero(own == k))
        logdet, sums = ManyPoints(problem.of_rows(part), part).sums(theta)
        rss = np.einsum("da,dab,db->d", left, sums, left)
        logs = len(part.w) * (np.log(2.0 * np.pi) + log_variance)
        out[:, k] = -0.5 * (logs + logdet + rss * np.exp(-log_variance))
    labels = pd.Index(clusters.labels, name=clusters.word, tupleize_cols=False)
    return pd.DataFrame(out, columns=labels)


def _groups_of(fit: Fit, rows: ClusterRows) -> IntArray:
    """Group of each cluster of rows; it may have several, of a series each."""
    starts = fit.data.grouped.offsets
    return np.searchsorted(starts, rows.offsets[:-1], "right") - 1


def loo(post: Posterior, by: str = "group", draws: int = 1000) -> LeaveOneOut:
    """
    Leave-one-group-out cross-validation by Pareto smoothed importance sampling.

    Of nested factors the outermost one's levels are left out.

    Parameters
    ----------
    post : Posterior
    by : {"group"}
    draws : int
        How many of the draws to take at most.

    Returns
    -------
    LeaveOneOut

    Raises
    ------
    UnsupportedError
        If crossed factors, related levels or smooths make all rows depend on one
        another.

    References
    ----------
    Vehtari, A., Gelman, A. and Gabry, J. (2017), Practical Bayesian model evaluation
    using leave-one-out cross-validation and WAIC, Statistics and Computing 27,
    1413-1432; Merkle, E. C., Furr, D. and Rabe-Hesketh, S. (2019), Bayesian comparison
    of latent variable models: conditional versus marginal likelihoods, Psychometrika
    84, 802-829.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ").fit()
    >>> found = fit.posterior(draws=1000, rng=1).loo()
    >>> found.elpd < fit.llf
    True
    """
    logs = log_likelihood(post, by, draws)
    values: FloatArray = logs.to_numpy()
    elpd, shape = np.empty(values.shape[1]), np.empty(values.shape[1])
    for j, column in enumerate(values.T):
        weights, shape[j] = smoothed(-column)
        elpd[j] = logsumexp(weights + column)
    whole = logsumexp(values, axis=0) - np.log(len(values))
    frame = {"elpd": elpd, "p": whole - elpd, "k": shape}
    word = linked_rows(post.fit).plural
    return LeaveOneOut(ResultFrame(frame, index=logs.columns), word)
