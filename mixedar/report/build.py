"""
The sections of a report, and the report itself.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixedar.exceptions import MixedARError, NotComputedError
from mixedar.data.variables import main_factor
from mixedar.report.call import call_text
from mixedar.report.page import Section, code, page, paragraph, picture, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# So many levels of a factor are listed with their counts.
_MOST_LEVELS = 6


def data_facts(fit: Any) -> pd.DataFrame:
    """
    Numbers of rows and groups, and when observations were made.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    DataFrame
        One column, ``value``, of texts.

    Raises
    ------
    NotComputedError
        If the data were removed from the fit.
    """
    fit = getattr(fit, "_results", fit)
    model = fit.model
    if model.endog is None:
        raise NotComputedError("the data were removed from this fit")
    low, middle, high = fit._group_sizes
    facts = {
        "Observations": f"{model.nobs:,}",
        "Groups": f"{model.n_groups:,}",
        "Observations a group": (
            f"{low}" if low == high else f"{low} to {high}, on average {middle:.4g}"
        ),
    }
    name = getattr(model, "groups_name", None)
    if name is not None:
        facts["Column of the groups"] = str(name)
    if model.series is not None:
        named = getattr(model.series, "name", None)
        facts["Series inside groups"] = str(named or "given as an array")
    if model.time is None:
        facts["Time"] = "the order of the rows"
    else:
        time = pd.Series(model.time)
        named = getattr(model, "time_name", None) or time.name or "given as an array"
        facts["Time"] = f"{named}: {_short(time.min())} to {_short(time.max())}"
        if fit.structure.k_params:
            unit = model.time_unit
            facts["Unit of time"] = "as given" if unit == "1" else unit
            gaps = model._grouped.gaps
            gaps = gaps[gaps > 0.0]
            if len(gaps):
                facts["Distance of neighbours"] = _range(gaps)
    return pd.DataFrame({"value": facts})


def _range(values: Any) -> str:
    low, high = float(np.min(values)), float(np.max(values))
    if low == high:
        return f"{low:.6g}, all equal"
    return f"{low:.6g} to {high:.6g}, mostly {float(np.median(values)):.6g}"


def variables_used(fit: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """
    The variables of the model.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    numeric : DataFrame
        Mean, standard deviation (of rows), smallest and largest value, number
        of distinct values, and where it varies.
    factors : DataFrame of str
        Levels with their numbers of rows, and where they vary.
    """
    fit = getattr(fit, "_results", fit)
    columns = _columns(fit)
    numeric: dict[Any, dict[str, Any]] = {}
    factors: dict[Any, dict[str, Any]] = {}
    codes = np.asarray(fit.model._codes)
    labels = _label_columns(fit)
    for name, column in columns.items():
        column = column.reset_index(drop=True)
        where = _varies(column, codes)
        is_number = pd.api.types.is_numeric_dtype(column.dtype)
        if is_number and column.dtype != bool and name not in labels:
            values = column.astype(float)
            numeric[name] = {
                "Mean": values.mean(),
                "Std.Dev.": values.std(),
                "Min": values.min(),
                "Max": values.max(),
                "Distinct": f"{column.nunique():,}",
                "Varies": where,
            }
        else:
            factors[name] = {"Values": _levels(column), "Varies": where}
    return pd.DataFrame(numeric).T, pd.DataFrame(factors).T


def _columns(fit: Any) -> dict[Any, pd.Series]:
    """The response, then the columns that the formulas name."""
    model = fit.model
    frame = getattr(model.data, "frame", None)
    found = {str(model.endog_names): pd.Series(np.asarray(model.endog))}
    if frame is None or getattr(model, "formula_spec", None) is None:
        names = list(model.exog_names)
        found |= {
            name: pd.Series(model.exog[:, j])
            for j, name in enumerate(names)
            if np.ptp(model.exog[:, j]) > 0.0
        }
        return found
    wanted = list(model.formula_spec.variables)
    if model.re_spec is not None:
        wanted += model.re_spec.variables
    wanted.append(model.time_name)
    for name in dict.fromkeys(wanted):
        if name in frame.columns:
            found[name] = frame[name]
    return found


def _label_columns(fit: Any) -> set[Any]:
    spec = getattr(fit.model, "formula_spec", None)
    return set() if spec is None else set(spec.use.coded) | set(spec.levels)


def _varies(column: pd.Series, codes: Any) -> str:
    """Whether a variable varies within groups, between them, or both."""
    numbers = pd.factorize(column)[0]
    order = np.argsort(codes, kind="stable")
    same = codes[order][1:] == codes[order][:-1]
    if (same & (np.diff(numbers[order]) != 0)).any():
        return "within groups"
    return "between groups" if (numbers != numbers[0]).any() else "nowhere"


def _levels(column: pd.Series) -> str:
    counts = column.value_counts(sort=False)
    if len(counts) > _MOST_LEVELS:
        shown = f"{len(counts):,} values"
        if pd.api.types.is_datetime64_any_dtype(column.dtype):
            shown += f", {_short(column.min())} to {_short(column.max())}"
        return shown
    counts = counts.sort_index()
    return ", ".join(f"{level} ({count:,})" for level, count in counts.items())


def _short(value: Any) -> str:
    if isinstance(value, pd.Timestamp):
        return str(value.date()) if value == value.normalize() else str(value)
    return f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value)


_PANELS = 9


def picture_parts(fit: Any, alpha: float = 0.05) -> list[str]:
    """
    All pictures that suit a fit, as HTML.

    Figures are made without pyplot: no window opens, and nothing stays open.

    Parameters
    ----------
    fit : MixedLMARResults
    alpha : float
        1 - coverage of the intervals.

    Returns
    -------
    list of str
        What cannot be drawn says why in its place.
    """
    parts = []
    for title, size, words, draw in _pictures(fit, alpha):
        figure = _figure(size)
        try:
            draw(figure)
        except MixedARError as error:
            parts.append(paragraph(f"{title}: not drawn, since {error}", "note"))
            continue
        parts.append(picture(figure, f"{title}. {words}"))
    return parts


def _figure(size: tuple[float, float]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


_Picture = tuple[str, tuple[float, float], str, Callable[["Figure"], Any]]


def _pictures(fit: Any, alpha: float) -> Iterator[_Picture]:
    share = f"{100 * (1 - alpha):g}%"
    yield (
        "Overview",
        (9.0, 7.0),
        "The data with the mean of the population, and the normalized residuals: "
        "against fitted values, against normal quantiles, and their autocorrelation. "
        "If the model is right they show no pattern.",
        lambda figure: fit.plot(figure),
    )
    by = main_factor(fit)
    if by is not None:
        yield (
            f"Data and means by {by}",
            (7.0, 4.8),
            f"One thin line a group; bands are {share} intervals of the means.",
            lambda figure: fit.plot_spaghetti(by, ax=figure.subplots(), alpha=alpha),
        )
    drawn = min(_PANELS, fit.n_groups)
    across = min(3, drawn)
    yield (
        "Single groups",
        (1.2 + 2.3 * across, 1.1 + 1.7 * -(-drawn // across)),
        "Observations with the curves of the population and of the group.",
        lambda figure: fit.plot_trajectories(
            n_groups=_PANELS, n_columns=across, figure=figure
        ),
    )
    if fit.k_fe > 1:
        yield (
            "Fixed effects",
            (7.0, 1.2 + 0.4 * fit.k_fe),
            f"Estimates with {share} intervals; the intercept is left out.",
            lambda figure: fit.plot_coefficients(figure.subplots(), alpha=alpha),
        )
    effects = fit.k_re + fit.k_vc
    if effects:
        yield (
            "Random effects",
            (1.0 + 3.0 * effects, 3.4),
            "Predicted random effects against normal quantiles.",
            lambda figure: fit.plot_random_effects(
                "qq", ax=list(np.ravel(figure.subplots(1, effects))), alpha=alpha
            ),
        )
    if fit.structure.k_params:
        yield (
            "Semivariogram",
            (6.5, 4.2),
            "Half the mean squared difference of residuals by their distance in time, "
            "with what the model expects of it.",
            lambda figure: fit.plot_variogram(ax=figure.subplots()),
        )
    targets = fit.k_re2 + fit.k_vc + fit.structure.k_free
    if targets:
        down = -(-(targets + 1) // 3)
        yield (
            "Profile likelihoods",
            (9.0, 0.7 + 2.5 * down),
            "The signed root of twice the fall of the log-likelihood. A straight line "
            "means that Wald intervals will do; a flat one, that the data say little.",
            lambda figure: fit.plot_profiles(alpha=alpha, figure=figure),
        )


_PACKAGES = ("mixedar", "statsmodels", "numpy", "scipy", "pandas", "matplotlib")


def report(
    fit: Any,
    path: str | Path | None = None,
    title: str | None = None,
    *,
    alpha: float = 0.05,
    pictures: bool = True,
) -> Path | str:
    """
    Write a fit as one HTML file that needs no other.

    Summary, tests of terms, intervals of the covariance parameters, pictures,
    diagnosis, the data, the call that makes the fit again, and versions.  What
    cannot be computed for a fit says why in its place.

    Parameters
    ----------
    fit : MixedLMARResults
    path : str or Path, optional
        Where to write.
    title : str, optional
        Heading of the page.
    alpha : float
        1 - coverage of the intervals.
    pictures : bool
        Whether to draw (matplotlib is needed).

    Returns
    -------
    Path or str
        The file that was written; the HTML if there is no `path`.
    """
    results = getattr(fit, "_results", fit)
    summary = results.summary(alpha=alpha, title=title)
    heading = str(summary.title)
    sections = [
        Section("estimates", "Estimates", _estimates(results, alpha)),
        Section("diagnosis", "Diagnosis", _guarded(_diagnosis, results)),
    ]
    if pictures:
        drawn = picture_parts(results, alpha)
        sections.append(Section("pictures", "Pictures", drawn))
    sections += [
        Section("data", "Data", _guarded(_data, results)),
        Section("call", "Call and versions", _call(results)),
    ]
    html = page(heading, _lead(results), sections)
    if path is None:
        return html
    where = Path(path)
    where.write_text(html, encoding="utf-8")
    return where


def _guarded(make: Callable[..., list[str]], *given: Any) -> list[str]:
    """Parts of a section, or the reason why there are none."""
    try:
        return make(*given)
    except MixedARError as error:
        return [paragraph(f"Not available: {error}", "note")]


def _lead(fit: Any) -> str:
    """What was fitted, in one line."""
    endog, structure, _ = fit._labels
    now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    return (
        f"{endog}: {fit.nobs:,} observations of {fit.n_groups:,} groups, "
        f"{structure.lower() if structure.islower() else structure} residuals, "
        f"{fit.method}. Made on {now}."
    )


def _estimates(fit: Any, alpha: float) -> list[str]:
    parts = [fit.summary(alpha=alpha, title="Summary").as_html()]
    if not fit.converged:
        parts.insert(
            0,
            paragraph(
                "The search for the maximum did not converge; do not rely on these "
                "numbers.",
                "warning",
            ),
        )
    parts += [paragraph(f"{note}.", "warning") for note in fit.boundary_notes]
    parts += _guarded(_terms, fit)
    parts += _guarded(_intervals, fit, alpha)
    if len(fit.modes) > 1:
        parts.append(
            table(
                fit.modes.round(6),
                f"{len(fit.modes)} maxima of the likelihood were found, the best first",
            )
        )
    return parts


def _terms(fit: Any) -> list[str]:
    frame = fit.anova(type=3)
    columns = {"num_df": "DF", "den_df": "Den. DF", "F": "F", "p": "P>F"}
    shown = frame[list(columns)].rename(columns=columns)
    formats: dict[Any, Any] = {"P>F": "pvalue", "F": ".3f", "Den. DF": ".1f"}
    return [table(shown, "Tests of terms, each after all others", formats, "Term")]


def _intervals(fit: Any, alpha: float) -> list[str]:
    method = "profile"
    try:
        frame = fit.conf_int_re(method, alpha)
    except MixedARError:
        method = "wald"
        frame = fit.conf_int_re(method, alpha)
    shown = frame[["estimate", "lower", "upper"]].copy()
    shown.columns = pd.Index(["Estimate", f"[{alpha / 2:.4g}", f"{1 - alpha / 2:.4g}]"])
    kind = "profile likelihood" if method == "profile" else "Wald"
    parts = [
        table(shown, f"Covariance parameters, {kind} intervals", corner="Parameter")
    ]
    notes = frame["note"].dropna()
    parts += [
        paragraph(f"{name}: {note}", "note") for name, note in notes.items() if note
    ]
    return parts


def _diagnosis(fit: Any) -> list[str]:
    found = fit.diagnose()
    parts = [
        paragraph(
            f"{one.name.capitalize()}: {one.sentence}",
            "warning" if one.is_alarm else "",
        )
        for one in found.findings
        if one.severity != "ok"
    ]
    if not any(one.is_alarm for one in found.findings):
        parts.insert(0, paragraph("No check raised an alarm."))
    checks = found.frame[["verdict", "value", "measure"]]
    checks.columns = pd.Index(["Verdict", "Value", "Measure"])
    formats: dict[Any, Any] = {"Value": "{:.4g}".format}
    return [*parts, table(checks, "Checks", formats, "Check")]


def _data(fit: Any) -> list[str]:
    parts = [table(data_facts(fit), "Rows and groups", heads=False)]
    numeric, factors = variables_used(fit)
    if len(numeric):
        parts.append(table(numeric, "Numeric variables", corner="Variable"))
    if len(factors):
        parts.append(table(factors, "Factors and dates", corner="Variable"))
    return parts


def _call(fit: Any) -> list[str]:
    versions = {"Python": platform.python_version()}
    for name in (*_PACKAGES, _engine(fit)):
        if name is None:
            continue
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    frame = pd.DataFrame({"Version": versions})
    return [code(call_text(fit)), table(frame, "Versions", corner="Package")]


def _engine(fit: Any) -> str | None:
    spec = getattr(fit.model, "formula_spec", None)
    return None if spec is None else str(spec.engine)
