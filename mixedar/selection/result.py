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

from mixedar.exceptions import NotComputedError, UnknownColumnError, UnsupportedError
from mixedar.inference.criteria import information_criteria
from mixedar.inference.nulls import null_distribution
from mixedar.selection.lags import correlations_by_lag
from mixedar.selection.report import summarize

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mixedar.summary import ResultsSummary

__all__ = ["Candidate", "ResidualSelection"]

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
        from mixedar.selection.plot import plot_correlations  # matplotlib is heavy

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
        null = null_distribution(one, two) if difference else None
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
