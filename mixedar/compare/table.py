"""
Several fits in one table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixedar.compare.cells import ModelsTable, legend, thresholds
from mixedar.compare.frames import (
    coefficients_frame,
    components_frame,
    methods_frame,
    statistics_frame,
)
from mixedar.compare.read import ACCEPTED, read
from mixedar.compare.record import FitRecord
from mixedar.compare.sample import comparable, sample_classes
from mixedar.exceptions import EmptyDataError, UnsupportedError
from mixedar.panel.checks import listing
from mixedar.summary import Format, ResultsSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Comparison", "compare"]


class Comparison(ResultsSummary):
    """
    Several fits side by side; made by :func:`compare`.

    Printing, ``as_text``, ``as_html`` and ``as_latex`` are those of
    :class:`mixedar.summary.ResultsSummary`.

    Attributes
    ----------
    coefficients : DataFrame, shape (terms, 7 models)
        Columns by model and ``estimate, std_error, statistic, df, p_value,
        conf_low, conf_high``.
    components : DataFrame, shape (components, models)
        Standard deviations and correlations, or variances and covariances, of
        random effects and residuals.
    statistics : DataFrame, shape (statistics, models)
        Numbers of observations and groups, theta, R squared, and
        log-likelihood, AIC and BIC of the fits in which they may be compared.
    methods : DataFrame of str, shape (2, models)
        Estimator, and kind of the standard errors.
    notes : list of str
        Printed below the table.
    """

    def __init__(
        self,
        frames: Mapping[str, pd.DataFrame],
        notes: Sequence[str] = (),
        levels: Sequence[float] = (),
        formats: Mapping[str, Format] | None = None,
        title: str | None = None,
    ) -> None:
        self.coefficients = frames["coefficients"]
        self.components = frames["components"]
        self.statistics = frames["statistics"]
        self.methods = frames["methods"]
        self.notes = list(notes)
        pvalues = _values(self.coefficients, "p_value")
        table = ModelsTable(
            self._numbers(), self.methods, pvalues, levels, formats or {}
        )
        super().__init__(title=title, tables=[table], notes=self.notes)

    def _numbers(self) -> pd.DataFrame:
        """All numbers that are printed, one column a model."""
        rows: dict[tuple[str, str, str], pd.Series] = {}
        pair = [
            (value, _values(self.coefficients, value))
            for value in ("estimate", "std_error")
        ]
        for j, term in enumerate(self.coefficients.index):
            for value, frame in pair:
                rows["coefficients", term, value] = frame.iloc[j]
        for part in ("components", "statistics"):
            frame = getattr(self, part)
            for j, term in enumerate(frame.index):
                rows[part, term, "value"] = frame.iloc[j]
        index = pd.MultiIndex.from_tuples(rows, names=["part", "term", "value"])
        values = [row.to_numpy(dtype=float) for row in rows.values()]
        return pd.DataFrame(values, index=index, columns=self.methods.columns)

    def to_frame(self, name_or_position: str | int = 0) -> pd.DataFrame:
        """
        Return the numbers of the printed table in full precision.

        Parameters
        ----------
        name_or_position : str or int
            ``"models"`` or 0: there is one table.

        Returns
        -------
        DataFrame, shape (rows, models)
            Indexed by ``part`` (``"coefficients"``, ``"components"``,
            ``"statistics"``), ``term`` and ``value`` (``"estimate"`` and
            ``"std_error"`` of coefficients, else ``"value"``).

        Raises
        ------
        UnknownColumnError
            There is no such table.
        """
        return super().to_frame(name_or_position)

    def as_latex(self, label: str = "") -> str:
        r"""
        Return the comparison as a LaTeX ``table``; needs no package.

        Parameters
        ----------
        label : str
            Argument of ``\label``, taken literally.

        Returns
        -------
        str
        """
        text = super().as_latex(label)
        # the sign of a number that stars follow
        return re.sub(r"(?<=& )-([\d.]+)(\*+)", r"$-\1$\2", text)

    def plot(
        self,
        ax: Axes | None = None,
        coefficients: str | Iterable[str] | None = None,
        alpha: float = 0.05,
    ) -> Axes:
        """
        Draw the coefficients with their intervals, models side by side.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        coefficients : str or iterable of str, optional
            Which ones, from top to bottom; all but the intercept by default.
        alpha : float
            1 - coverage of the intervals.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        UnknownColumnError
            For a coefficient that is not in the table.
        UnsupportedError
            If nothing is left to draw, or `alpha` is not between 0 and 1.
        """
        from mixedar.plotting.coefficients import plot_coefficients

        return plot_coefficients(self.coefficients, ax, coefficients, alpha)


def compare(
    fits: Mapping[str, Any] | Sequence[Any],
    *,
    rename: Mapping[str, str] | None = None,
    keep: str | Iterable[str] | None = None,
    drop: str | Iterable[str] | None = None,
    stars: bool | Sequence[float] = False,
    components: str = "sd",
    formats: Mapping[str, Format] | None = None,
    title: str | None = None,
    alpha: float = 0.05,
    allow_different_samples: bool = False,
) -> Comparison:
    """
    Put several fits into one table.

    Parameters
    ----------
    fits : mapping of str to results, or sequence of results
        Column headings and fits, in the order of the columns: results of
        mixedar (mixed models and all panel estimators), of statsmodels (OLS,
        WLS, GLS, GLSAR, GEE, MixedLM) or of linearmodels' panel models.
        Fits without names are ``(1)``, ``(2)``, ...
    rename : mapping of str to str, optional
        New names of coefficients, ``{"const": "Intercept"}``; several names may
        become one, so that coefficients stand in the same row.
    keep, drop : str or iterable of str, optional
        Coefficients to show, or not to show.
    stars : bool or sequence of float
        Mark p-values below 0.05, 0.01 and 0.001, or below the levels given.
    components : {"sd", "variance"}
        Show standard deviations and correlations, or variances and covariances.
    formats : mapping of str to format, optional
        Of ``"estimate"``, ``"std_error"`` and ``"component"``, or of a row by
        its name (``"AIC"``, ``"x1"``); see
        :func:`mixedar.summary.format_values`.  By default a row shows two
        digits of its smallest standard error.
    title : str, optional
    alpha : float
        1 - coverage of the intervals in ``coefficients``.
    allow_different_samples : bool
        Compare fits of different rows or responses, with a note.

    Returns
    -------
    Comparison

    Raises
    ------
    SampleMismatchError
        If the fits differ in rows or response.
    UnsupportedError
        If something is not the result of a fit, or an argument is not known.
    UnknownColumnError
        If `rename`, `keep`, `drop` or `formats` name what no fit has.
    EmptyDataError
        Without fits.

    Notes
    -----
    Log-likelihood, AIC and BIC are shown only where they may be compared: for
    the same data, and either by maximum likelihood, or by restricted maximum
    likelihood with the same fixed effects.  Least squares and fixed effects
    count as maximum likelihood; random effects by GLS and GEE have no likelihood.
    AIC and BIC count the residual variance and all estimated effects as
    parameters (statsmodels' least squares do not count the variance).

    The variance of residuals with AR(1) errors is that of the residuals
    themselves, also for panel estimators, whose ``scale`` is the variance of the
    innovations.  R squareds are squared correlations, as in Stata.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fe = mar.fixed_effects("distance ~ age", teeth, "subject", "occ").fit()
    >>> re = mar.random_effects("distance ~ age", teeth, "subject", "occ").fit()
    >>> table = mar.compare({"FE": fe, "RE": re})
    >>> table.coefficients.xs("estimate", axis=1, level="value").shape
    (2, 2)
    """
    named = _named(fits)
    records = {
        name: read(fit, f"compare: {name!r}", alpha) for name, fit in named.items()
    }
    levels = thresholds(stars)
    classes, notes = sample_classes(records, allow_different_samples)
    likelihoods = comparable(records, classes)
    frames = {
        "coefficients": coefficients_frame(records, alpha, rename, keep, drop),
        "components": components_frame(records, components),
        "statistics": statistics_frame(records, likelihoods.names),
        "methods": methods_frame(records),
    }
    first = "Standard errors in parentheses"
    if levels:
        first += f"; {legend(levels)}"
    notes = [f"{first}.", *notes, *likelihoods.notes]
    notes += _criteria_note(records, likelihoods.names)
    notes += _fit_notes(records, rename or {})
    return Comparison(frames, notes, levels, formats, title)


def _values(coefficients: pd.DataFrame, value: str) -> pd.DataFrame:
    """One number of each coefficient, a column a model."""
    return coefficients.loc[:, (slice(None), value)].droplevel("value", axis=1)


def _named(fits: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
    if isinstance(fits, Mapping):
        named = {str(name): fit for name, fit in fits.items()}
    elif isinstance(fits, (list, tuple)):
        named = {f"({k})": fit for k, fit in enumerate(fits, 1)}
    else:
        raise UnsupportedError(
            "compare: needs a mapping of names to fits, such as {'FE': fe, 'RE': re}, "
            f"not {type(fits).__name__}; accepted are {ACCEPTED}"
        )
    if not named:
        raise EmptyDataError("compare: there are no fits; pass {'FE': fe, 'RE': re}")
    return named


def _criteria_note(
    records: Mapping[str, FitRecord], chosen: Sequence[str]
) -> list[str]:
    """Where AIC is not what a reader may expect."""
    counted = []
    for name in chosen:
        record = records[name]
        found = record.likelihood
        own = record.criteria[0]
        if found is not None and np.isfinite(own) and abs(own - found.aic) > 1e-6:
            counted.append("the residual variance")
        if record.estimator == "within":
            counted.append("the estimated effects")
    if not counted:
        return []
    what = " and ".join(dict.fromkeys(counted))
    return [f"AIC and BIC count {what} as parameters."]


def _fit_notes(
    records: Mapping[str, FitRecord], rename: Mapping[str, str]
) -> list[str]:
    """Remarks of the fits, those of several fits once."""
    notes: dict[str, list[str]] = {}
    for name, record in records.items():
        own = list(record.notes)
        if record.absorbed:
            them = listing([rename.get(term, term) for term in record.absorbed])
            own.insert(0, f"the effects absorb {them}.")
        if record.converged is False:
            own.append("the optimiser did not converge: do not use these numbers.")
        if record.theta is not None and np.ptp(record.theta) > 1e-12:
            own.append("theta is the median over the entities.")
        for note in own:
            notes.setdefault(note, []).append(name)
    return [f"{', '.join(names)}: {note}" for note, names in notes.items()]
