"""
Observed against simulated: would data like these come from the fitted model?

References
----------
Gelman, A., Meng, X.-L. and Stern, H. (1996), Posterior predictive assessment of
model fitness via realized discrepancies, Statistica Sinica 6, 733-807.

Davison, A. C. and Hinkley, D. V. (1997), Bootstrap Methods and their
Application, Cambridge University Press, section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from scipy import stats

from mixedar._types import FloatArray, Seed
from mixedar.data.model_data import ModelData
from mixedar.diagnostics.residuals.autocorrelation import lag_products
from mixedar.diagnostics.residuals.series import choose_bins, series_rows
from mixedar.diagnostics.simulation import (
    check_groups,
    check_simulations,
    draw_responses,
)
from mixedar.exceptions import NotComputedError, UnknownColumnError, UnsupportedError
from mixedar.fit import Fit
from mixedar.fit.responses import StatedParameters
from mixedar.inference.arguments import generator, understands
from mixedar.prediction.new_rows import fitted_rows
from mixedar.summary import ResultFrame

if TYPE_CHECKING:
    from matplotlib.axes import Axes


Statistic: TypeAlias = Callable[[FloatArray], Any]

_OF_RESPONSE: dict[str, Statistic] = {
    "mean": np.mean,
    "sd": lambda y: np.std(y, ddof=1),
    "min": np.min,
    "max": np.max,
    "skewness": stats.skew,
    "kurtosis": stats.kurtosis,
}
#: Statistics that can be asked for by name.
STATISTICS = (*_OF_RESPONSE, "sd_between", "sd_within", "lag1")


@dataclass(frozen=True)
class PredictiveCheck:
    """
    Statistics of the data, and of data drawn from the fitted model.

    Attributes
    ----------
    observed : Series, shape (k,)
        By the names of the statistics.
    simulated : DataFrame, shape (n_sim, k)

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> check = fit.predictive_check(n_sim=50, rng=1)
    >>> check.observed.index.tolist()
    ['sd_between', 'sd_within', 'lag1', 'skewness', 'kurtosis']
    """

    observed: pd.Series
    simulated: pd.DataFrame

    @property
    def pvalues(self) -> pd.Series:
        """
        Two-sided p-values, shape (k,).

        Twice the share of draws, the data among them, that lie at least as far
        out on the side of the data.  Estimated parameters make them too large
        for what the model was fitted to (Davison and Hinkley, 1997).
        """
        n = len(self.simulated)
        above = 1 + (self.simulated >= self.observed).sum(axis=0)
        below = 1 + (self.simulated <= self.observed).sum(axis=0)
        share = 2.0 * np.minimum(above, below) / (n + 1)
        return pd.Series(np.minimum(share, 1.0), index=self.observed.index, name="p")

    def to_frame(self) -> ResultFrame:
        """
        One row a statistic.

        Returns
        -------
        DataFrame
            ``observed``, the draws' ``mean``, ``sd``, 2.5% and 97.5% quantiles
            (``lower``, ``upper``), and ``p``.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> check = fit.predictive_check(n_sim=50, rng=1)
        >>> check.to_frame().columns.tolist()
        ['observed', 'mean', 'sd', 'lower', 'upper', 'p']
        """
        draws = self.simulated
        return ResultFrame(
            {
                "observed": self.observed,
                "mean": draws.mean(),
                "sd": draws.std(ddof=1),
                "lower": draws.quantile(0.025),
                "upper": draws.quantile(0.975),
                "p": self.pvalues,
            }
        )

    def plot(self, statistic: str | None = None, ax: Axes | None = None) -> Axes:
        """
        Histogram of the draws of one statistic with the value of the data.

        Parameters
        ----------
        statistic : str, optional
            The first one by default.
        ax : Axes, optional

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        UnknownColumnError
            If there is no such statistic.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> check = fit.predictive_check(n_sim=50, rng=1)
        >>> ax = check.plot("lag1")
        """
        from mixedar.plotting.residuals import plot_check

        names = list(self.observed.index)
        name = names[0] if statistic is None else statistic
        if name not in names:
            raise UnknownColumnError(
                f"statistic={name!r}: this check has {', '.join(map(repr, names))}"
            )
        observed, pvalue = float(self.observed[name]), float(self.pvalues[name])
        return plot_check(self.simulated[name], observed, pvalue, ax)

    def __repr__(self) -> str:
        return repr(self.to_frame())

    def _repr_html_(self) -> str:
        return str(self.to_frame()._repr_html_())


@understands(seed="rng")
def predictive_check(
    fit: Fit,
    statistic: Any = None,
    n_sim: int = 1000,
    rng: Seed = None,
    groups: str = "new",
) -> PredictiveCheck:
    """
    Compare a statistic of the data with its distribution under the fitted model.

    Parameters
    ----------
    fit : Fit
    statistic : str, callable, sequence of these, or mapping of str to callable
        By default the standard deviations between and within groups, the
        autocorrelation at the first lag, skewness and kurtosis, as far as they
        exist.  By name: moments and extremes of the response, ``"mean"``, ``"sd"``,
        ``"min"``, ``"max"``, ``"skewness"`` and ``"kurtosis"``; the standard
        deviation between the groups' means, ``"sd_between"``, and within groups,
        ``"sd_within"``; the autocorrelation of ``y - X beta`` at the first lag,
        ``"lag1"``.  A callable takes the response as a Series with the index of the
        data and returns a number.
    n_sim : int
        Number of data sets to draw.
    rng : int, SeedSequence or Generator, optional
    groups : {"new", "conditional"}
        As in :meth:`simulate`.

    Returns
    -------
    PredictiveCheck

    Raises
    ------
    UnsupportedError
        For a statistic or options that are not known, or a callable that does
        not return a number.
    NotComputedError
        If the data were removed from the fit, or a statistic does not exist.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> check = fit.predictive_check(n_sim=50, rng=1)
    >>> check.to_frame().index.tolist()
    ['sd_between', 'sd_within', 'lag1', 'skewness', 'kurtosis']
    """
    n_sim, known = check_simulations(n_sim), check_groups(groups)
    functions = _functions(fit, statistic)

    def all_of(y: FloatArray) -> list[float]:
        return [_number(name, function(y)) for name, function in functions.items()]

    observed, names = all_of(fit.data.endog), list(functions)
    table = [all_of(y) for y in _draws(fit, n_sim, rng, known)]
    return PredictiveCheck(
        pd.Series(observed, index=names, name="observed"),
        pd.DataFrame(
            table, columns=names, index=pd.RangeIndex(n_sim, name="simulation")
        ),
    )


def _draws(fit: Fit, n_sim: int, rng: Seed, known: bool) -> Iterator[FloatArray]:
    """Drawn responses, one after the other, shape (n,) each."""
    rows = fitted_rows(fit.data)
    at = StatedParameters.of(fit)
    for block in draw_responses(fit, rows, n_sim, generator(rng), known, at):
        yield from np.ascontiguousarray(block.T)


def response_draws(
    fit: Fit,
    what: str = "density",
    n_sim: int | None = None,
    rng: Seed = None,
    groups: str = "new",
) -> pd.DataFrame:
    """
    The response beside responses drawn from the fitted model.

    Parameters
    ----------
    fit : Fit
    what : {"density", "group_means"}
        The responses themselves, or their means by group.
    n_sim : int
        Number of data sets; 50 by default.
    rng, groups
        As in :func:`mixedar.diagnostics.simulation.simulate`.

    Returns
    -------
    DataFrame, shape (n or m, 1 + n_sim)
        ``observed``, then a column a data set; the columns' name says what it is.
    """
    known = check_groups(groups)
    n_sim = check_simulations(50 if n_sim is None else n_sim)
    data = fit.data
    ys = [data.endog, *_draws(fit, n_sim, rng, known)]
    name = data.endog_name
    if what == "group_means":
        ys = [group_means(data, y) for y in ys]
        group = "group" if data.formula is None else data.groups_name
        name = f"Mean of {name} by {group}"
    columns = pd.Index(["observed", *range(n_sim)], name=name)
    return pd.DataFrame(np.column_stack(ys), columns=columns)


def _number(name: str, value: Any) -> float:
    if np.ndim(value) != 0:
        raise UnsupportedError(
            f"statistic {name!r} returned an object of the shape {np.shape(value)}; "
            "return one number, and pass several statistics as a dict"
        )
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise UnsupportedError(
            f"statistic {name!r} returned {value!r}, which is not a number"
        ) from error
    if not np.isfinite(number):
        raise NotComputedError(f"statistic {name!r} is {number} for these responses")
    return number


def _functions(fit: Fit, statistic: Any) -> dict[str, Statistic]:
    """Functions of the response by name."""
    if statistic is None:
        statistic = _usual(fit)
    if isinstance(statistic, Mapping):
        items = list(statistic.items())
    else:
        one = isinstance(statistic, str) or not isinstance(statistic, Iterable)
        items = [(_name(s), s) for s in ([statistic] if one else statistic)]
    if not items:
        raise UnsupportedError("name at least one statistic")
    return {str(name): _function(fit, one) for name, one in items}


def _usual(fit: Fit) -> list[str]:
    """Names of the usual statistics that exist for these data."""
    exists = {
        "sd_between": fit.n_groups > 1,
        "sd_within": fit.nobs > fit.n_groups,
        "lag1": len(series_rows(fit).gaps) > 0,
    }
    return [*(name for name in exists if exists[name]), "skewness", "kurtosis"]


def _name(statistic: object) -> str:
    if isinstance(statistic, str):
        return statistic
    name = str(getattr(statistic, "__name__", "statistic"))
    return "statistic" if name == "<lambda>" else name


def _function(fit: Fit, statistic: Any) -> Statistic:
    """A function of the response as an array."""
    data = fit.data
    if callable(statistic):
        index, name = data.index, data.endog_name
        return lambda y: statistic(pd.Series(y, index=index, name=name, copy=False))
    if statistic in _OF_RESPONSE:
        return _OF_RESPONSE[statistic]
    if statistic == "sd_between":
        if data.n_groups < 2:
            raise NotComputedError("sd_between: there is one group only")
        return lambda y: float(np.std(group_means(data, y), ddof=1))
    if statistic == "sd_within":
        spare = data.nobs - data.n_groups
        if spare == 0:
            raise NotComputedError("sd_within: every group has one observation")

        def within(y: FloatArray) -> float:
            rest = y - group_means(data, y)[data.codes]
            return float(np.sqrt(rest @ rest / spare))

        return within
    if statistic == "lag1":
        return _first_lag(fit)
    raise UnsupportedError(
        f"statistic={statistic!r}: choose one of "
        f"{', '.join(map(repr, STATISTICS))}, or pass a function of the response"
    )


def group_means(data: ModelData, y: FloatArray) -> FloatArray:
    """Means of the groups, shape (m,), of values in the caller's order."""
    return np.bincount(data.codes, y) / np.bincount(data.codes)


def _first_lag(fit: Fit) -> Statistic:
    """Autocorrelation of ``y - X beta`` at the first lag that has pairs."""
    rows = series_rows(fit)
    if len(rows.gaps) == 0:
        raise NotComputedError(
            "lag1: no series has two observations, so that there is no pair"
        )
    bins = choose_bins(rows.gaps)
    lag = max(int(bins.index(rows.gaps.min())), 1)

    def first(y: FloatArray) -> float:
        x = rows.sort(y - fit.fitted_marginal)
        counts, _, sums = lag_products(x[:, None], rows, bins, lag)
        return float(sums[lag] / counts[lag] / (x @ x) * len(x))

    return first
