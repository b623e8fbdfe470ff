"""
The sections of a report, and the report itself.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from mixedar.exceptions import MixedARError
from mixedar.report.call import call_text
from mixedar.report.data import data_facts, variables_used
from mixedar.report.page import Section, code, page, paragraph, table
from mixedar.report.pictures import picture_parts

__all__ = ["report"]

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
