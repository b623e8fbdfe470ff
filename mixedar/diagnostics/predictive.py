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

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from mixedar._types import FloatArray
from mixedar.prediction.new_rows import fitted_rows
from mixedar.diagnostics.residuals.series import (
    choose_bins,
    lag_products,
    rows_of,
    unwrapped,
)
from mixedar.diagnostics.simulation import check_simulations, draw_responses, generator
from mixedar.exceptions import NotComputedError, UnsupportedError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


#: Statistics that can be asked for by name.
STATISTICS = (
    "mean",
    "sd",
    "min",
    "max",
    "skewness",
    "kurtosis",
    "sd_between",
    "sd_within",
    "lag1",
)


@dataclass(frozen=True)
class PredictiveCheck:
    """
    Statistics of the data, and of data drawn from the fitted model.

    Attributes
    ----------
    observed : Series, shape (k,)
        By the names of the statistics.
    simulated : DataFrame, shape (n_sim, k)
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

    def to_frame(self) -> pd.DataFrame:
        """
        One row a statistic.

        Returns
        -------
        DataFrame
            ``observed``, the draws' ``mean``, ``sd``, 2.5% and 97.5% quantiles
            (``lower``, ``upper``), and ``p``.
        """
        draws = self.simulated
        return pd.DataFrame(
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
        """
        from mixedar.plotting.simulated import plot_check

        return plot_check(self, statistic, ax)

    def __repr__(self) -> str:
        return self.to_frame().round(4).to_string()


def predictive_check(
    fit: Any,
    statistic: Any = None,
    n_sim: int = 1000,
    seed: Any = None,
    groups: str = "new",
) -> PredictiveCheck:
    """
    Compare a statistic of the data with its distribution under the fitted model.

    Parameters
    ----------
    fit : MixedLMARResults
    statistic : str, callable, sequence of these, or mapping of str to callable
        By default the standard deviations between and within groups, the
        autocorrelation at the first lag, skewness and kurtosis, as far as they
        exist.  Names of :data:`STATISTICS`: moments and extremes of the response, the
        standard deviation between the groups' means and within groups, the
        autocorrelation of ``y - X beta`` at the first lag.  A callable takes the
        response as a Series with the index of the data and returns a number.
    n_sim : int
        Number of data sets to draw.
    seed : int, SeedSequence or Generator, optional
    groups : {"new", "conditional"}
        As in :func:`mixedar.diagnostics.simulation.simulate`.

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
    """
    fit = unwrapped(fit)
    n_sim = check_simulations(n_sim)
    if groups not in ("new", "conditional"):
        raise UnsupportedError(f"groups={groups!r}: choose 'new' or 'conditional'")
    functions = _functions(fit, statistic)
    rows = fitted_rows(fit.fit.data)

    def all_of(y: FloatArray) -> list[float]:
        return [_number(name, function(y)) for name, function in functions.items()]

    observed = all_of(np.asarray(fit.model.endog))
    table: list[list[float]] = []
    known = groups == "conditional"
    for block in draw_responses(fit, rows, n_sim, generator(seed), known):
        table.extend(all_of(y) for y in np.ascontiguousarray(block.T))
    names = list(functions)
    return PredictiveCheck(
        pd.Series(observed, index=names, name="observed"),
        pd.DataFrame(
            table, columns=names, index=pd.RangeIndex(n_sim, name="simulation")
        ),
    )


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


def _functions(fit: Any, statistic: Any) -> dict[str, Callable[[FloatArray], Any]]:
    """Functions of the response by name."""
    if statistic is None:
        statistic = _usual(fit)
    if isinstance(statistic, Mapping):
        items = list(statistic.items())
    elif isinstance(statistic, str) or callable(statistic):
        items = [(_name(statistic), statistic)]
    else:
        several = statistic if isinstance(statistic, Iterable) else [statistic]
        items = [(_name(one), one) for one in several]
    if not items:
        raise UnsupportedError("name at least one statistic")
    index = fit.model.data.row_labels
    out: dict[str, Callable[[FloatArray], Any]] = {}
    for name, one in items:
        if isinstance(one, str):
            out[str(name)] = _named(fit, one)
        elif callable(one):
            out[str(name)] = _of_series(one, index, fit.model.endog_names)
        else:
            raise UnsupportedError(
                f"statistic={one!r}: pass a function of the response, or one of "
                f"{', '.join(map(repr, STATISTICS))}"
            )
    return out


def _usual(fit: Any) -> list[str]:
    """Names of the usual statistics that exist for these data."""
    several = fit.model.n_groups > 1
    repeated = len(fit.model._codes) > fit.model.n_groups
    names = {"sd_between": several, "sd_within": repeated}
    names["lag1"] = len(rows_of(fit).gaps) > 0
    return [*(name for name, exists in names.items() if exists), "skewness", "kurtosis"]


def _name(statistic: Any) -> str:
    if isinstance(statistic, str):
        return statistic
    name = str(getattr(statistic, "__name__", "statistic"))
    return "statistic" if name == "<lambda>" else name


def _of_series(
    function: Callable[[pd.Series], Any], index: Any, name: str
) -> Callable[[FloatArray], Any]:
    return lambda y: function(pd.Series(y, index=index, name=name, copy=False))


def _named(fit: Any, name: str) -> Callable[[FloatArray], float]:
    simple: dict[str, Callable[[FloatArray], Any]] = {
        "mean": np.mean,
        "sd": lambda y: np.std(y, ddof=1),
        "min": np.min,
        "max": np.max,
        "skewness": stats.skew,
        "kurtosis": stats.kurtosis,
    }
    if name in simple:
        return simple[name]
    if name == "sd_between":
        if fit.model.n_groups < 2:
            raise NotComputedError("sd_between: there is one group only")
        return lambda y: float(np.std(group_means(fit, y), ddof=1))
    if name == "sd_within":
        codes = fit.model._codes
        spare = len(codes) - fit.model.n_groups
        if spare == 0:
            raise NotComputedError("sd_within: every group has one observation")

        def within(y: FloatArray) -> float:
            rest = y - group_means(fit, y)[codes]
            return float(np.sqrt(rest @ rest / spare))

        return within
    if name == "lag1":
        return _first_lag(fit)
    raise UnsupportedError(
        f"statistic={name!r}: choose one of {', '.join(map(repr, STATISTICS))}, or "
        "pass a function of the response"
    )


def group_means(fit: Any, y: FloatArray) -> FloatArray:
    """
    Means of the groups.

    Parameters
    ----------
    fit : MixedLMARResults
    y : ndarray, shape (n,)
        In the order of the model's rows.

    Returns
    -------
    ndarray, shape (m,)
    """
    codes = fit.model._codes
    return np.asarray(np.bincount(codes, y) / np.bincount(codes))


def _first_lag(fit: Any) -> Callable[[FloatArray], float]:
    """Autocorrelation of ``y - X beta`` at the first lag that has pairs."""
    rows = rows_of(fit)
    if len(rows.gaps) == 0:
        raise NotComputedError(
            "lag1: no series has two observations, so that there is no pair"
        )
    bins = choose_bins(rows.gaps)
    mean = np.asarray(fit.fitted_marginal)
    lag = int(bins.index(rows.gaps.min()))
    lag = max(lag, 1)

    def first(y: FloatArray) -> float:
        x = rows.sort(y - mean)
        counts, _, sums = lag_products(x[:, None], rows, bins, lag)
        return float(sums[lag] / counts[lag] / (x @ x) * len(x))

    return first
