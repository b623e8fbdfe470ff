"""
The sections of a report, and the report itself.
"""

from __future__ import annotations

import base64
import io
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from mixedar.data.variables import main_factor
from mixedar.diagnostics.checkup import Diagnosis
from mixedar.exceptions import (
    MixedARError,
    UnsupportedError,
    check_alpha,
    check_flags,
)
from mixedar.fit import Fit
from mixedar.fit.boundary import boundary_notes
from mixedar.inference.anova import anova_terms
from mixedar.inference.intervals import conf_int_re
from mixedar.report import pictures
from mixedar.report.facts import call_text, data_facts, variables_used
from mixedar.summary import Format, ResultsSummary, SummaryTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 110

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin-bottom: 0.2rem; }
h2 { font-size: 1.3rem; margin-top: 2.5rem; border-bottom: 1px solid #bbb; }
h3 { font-size: 1.05rem; margin-top: 1.6rem; }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 0 1.2rem; }
a { color: #0b5394; }
pre { background: #f4f4f4; padding: 0.8rem; overflow-x: auto; }
table { border-collapse: collapse; margin: 0.8rem 0; font-size: 0.92rem;
  font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
caption { text-align: left; font-weight: 600; padding: 0.3rem 0; }
th, td { padding: 0.15rem 0.7rem; border-bottom: 1px solid #e4e4e4; }
th { font-weight: 600; text-align: right; }
th[scope=row] { font-weight: 400; text-align: left; }
thead th:first-child { text-align: left; }
figure { margin: 1.2rem 0; }
img { max-width: 100%; height: auto; }
figcaption, .note { color: #444; font-size: 0.92rem; }
.warning { border-left: 4px solid #d55e00; padding-left: 0.8rem; }
@media print { nav { display: none; } figure, table { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Section:
    """
    A part of the report.

    Attributes
    ----------
    name : str
        Its anchor.
    title : str
    parts : sequence of str
        HTML.
    """

    name: str
    title: str
    parts: Sequence[str]


def paragraph(text: str, kind: str = "") -> str:
    """
    A paragraph; `kind` is ``"note"``, ``"warning"`` or nothing.
    """
    mark = f' class="{kind}"' if kind else ""
    return f"<p{mark}>{escape(text)}</p>"


def code(text: str) -> str:
    """A block of code."""
    return f"<pre><code>{escape(text)}</code></pre>"


def table(
    frame: pd.DataFrame,
    title: str | None = None,
    formats: Mapping[str, Format] | None = None,
    corner: str = "",
    heads: bool = True,
) -> str:
    """
    A table, its cells formatted like those of a summary.

    Parameters
    ----------
    frame : DataFrame
    title : str, optional
    formats : mapping of str to format, optional
        As :class:`mixedar.summary.SummaryTable` takes them.
    corner : str
        Heading of the row names.
    heads : bool
        Whether columns have headings.

    Returns
    -------
    str
    """
    part = SummaryTable(frame, title, formats or {}, index_header=corner)
    shown = ResultsSummary(tables=[part])
    shown.settings[0]["header"] = heads
    return shown.as_html()


def picture(figure: Figure, text: str) -> str:
    """
    A figure as an image inside the page.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    text : str
        What it shows: printed below it, and read to those who do not see it.

    Returns
    -------
    str
    """
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=_DPI)
    data = base64.b64encode(held.getvalue()).decode("ascii")
    words = escape(text)
    return (
        f'<figure><img alt="{words}" src="data:image/png;base64,{data}">'
        f"<figcaption>{words}</figcaption></figure>"
    )


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """
    The whole page.

    Parameters
    ----------
    title : str
    lead : str
        The line below the title.
    sections : sequence of Section

    Returns
    -------
    str
    """
    links = "".join(
        f'<li><a href="#{one.name}">{escape(one.title)}</a></li>' for one in sections
    )
    bodies = "\n".join(
        f'<section id="{one.name}">\n<h2>{escape(one.title)}</h2>\n'
        + "\n".join(one.parts)
        + "\n</section>"
        for one in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n<p>{escape(lead)}</p>\n"
        f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n{bodies}\n'
        "</body>\n</html>\n"
    )


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
    count = int(fit.layout.is_free.sum()) + fit.structure.k_free
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
        Where to write; ends in ``.html``.
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

    Raises
    ------
    UnsupportedError
        For another suffix.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> path = fit.report("teeth.html", pictures=False)
    >>> path.name
    'teeth.html'
    """
    check_alpha(alpha)
    check_flags(pictures=pictures)
    if path is not None and Path(path).suffix.lower() not in (".html", ".htm"):
        raise UnsupportedError(
            f"report writes HTML, and {str(path)!r} does not end in .html; print the "
            "page of that file to PDF in a browser, or take summary().as_latex() or "
            "as_markdown() for other formats"
        )
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
    return [table(shown, "Tests of terms, each after all others", corner="Term")]


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
    checks = checks.assign(value=[found[name].value_text for name in checks.index])
    checks.columns = pd.Index(["Verdict", "Value", "Measure"])
    return [*parts, table(checks, "Checks", corner="Check")]


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
