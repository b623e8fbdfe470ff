"""
Residual structures side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.data.checks import group_codes
from mixedar.data.time import time_axis
from mixedar.engine.residuals import unique_rows
from mixedar.exceptions import (
    MixedARError,
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
)
from mixedar.inference.criteria import information_criteria
from mixedar.inference.terms.mixture_chi2 import null_distribution
from mixedar.residual import CAR1
from mixedar.selection.summary import summarize

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mixedar.summary import ResultsSummary


# Neighbours of an observation in a long series, ...
_NEIGHBOURS = 40
# ... pairs of all groups, ...
_PAIRS = 2_000_000
# ... distances that are shown one by one, and ranges where there are more.
_SINGLE, _RANGES = 40, 20


@dataclass(frozen=True)
class _Pairs:
    """
    Pairs of rows of a series.

    `first` and `second` are rows in the caller's order, `lag` the number of the
    distance, `group` of the group, and `distance` the mean of each lag.
    """

    first: IntArray
    second: IntArray
    lag: IntArray
    group: IntArray
    distance: FloatArray

    def total(self, values: FloatArray) -> FloatArray:
        """Sum over the pairs of each lag."""
        out = np.bincount(self.lag, values, minlength=len(self.distance))
        return np.asarray(out, dtype=np.float64)


def correlations_by_lag(
    fits: Mapping[str, Any], max_lag: float | None = None
) -> pd.DataFrame:
    """
    Empirical and fitted correlations; see ``ResidualSelection.correlations``.

    Parameters
    ----------
    fits : mapping of str to MixedLMARResults
        Fits to the same rows.
    max_lag : float, optional

    Returns
    -------
    DataFrame, one row a lag
    """
    results = {name: getattr(fit, "_results", fit) for name, fit in fits.items()}
    if any(fit.model.endog is None for fit in results.values()):
        raise NotComputedError("the data were removed from a fit; fit again")
    pairs = _pairs(list(results.values()), max_lag)
    best = max(results.values(), key=lambda fit: fit.llf)
    empirical, error = _empirical(best.model.endog - best.fitted_marginal, pairs)
    columns = {
        "pairs": np.bincount(pairs.lag, minlength=len(pairs.distance)),
        "empirical": empirical,
        "std_error": error,
    }
    columns |= {name: _fitted(fit, pairs) for name, fit in results.items()}
    return pd.DataFrame(columns, index=pd.Index(pairs.distance, name="lag"))


def _pairs(fits: list[Any], max_lag: float | None) -> _Pairs:
    model = fits[0].model
    series = np.zeros(model.nobs)
    if model.series is not None:
        series = group_codes(model.series, "series")[0].astype(np.float64)
    time = _times(fits, series)
    order = np.lexsort((time, series, model._codes))
    time, codes = time[order], model._codes[order]
    starts = np.append(True, (np.diff(codes) != 0) | (np.diff(series[order]) != 0))
    which = np.cumsum(starts) - 1
    longest = int(np.bincount(which).max())
    most = min(longest - 1, _NEIGHBOURS)
    keep = np.arange(len(time))
    if most * len(time) > _PAIRS:
        step = -(-most * len(time) // _PAIRS)
        keep = np.flatnonzero(codes % step == 0)
    found = []
    for apart in range(1, most + 1):
        here = keep[keep < len(time) - apart]
        here = here[which[here] == which[here + apart]]
        found.append(np.column_stack([here, here + apart]))
    rows = np.concatenate(found) if found else np.empty((0, 2), dtype=np.intp)
    distance = time[rows[:, 1]] - time[rows[:, 0]]
    if max_lag is not None:
        near = distance <= max_lag * (1.0 + 1e-9)
        rows, distance = rows[near], distance[near]
    if len(rows) == 0:
        raise NotComputedError(
            "no two observations of a series"
            + ("" if max_lag is None else f" are at most {max_lag:g} apart")
            + ": there is no correlation to show"
        )
    lag, means = _lags(distance)
    first, second = order[rows[:, 0]], order[rows[:, 1]]
    return _Pairs(first, second, lag, model._codes[first], means)


def _times(fits: list[Any], series: FloatArray) -> FloatArray:
    """Times as numbers, in the unit of a structure that reads them if one does."""
    model = fits[0].model
    if model.time is None:
        frame = pd.DataFrame({"group": model._codes, "series": series})
        places = frame.groupby(["group", "series"], sort=False).cumcount()
        return np.asarray(places, dtype=np.float64)
    readers = [fit.structure for fit in fits if fit.structure.uses_time]
    readers = [s for s in readers if s.k_params] or readers
    try:
        return time_axis(model.time, readers[0] if readers else CAR1()).values
    except MixedARError:
        column = pd.Series(model.time)
        if not isinstance(column.dtype, pd.CategoricalDtype):
            column = column.astype("category")
        return np.asarray(column.cat.codes, dtype=np.float64)


def _lags(distance: FloatArray) -> tuple[IntArray, FloatArray]:
    """Number of each pair's lag, and mean distances of the lags."""
    # rounding of decimal times does not make a new distance
    rounded = np.round(distance / distance.max(), 9)
    values, lag = np.unique(rounded, return_inverse=True)
    if len(values) > _SINGLE:
        edges = np.quantile(distance, np.linspace(0.0, 1.0, _RANGES + 1)[1:-1])
        _, lag = np.unique(np.searchsorted(edges, distance), return_inverse=True)
    return lag, np.bincount(lag, distance) / np.bincount(lag)


def _empirical(resid: FloatArray, pairs: _Pairs) -> tuple[FloatArray, FloatArray]:
    """Correlations, and standard errors by the groups' influence on them."""
    a, b = resid[pairs.first], resid[pairs.second]
    left, right = pairs.total(a * a), pairs.total(b * b)
    size = np.sqrt(left * right)
    correlation = pairs.total(a * b) / size
    here = pairs.lag
    influence = a * b / size[here] - 0.5 * correlation[here] * (
        a * a / left[here] + b * b / right[here]
    )
    _, cell = np.unique(
        here * (int(pairs.group.max()) + 1) + pairs.group, return_inverse=True
    )
    square = np.bincount(cell, influence) ** 2
    lag_of_cell = np.zeros(len(square), dtype=np.intp)
    lag_of_cell[cell] = here
    error = np.sqrt(np.bincount(lag_of_cell, square, minlength=len(size)))
    return correlation, error


def _fitted(fit: Any, pairs: _Pairs) -> FloatArray:
    sd = _deviations(fit)
    cov = sd[pairs.first] * sd[pairs.second] * _correlations(fit, pairs)
    variance = sd * sd
    model = fit.model
    z = model._random_design()
    if z.shape[1]:
        image = z @ _effects_covariance(fit)
        cov = cov + np.einsum("ij,ij->i", image[pairs.first], z[pairs.second])
        variance = variance + np.einsum("ij,ij->i", image, z)
    left = pairs.total(variance[pairs.first])
    right = pairs.total(variance[pairs.second])
    return pairs.total(cov) / np.sqrt(left * right)


def _effects_covariance(fit: Any) -> FloatArray:
    """Covariance of all random effects, relative to the residual variance."""
    sizes = fit.model._vc.sizes
    out = np.diag(np.repeat(np.append(0.0, fit.vcomp / fit.scale), [fit.k_re, *sizes]))
    out[: fit.k_re, : fit.k_re] = fit.cov_re_unscaled
    return out


def _positions(fit: Any) -> FloatArray:
    """What the structure reads of each row, in the caller's order."""
    grouped = fit.model._grouped
    n = len(grouped.gaps)
    marks = np.empty((n, 0)) if grouped.marks is None else grouped.marks
    return grouped.unsort(np.column_stack([np.cumsum(grouped.gaps), marks]))


def _correlations(fit: Any, pairs: _Pairs) -> FloatArray:
    """Residual correlations of all pairs."""
    positions = _positions(fit)
    cells, which = unique_rows(
        fit.structure.cells(positions[pairs.first], positions[pairs.second])
    )
    return fit.structure.cell_values(cells, fit._u).value[which]


def _deviations(fit: Any) -> FloatArray:
    """Residual standard deviations of all rows, relative to sigma."""
    positions = _positions(fit)
    positions[:, 0] = 0.0
    kinds, which = unique_rows(positions)
    found = fit.structure.log_sd(kinds, fit._u)
    return np.ones(len(which)) if found is None else np.exp(found.value)[which]


# A larger model whose likelihood is lower by more than this missed its maximum.
_MISSED = 1e-5
_CRITERIA = ("aic", "aicc", "bic", "hqic", "caic")


@dataclass(frozen=True)
class Candidate:
    """
    One residual structure.

    Attributes
    ----------
    label : str
        What summaries call it.
    fit : MixedLMARResults, or None
        None if it could not be fitted.
    note : str
        Why it could not be fitted, or what the fit warned of.
    """

    label: str
    fit: Any
    note: str


class ResidualSelection:
    """
    Fits of several residual structures; made by :func:`select_residual`.

    Attributes
    ----------
    table : DataFrame
        A row for each structure: ``label``; ``parameters`` of the structure and
        its variance function, and ``df``, the number of all parameters;
        ``logLik``, ``AIC``, ``BIC``; the likelihood-ratio test against the
        largest structure that is nested in it (``against``, ``LR``, ``LR_df``,
        ``p``, and ``null``, the distribution); ``converged``, ``at_boundary``, and
        ``note``, with the reason where there is no fit.
    tests : DataFrame
        The likelihood-ratio tests of all nested pairs: ``small``, ``large``,
        ``LR``, ``df``, ``p``, ``null``, ``note``.
    fits : dict of str to MixedLMARResults
        By the names in the table.
    ic : str
        Convention of AIC and BIC.
    """

    def __init__(self, candidates: Mapping[str, Candidate], ic: str) -> None:
        self.ic = ic
        self.fits = {
            name: candidate.fit
            for name, candidate in candidates.items()
            if candidate.fit is not None
        }
        self.tests = _tests(self.fits)
        self.table = _table(candidates, self.tests, ic)

    def __getitem__(self, name: str) -> Any:
        if name in self.fits:
            return self.fits[name]
        if name in self.table.index:
            raise NotComputedError(
                f"{name!r} could not be fitted: {self.table.loc[name, 'note']!s}"
            )
        raise UnknownColumnError(
            f"there is no structure {name!r}; there are "
            f"{', '.join(map(repr, self.table.index))}"
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self.fits)

    def __len__(self) -> int:
        return len(self.fits)

    def __contains__(self, name: object) -> bool:
        return name in self.fits

    def ranking(self, criterion: str = "aic") -> pd.Series:
        """
        A criterion of the fits that converged, the best first.

        Parameters
        ----------
        criterion : {"aic", "aicc", "bic", "hqic", "caic"}
            Smaller is better.

        Returns
        -------
        Series

        Raises
        ------
        UnsupportedError
            For another criterion.
        NotComputedError
            If nothing has been fitted.
        """
        name = str(criterion).lower()
        if name not in _CRITERIA:
            raise UnsupportedError(
                f"criterion={criterion!r}: choose {', '.join(map(repr, _CRITERIA))}"
            )
        values = {
            key: float(information_criteria(fit, self.ic)[name])
            for key, fit in self.fits.items()
            if fit.converged
        }
        if not values:
            reasons = "; ".join(f"{k!r}: {v}" for k, v in self.table["note"].items())
            raise NotComputedError(f"no structure could be fitted ({reasons})")
        return pd.Series(values, name=name).sort_values(kind="stable")

    def best(self, criterion: str = "aic") -> Any:
        """
        The fit with the smallest value of a criterion.

        Parameters
        ----------
        criterion : {"aic", "aicc", "bic", "hqic", "caic"}

        Returns
        -------
        MixedLMARResults

        Raises
        ------
        UnsupportedError, NotComputedError
            As :meth:`ranking`.
        """
        return self.fits[str(self.ranking(criterion).index[0])]

    def correlations(
        self,
        structures: str | Iterable[str] | None = None,
        max_lag: float | None = None,
    ) -> pd.DataFrame:
        """
        Empirical and fitted correlations of a group's observations, by lag.

        Of the residuals around the fixed effects, so that the fitted ones include
        what random effects contribute.

        Parameters
        ----------
        structures : str or iterable of str, optional
            Which ones; all that were fitted by default.
        max_lag : float, optional
            Longest distance in time.

        Returns
        -------
        DataFrame, one row a lag
            ``pairs``, ``empirical``, ``std_error`` (independent groups), and a
            column for each structure.  Where there are many different distances a
            row stands for a range of them.

        Raises
        ------
        NotComputedError
            If nothing has been fitted, or no group has two observations.
        UnknownColumnError
            For a structure that is not among the fits.
        """
        return correlations_by_lag(self._chosen(structures), max_lag)

    def plot(
        self,
        ax: Axes | None = None,
        structures: str | Iterable[str] | None = None,
        max_lag: float | None = None,
    ) -> Axes:
        """
        Draw fitted against empirical correlations by lag.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        structures, max_lag
            As in :meth:`correlations`.

        Returns
        -------
        matplotlib.axes.Axes
            Bars are 95% intervals of the empirical correlations, for independent
            groups.
        """
        from mixedar.plotting.correlation import (
            plot_correlations,  # matplotlib is heavy
        )

        fits = self._chosen(structures)
        frame = correlations_by_lag(fits, max_lag)
        return plot_correlations(frame, ax, _lag_label(fits))

    def _chosen(self, structures: str | Iterable[str] | None) -> dict[str, Any]:
        if structures is None:
            if not self.fits:
                self.ranking()  # raises with the reasons
            return self.fits
        names = [structures] if isinstance(structures, str) else list(structures)
        return {name: self[name] for name in names}

    def summary(self) -> ResultsSummary:
        """
        Tables of criteria and of likelihood-ratio tests.

        Returns
        -------
        ResultsSummary
        """
        return summarize(self)

    def __repr__(self) -> str:
        return self.summary().as_text()

    def _repr_html_(self) -> str:
        return self.summary().as_html()


def _tests(fits: Mapping[str, Any]) -> pd.DataFrame:
    """Likelihood ratios of all nested pairs."""
    ordered = sorted(fits, key=lambda name: fits[name].df_modelwc)
    rows = []
    for small, large in combinations(ordered, 2):
        one, two = (getattr(fits[n], "_results", fits[n]) for n in (small, large))
        difference = two.df_modelwc - one.df_modelwc
        null = null_distribution(one.fit, two.fit) if difference else None
        if null is None or not null.df:
            continue
        statistic, p, note = 2.0 * (two.llf - one.llf), np.nan, null.note
        if not (one.converged and two.converged):
            note = "a fit has not converged"
        elif statistic < -_MISSED:
            note = "the larger structure has the lower likelihood: its fit missed"
        else:
            statistic = max(statistic, 0.0)
            p = null.sf(statistic)
        rows.append([small, large, statistic, difference, p, null.label, note])
    columns = ["small", "large", "LR", "df", "p", "null", "note"]
    return pd.DataFrame(rows, columns=columns)


def _table(
    candidates: Mapping[str, Candidate], tests: pd.DataFrame, ic: str
) -> pd.DataFrame:
    rows = []
    for name, candidate in candidates.items():
        row: dict[str, Any] = dict.fromkeys(_COLUMNS, np.nan)
        row |= {"label": candidate.label, "note": candidate.note}
        row |= {"against": "", "null": "", "converged": False, "at_boundary": False}
        if candidate.fit is not None:
            fit = candidate.fit
            criteria = information_criteria(fit, ic)
            row |= {
                "parameters": fit.structure.k_free,
                "df": fit.df_modelwc,
                "logLik": fit.llf,
                "AIC": criteria["aic"],
                "BIC": criteria["bic"],
                "converged": fit.converged,
                "at_boundary": fit.at_boundary,
            }
            row |= _nearest(name, candidates, tests)
        rows.append(row)
    index = pd.Index(list(candidates), name="structure")
    frame = pd.DataFrame(rows, index=index, columns=list(_COLUMNS))
    for column in ("parameters", "df", "LR_df"):
        frame[column] = frame[column].astype("Int64")
    return frame


_COLUMNS = (
    "label",
    "parameters",
    "df",
    "logLik",
    "AIC",
    "BIC",
    "against",
    "LR",
    "LR_df",
    "p",
    "null",
    "converged",
    "at_boundary",
    "note",
)


def _nearest(
    name: str, candidates: Mapping[str, Candidate], tests: pd.DataFrame
) -> dict[str, Any]:
    """The test against the largest structure that is nested, the likeliest of them."""
    mine = tests[tests["large"] == name]
    if not len(mine):
        return {}

    def size(small: str) -> tuple[int, float]:
        fit = candidates[small].fit
        return fit.df_modelwc, round(fit.llf, 5)

    small = max(mine["small"], key=size)
    test = mine[mine["small"] == small].iloc[0]
    return {
        "against": small,
        "LR": test["LR"],
        "LR_df": test["df"],
        "p": test["p"],
        "null": test["null"],
    }


def _lag_label(fits: Mapping[str, Any]) -> str:
    model = next(iter(fits.values())).model
    name = str(getattr(model, "time_name", None) or "time")
    units = {fit.model.time_unit for fit in fits.values()} - {"1", "row", "occasion"}
    unit = f" ({units.pop()})" if len(units) == 1 else ""
    return f"Lag in {name}{unit}"
