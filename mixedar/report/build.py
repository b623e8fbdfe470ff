"""
The sections of a report, and the report itself.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from mixedar.data.variables import main_factor
from mixedar.diagnostics.checkup.report import Diagnosis
from mixedar.exceptions import MixedARError, check_alpha, check_flags
from mixedar.fit import Fit
from mixedar.fit.parameters import boundary_notes
from mixedar.inference.intervals.wald import conf_int_re
from mixedar.inference.terms.anova import anova_terms
from mixedar.report import pictures
from mixedar.report.facts import call_text, data_facts, variables_used
from mixedar.report.page import Section, code, page, paragraph, picture, table
from mixedar.summary import Format, ResultsSummary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANELS = 9
_PACKAGES = ("mixedar", "statsmodels", "numpy", "scipy", "pandas", "matplotlib")
_Picture = tuple[str, tuple[float, float], str, Callable[["Figure"], Any]]


class ModelAsGiven(Protocol):
    """A model that knows what its caller said of residuals and rows."""

    given: Mapping[str, Any]


class MixedResults(Protocol):
    """What a report asks of the results of a mixed model."""

    fit: Fit
    model: ModelAsGiven
    modes: pd.DataFrame

    def summary(self, *, title: str | None, alpha: float) -> ResultsSummary:
        """Tables of the fit."""

    def diagnose(self) -> Diagnosis:
        """What may be wrong with it."""


def picture_parts(fit: Fit, alpha: float = 0.05) -> list[str]:
    """
    All pictures that suit a fit, as HTML; what cannot be drawn says why.

    Figures are made without pyplot: no window opens, and nothing stays open.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    parts = []
    for title, size, words, draw in (*_of_data(fit, alpha), *_of_estimates(fit, alpha)):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        try:
            draw(figure)
        except MixedARError as error:
            parts.append(paragraph(f"{title}: not drawn, since {error}", "note"))
            continue
        parts.append(picture(figure, f"{title}. {words}"))
    return parts


def _of_data(fit: Fit, alpha: float) -> Iterator[_Picture]:
    yield (
        "Overview",
        (9.0, 7.0),
        "The data with the mean of the population, and the normalized residuals: "
        "against fitted values, against normal quantiles, and their autocorrelation. "
        "If the model is right they show no pattern.",
        lambda figure: pictures.plot(fit, figure),
    )
    by = main_factor(fit.data) if fit.has_data else None
    if by is not None:
        yield (
            f"Data and means by {by}",
            (7.0, 4.8),
            f"One thin line a group; bands are {100 * (1 - alpha):g}% intervals of the "
            "means.",
            lambda figure: pictures.plot_spaghetti(
                fit, by, ax=figure.subplots(), alpha=alpha
            ),
        )
    drawn = min(_PANELS, fit.n_groups)
    across = min(3, drawn)
    yield (
        "Single groups",
        (1.2 + 2.3 * across, 1.1 + 1.7 * -(-drawn // across)),
        "Observations with the curves of the population and of the group.",
        lambda figure: pictures.plot_trajectories(
            fit, n_groups=_PANELS, n_columns=across, figure=figure
        ),
    )


def _of_estimates(fit: Fit, alpha: float) -> Iterator[_Picture]:
    if fit.k_fe > 1:
        yield (
            "Fixed effects",
            (7.0, 1.2 + 0.4 * fit.k_fe),
            f"Estimates with {100 * (1 - alpha):g}% intervals; the intercept is left "
            "out.",
            lambda figure: pictures.plot_coefficients(
                fit, figure.subplots(), alpha=alpha
            ),
        )
    effects = fit.k_re + fit.k_vc
    if effects:
        yield (
            "Random effects",
            (1.0 + 3.0 * effects, 3.4),
            "Predicted random effects against normal quantiles.",
            lambda figure: pictures.plot_random_effects(
                fit, "qq", ax=list(np.ravel(figure.subplots(1, effects))), alpha=alpha
            ),
        )
    if fit.structure.k_params:
        yield (
            "Semivariogram",
            (6.5, 4.2),
            "Half the mean squared difference of residuals by their distance, "
            "with what the model expects of it.",
            lambda figure: pictures.plot_variogram(fit, ax=figure.subplots()),
        )
    count = fit.k_re2 + fit.k_vc + fit.structure.k_free
    if count:
        yield (
            "Profile likelihoods",
            (9.0, 0.7 + 2.5 * -(-(count + 1) // 3)),
            "The signed root of twice the fall of the log-likelihood. A straight line "
            "means that Wald intervals will do; a flat one, that the data say little.",
            lambda figure: pictures.plot_profiles(fit, alpha=alpha, figure=figure),
        )


def report(
    results: MixedResults,
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
    results : MixedLMARResults
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
    check_alpha(alpha)
    check_flags(pictures=pictures)
    fit = results.fit
    heading = str(results.summary(title=title, alpha=alpha).title)
    sections = [
        Section("estimates", "Estimates", _estimates(results, alpha)),
        Section("diagnosis", "Diagnosis", _guarded(lambda: _diagnosis(results))),
    ]
    if pictures:
        sections.append(Section("pictures", "Pictures", picture_parts(fit, alpha)))
    call = _guarded(lambda: [code(call_text(fit, results.model.given))])
    sections += [
        Section("data", "Data", _guarded(lambda: _data(fit))),
        Section("call", "Call and versions", [*call, _versions(fit)]),
    ]
    html = page(heading, _lead(fit), sections)
    if path is None:
        return html
    where = Path(path)
    where.write_text(html, encoding="utf-8")
    return where


def _guarded(make: Callable[[], list[str]]) -> list[str]:
    """Parts of a section, or the reason why there are none."""
    try:
        return make()
    except MixedARError as error:
        return [paragraph(f"Not available: {error}", "note")]


def _lead(fit: Fit) -> str:
    """What was fitted, in one line."""
    structure = fit.structure.label
    now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    return (
        f"{fit.endog_name}: {fit.nobs:,} observations of {fit.n_groups:,} groups, "
        f"{structure.lower() if structure.islower() else structure} residuals, "
        f"{fit.method}. Made on {now}."
    )


def _estimates(results: MixedResults, alpha: float) -> list[str]:
    fit, parts = results.fit, []
    if not fit.converged:
        text = "The search for the maximum did not converge; do not rely on these "
        parts.append(paragraph(f"{text}numbers.", "warning"))
    parts.append(results.summary(title="Summary", alpha=alpha).as_html())
    parts += [paragraph(f"{note}.", "warning") for note in boundary_notes(fit)]
    parts += _guarded(lambda: _terms(fit))
    parts += _guarded(lambda: _intervals(fit, alpha))
    count = len(fit.modes)
    if count > 1:
        title = f"{count} maxima of the likelihood were found, the best first"
        parts.append(table(results.modes.round(6), title))
    return parts


def _terms(fit: Fit) -> list[str]:
    frame = anova_terms(fit, 3)
    columns = {"num_df": "DF", "den_df": "Den. DF", "F": "F", "p": "P>F"}
    shown = frame[list(columns)].rename(columns=columns)
    formats: dict[str, Format] = {"P>F": "pvalue", "F": ".3f", "Den. DF": ".1f"}
    return [table(shown, "Tests of terms, each after all others", formats, "Term")]


def _intervals(fit: Fit, alpha: float) -> list[str]:
    kind = "profile likelihood"
    try:
        frame = conf_int_re(fit, "profile", alpha)
    except MixedARError:
        kind, frame = "Wald", conf_int_re(fit, "wald", alpha)
    shown = frame[["estimate", "lower", "upper"]].copy()
    shown.columns = pd.Index(["Estimate", f"[{alpha / 2:.4g}", f"{1 - alpha / 2:.4g}]"])
    title = f"Covariance parameters, {kind} intervals"
    notes = frame["note"].dropna()
    return [
        table(shown, title, corner="Parameter"),
        *(paragraph(f"{name}: {note}", "note") for name, note in notes.items() if note),
    ]


def _diagnosis(results: MixedResults) -> list[str]:
    found = results.diagnose()
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
    formats: dict[str, Format] = {"Value": "{:.4g}".format}
    return [*parts, table(checks, "Checks", formats, "Check")]


def _data(fit: Fit) -> list[str]:
    parts = [table(data_facts(fit.data), "Rows and groups", heads=False)]
    numeric, factors = variables_used(fit.data)
    if len(numeric):
        parts.append(table(numeric, "Numeric variables", corner="Variable"))
    if len(factors):
        parts.append(table(factors, "Factors and dates", corner="Variable"))
    return parts


def _versions(fit: Fit) -> str:
    versions = {"Python": platform.python_version()}
    spec = fit.data.formula_spec if fit.has_data else None
    for name in (*_PACKAGES, *([] if spec is None else [str(spec.engine)])):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    frame = pd.DataFrame({"Version": versions})
    return table(frame, "Versions", corner="Package")
