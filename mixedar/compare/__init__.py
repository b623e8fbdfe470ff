"""Several fits side by side, whatever program made them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mixedar._lazy import with_near_names
from mixedar.compare.frames import (
    ACCEPTED,
    coefficients_frame,
    comparable,
    components_frame,
    read,
    sample_classes,
    statistics_frame,
)
from mixedar.compare.record import FitRecord
from mixedar.exceptions import (
    EmptyDataError,
    UnknownColumnError,
    UnsupportedError,
    check_choice,
    check_flags,
    listing,
)
from mixedar.summary import Format, ResultsSummary, SummaryTable, format_values

if TYPE_CHECKING:
    from matplotlib.axes import Axes


FORMATS: dict[str, Format] = {
    **dict.fromkeys(("Observations", "Groups"), ".0f"),
    **dict.fromkeys(("rho", "theta", "R-squared"), "share"),
    **{f"R-squared {part}": "share" for part in ("within", "between", "overall")},
    **dict.fromkeys(("R2 marginal", "R2 conditional", "ICC"), "share"),
    "Log-likelihood": ".2f",
    "AIC": ".1f",
    "BIC": ".1f",
}
_GENERAL = ("estimate", "std_error", "statistic", "p_value", "conf_int", "component")
# What stands below an estimate: its columns, the words of the note, and a format.
_BELOW: dict[str, tuple[tuple[str, ...], str, Format | None]] = {
    "se": (("std_error",), "Standard errors in parentheses", None),
    "t": (("statistic",), "t or z statistics in parentheses", "statistic"),
    "p": (("p_value",), "p-values in parentheses", "pvalue"),
    "ci": (("conf_low", "conf_high"), "confidence intervals in brackets", None),
}
_STARS = (0.05, 0.01, 0.001)


def thresholds(stars: bool | Sequence[float]) -> tuple[float, ...]:
    """
    Levels below which a p-value gets one, two, ... stars.

    Parameters
    ----------
    stars : bool or sequence of float
        True for 0.05, 0.01 and 0.001.

    Returns
    -------
    tuple of float
        Descending; empty without stars.

    Raises
    ------
    UnsupportedError
        If levels are not between 0 and 1.
    """
    if isinstance(stars, (bool, np.bool_)):
        return _STARS if stars else ()
    try:
        levels = tuple(sorted((float(level) for level in stars), reverse=True))
    except (TypeError, ValueError):
        levels = (np.nan,)
    if not all(0.0 < level < 1.0 for level in levels):
        raise UnsupportedError(
            f"compare: stars={stars!r}: pass True, or levels between 0 and 1 such as "
            "(0.1, 0.05, 0.01)"
        )
    return levels


class ModelsTable(SummaryTable):
    """
    A table with a column for each model.

    Parameters
    ----------
    frames : mapping of str to DataFrame
        The attributes of :class:`Comparison`.
    statistic : str
        What stands below the estimates, see :func:`compare`.
    levels : sequence of float
        Of :func:`thresholds`.
    custom : mapping of str to format
        The caller's formats.
    """

    def __init__(
        self,
        frames: Mapping[str, pd.DataFrame],
        statistic: str,
        levels: Sequence[float],
        custom: Mapping[str, Format],
    ) -> None:
        self._below, _, self._format = _BELOW[statistic]
        self._methods, self._coefficients = frames["methods"], frames["coefficients"]
        self._levels, self._custom = tuple(levels), dict(custom)
        super().__init__(_numbers(frames, self._below), name="models")
        known = {*_GENERAL, *FORMATS, *self.frame.index.get_level_values("term")}
        unknown = [key for key in custom if key not in known]
        if unknown:
            raise UnknownColumnError(
                f"compare: formats for {unknown}, which are no rows of the table; "
                f"give {', '.join(map(repr, _GENERAL))}, or one of "
                f"{', '.join(sorted(known - set(_GENERAL)))}"
            )
        for key, fmt in custom.items():
            self._check_format(key, fmt)

    def _check_format(self, key: str, fmt: Format) -> None:
        """Raise if the numbers of a row cannot be written so."""
        if callable(fmt):
            return
        shown = self.frame[self.frame.index.get_level_values("term") == key]
        try:
            format_values(shown.to_numpy().ravel().tolist() or [1.5], fmt)
        except (AttributeError, TypeError, ValueError) as error:
            raise UnsupportedError(
                f"compare: formats={{{key!r}: {fmt!r}}}: {fmt!r} formats no number; "
                "pass one such as '.2f' or '%.2f', or a function that returns text"
            ) from error

    def formatted(self) -> pd.DataFrame:
        """Return the cells as strings, what is wanted of each below the estimates."""
        rows: list[tuple[str, list[str]]] = []
        last = None
        for k, (part, term, value) in enumerate(self.frame.index):
            if last not in (part, None):
                rows.append(("", [""] * self.frame.shape[1]))
            last = part
            if value == "estimate":  # what stands below it is in the next rows
                block = self.frame.iloc[k : k + 1 + len(self._below)]
                estimates, below = self._pair(str(term), block)
                rows += [(str(term), estimates), ("", below)]
            elif value not in self._below:
                texts = self._row(part, str(term), self.frame.iloc[k])
                rows.append((str(term), texts))
        for term, words in self._methods.iterrows():
            rows.append((str(term), list(map(str, words))))
        labels, cells = zip(*rows, strict=True)
        return pd.DataFrame(cells, labels, self.frame.columns, dtype=object)

    def aligns(self) -> str:
        """Return one letter a printed column: all are centred."""
        return "c" * self.frame.shape[1]

    def _row(self, part: str, term: str, values: pd.Series) -> list[str]:
        default = FORMATS.get(term, _digits(values))
        if term.startswith("Corr("):
            default = "share"
        if part == "statistics" and term.startswith("Levels of "):
            default = ".0f"
        if part == "components":
            default = self._custom.get("component", default)
        return format_values(values, self._custom.get(term, default))

    def _pair(self, term: str, block: pd.DataFrame) -> list[list[str]]:
        errors = pd.Series(_values(self._coefficients, "std_error").loc[term])
        common = self._custom.get(term, _decimals(block.iloc[0], errors))
        first = format_values(block.iloc[0], self._custom.get("estimate", common))
        name = self._below[0] if len(self._below) == 1 else "conf_int"
        below = self._custom.get(name, self._format or common)
        texts = [format_values(row, below) for _, row in block.iloc[1:].iterrows()]
        left, right = "[]" if len(texts) > 1 else "()"
        cells = [", ".join(cell) for cell in zip(*texts, strict=True)]
        pvalues = _values(self._coefficients, "p_value").loc[term].to_numpy(dtype=float)
        stars = ["*" * sum(p < level for level in self._levels) for p in pvalues]
        return [
            [text + star for text, star in zip(first, stars, strict=True)],
            [f"{left}{cell}{right}" if cell.strip(", ") else "" for cell in cells],
        ]


def _decimals(estimate: pd.Series, error: pd.Series) -> Format:
    """Two digits of the smallest standard error, for the whole row."""
    errors = [float(v) for v in error.dropna() if v > 0.0]
    widest = max((abs(float(v)) for v in estimate.dropna()), default=0.0)
    if not errors:
        return "number"
    places = 1 - math.floor(math.log10(min(errors)))
    if places > 6 or widest >= 1e9:
        return "number"
    return f".{max(places, 2 if widest < 1000.0 else 0)}f"


def _digits(values: pd.Series) -> Format:
    """Three decimals, or more where the smallest value needs them."""
    sizes = [abs(float(v)) for v in values.dropna() if v != 0.0]
    if not sizes:
        return ".3f"
    places = 2 - math.floor(math.log10(min(sizes)))
    return (
        "number" if places > 6 or max(sizes) >= 1e9 else f".{min(max(places, 2), 4)}f"
    )


class Comparison(ResultsSummary):
    """
    Several fits side by side; made by :func:`compare`.

    Printing, ``as_text``, ``as_html`` and ``as_latex`` are those of
    :class:`ResultsSummary`.

    Attributes
    ----------
    coefficients : DataFrame, shape (terms, 7 models)
        Columns by model and ``estimate, std_error, statistic, df, p_value,
        conf_low, conf_high``.
    components : DataFrame, shape (components, models)
        Standard deviations and correlations, or variances and covariances, of
        random effects and residuals.
    statistics : DataFrame, shape (statistics, models)
        Numbers of observations, groups and, with several factors, their levels;
        theta, R squared, of mixed models R2 and ICC, and log-likelihood, AIC and BIC
        of the fits in which they may be compared.
    methods : DataFrame of str, shape (2, models)
        Estimator, and kind of the standard errors.
    notes : list of str
        Printed below the table.

    Notes
    -----
    The one frame of ``to_frame`` and ``to_frames``, ``"models"``, is indexed by
    ``part`` (``"coefficients"``, ``"components"``, ``"statistics"``), ``term`` and
    ``value`` (``"estimate"`` and what stands below it of coefficients, else
    ``"value"``).

    Examples
    --------
    >>> from statsmodels.datasets import grunfeld
    >>> import mixedar.formula.api as mar
    >>> firms = grunfeld.load_pandas().data.astype({"year": int})
    >>> fe = mar.fixed_effects("invest ~ value + capital", firms, "firm", "year").fit()
    >>> re = mar.random_effects("invest ~ value + capital", firms, "firm", "year").fit()
    >>> table = mar.compare({"FE": fe, "RE": re})
    >>> table.coefficients.index.tolist()
    ['Intercept', 'value', 'capital']
    """

    def __init__(
        self,
        frames: Mapping[str, pd.DataFrame],
        notes: Sequence[str] = (),
        levels: Sequence[float] = (),
        formats: Mapping[str, Format] | None = None,
        title: str | None = None,
        statistic: str = "se",
    ) -> None:
        self.coefficients = frames["coefficients"]
        self.components = frames["components"]
        self.statistics = frames["statistics"]
        self.methods = frames["methods"]
        self.notes = list(notes)
        table = ModelsTable(frames, statistic, levels, formats or {})
        super().__init__(title=title, tables=[table], notes=self.notes)

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

        Examples
        --------
        >>> from statsmodels.datasets import grunfeld
        >>> import mixedar.formula.api as mar
        >>> firms = grunfeld.load_pandas().data.astype({"year": int})
        >>> fe = mar.fixed_effects(
        ...     "invest ~ value + capital", firms, "firm", "year").fit(
        ... )
        >>> re = mar.random_effects(
        ...     "invest ~ value + capital", firms, "firm", "year").fit(
        ... )
        >>> table = mar.compare({"FE": fe, "RE": re})
        >>> ax = table.plot()
        >>> len(ax.get_yticklabels())
        2
        """
        from mixedar.plotting.coefficients import plot_coefficients

        return plot_coefficients(self.coefficients, ax, coefficients, alpha)


@with_near_names
def compare(
    fits: Mapping[str, object] | Sequence[object],
    *,
    rename: Mapping[str, str] | None = None,
    keep: str | Iterable[str] | None = None,
    drop: str | Iterable[str] | None = None,
    stars: bool | Sequence[float] = False,
    statistic: str = "se",
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
        mixedar (mixed models, all panel estimators, pooled fits of imputations), of
        statsmodels (OLS, WLS, GLS, GLSAR, GEE, MixedLM) or of linearmodels' panel
        models.
        Fits without names are ``(1)``, ``(2)``, ...
    rename : mapping of str to str, optional
        New names of coefficients, ``{"const": "Intercept"}``; several names may
        become one, so that coefficients stand in the same row.
    keep, drop : str or iterable of str, optional
        Coefficients to show, or not to show.
    stars : bool or sequence of float
        Mark p-values below 0.05, 0.01 and 0.001, or below the levels given.
    statistic : {"se", "t", "p", "ci"}
        What stands below the estimates: standard errors, t or z statistics, p-values
        or confidence intervals.
    components : {"sd", "variance"}
        Show standard deviations and correlations, or variances and covariances.
    formats : mapping of str to format, optional
        Of ``"estimate"``, ``"std_error"`` (or ``"statistic"``, ``"p_value"``,
        ``"conf_int"``) and ``"component"``, or of a row by its name (``"AIC"``,
        ``"x1"``): ``".2f"``, ``"%.2f"``, or a callable that takes the value and
        returns its text.  By default a row shows two digits of its smallest standard
        error.
    title : str, optional
    alpha : float
        1 - coverage of the intervals, in the table and in ``coefficients``.
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
    innovations.  R squareds are squared correlations, as in Stata; R2 and ICC of
    mixed models are those of Nakagawa and Schielzeth, ``fit.r2()`` and the adjusted
    one of ``fit.icc()``.

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
    check_choice("statistic", statistic, tuple(_BELOW))
    named = _named(fits)
    records = {
        name: read(fit, f"compare: {name!r}", alpha) for name, fit in named.items()
    }
    levels = thresholds(stars)
    check_flags(allow_different_samples=allow_different_samples)
    classes, notes = sample_classes(records, allow_different_samples)
    chosen, remarks = comparable(records, classes)
    frames = {
        "coefficients": coefficients_frame(records, alpha, rename, keep, drop),
        "components": components_frame(records, components),
        "statistics": statistics_frame(records, chosen),
        "methods": pd.DataFrame(
            {name: (one.estimator, one.cov_type) for name, one in records.items()},
            index=["Estimator", "Std. errors"],
        ),
    }
    meaning = [f"{'*' * k} p < {level:g}" for k, level in enumerate(levels, 1)]
    first = f"{100.0 * (1.0 - alpha):g}% " if statistic == "ci" else ""
    first += f"{_BELOW[statistic][1]}{'; ' * bool(levels)}{', '.join(meaning)}."
    notes = [first, *notes, *remarks]
    notes += _criteria_note(records, chosen)
    notes += _fit_notes(records, rename or {})
    return Comparison(frames, notes, levels, formats, title, statistic)


def _numbers(frames: Mapping[str, pd.DataFrame], below: Sequence[str]) -> pd.DataFrame:
    """All numbers that are printed, a column a model, by part, term and value."""
    coefficients, kinds = frames["coefficients"], ["estimate", *below]
    pair = pd.concat({kind: _values(coefficients, kind) for kind in kinds})
    order = pd.MultiIndex.from_product([coefficients.index, kinds])
    parts = {"coefficients": pair.swaplevel().reindex(order)}
    for part in ("components", "statistics"):
        parts[part] = pd.concat({"value": frames[part]}).swaplevel()
    return pd.concat(parts, names=["part", "term", "value"]).astype(float)


def _values(coefficients: pd.DataFrame, value: str) -> pd.DataFrame:
    """One number of each coefficient, a column a model."""
    return coefficients.loc[:, (slice(None), value)].droplevel("value", axis=1)


def _named(fits: Mapping[str, object] | Sequence[object]) -> dict[str, object]:
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
