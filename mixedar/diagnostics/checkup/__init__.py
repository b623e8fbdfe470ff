"""A diagnosis of a fit: findings, and what to do about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import astuple
from functools import cache, cached_property
from typing import Any

import numpy as np
import pandas as pd

from mixedar._lazy import with_near_names
from mixedar.diagnostics.checkup import design, residuals, search
from mixedar.diagnostics.checkup.finding import SEVERITIES, Finding, joined
from mixedar.diagnostics.influence.results import GroupInfluence, without_each
from mixedar.diagnostics.residuals.score import ScoreTests
from mixedar.exceptions import UnsupportedError, check_alpha
from mixedar.fit import Fit
from mixedar.summary import Printed, ResultFrame, ResultsSummary, SummaryTable


class Diagnosis(Printed):
    """
    What :func:`diagnose` found; prints as one page.

    Parameters
    ----------
    fit : Fit
    findings : list of Finding
        In the order of the checks.
    alpha : float

    Attributes
    ----------
    findings : list of Finding
        The gravest first.
    alpha : float
        Level of each check that is a test.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> diagnosis = fit.diagnose()
    >>> [finding.name for finding in diagnosis.alarms]
    ['outlying groups']
    """

    def __init__(self, fit: Fit, findings: list[Finding], alpha: float) -> None:
        self.findings = sorted(findings, key=lambda f: SEVERITIES.index(f.severity))
        self.alpha = alpha
        self._checked = findings
        self._about = {
            "Model:": "MixedLMAR",
            "Dep. variable:": fit.endog_name,
            "Method:": "REML" if fit.reml else "ML",
            "Residuals:": fit.structure.label,
            "No. observations:": fit.nobs,
            "No. groups:": fit.n_groups,
        }

    def __getitem__(self, name: str) -> Finding:
        """
        The finding of a check.

        Raises
        ------
        KeyError
            If there is no such check.
        """
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(f"{name!r}; there are {[f.name for f in self._checked]}")

    @property
    def alarms(self) -> list[Finding]:
        """Findings that are serious or warnings."""
        return [finding for finding in self.findings if finding.is_alarm]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """
        A row a check, in a fixed order.

        Columns ``verdict``, ``value``, ``measure`` and ``sentence``.
        """
        columns = ["check", "verdict", "value", "measure", "sentence"]
        rows = [astuple(finding) for finding in self._checked]
        return ResultFrame.of(pd.DataFrame(rows, columns=columns).set_index("check"))

    def summary(self) -> ResultsSummary:
        """
        The page.

        Returns
        -------
        ResultsSummary
            A table of the checks, then a sentence or two on each that is not in
            order.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> diagnosis = fit.diagnose()
        >>> diagnosis.summary().title
        'Diagnosis of a linear mixed model'
        """
        table = self.frame[["verdict", "value", "measure"]]
        table = table.assign(
            verdict=table["verdict"].replace("unknown", "not computed"),
            value=[finding.value_text for finding in self._checked],
        )
        reported = [f for f in self.findings if f.severity != "ok"]
        notes = [f"{f.name.capitalize()}: {f.sentence}" for f in reported]
        fine = [f.name for f in self._checked if f.severity == "ok"]
        if fine:
            also = "also " if reported else ""
            notes.append(f"Looked at {also}and found in order: {joined(fine)}.")
        return ResultsSummary(
            title="Diagnosis of a linear mixed model",
            header={**self._about, "Verdict:": self._verdict()},
            tables=[
                SummaryTable(
                    table,
                    title="Checks",
                    name="checks",
                    index_header="Check",
                )
            ],
            notes=notes,
        )

    def _verdict(self) -> str:
        counts = Counter(f.severity for f in self._checked)
        words = {
            "serious": ("serious problem", "serious problems"),
            "warning": ("warning", "warnings"),
            "note": ("note", "notes"),
            "unknown": ("not computed", "not computed"),
        }
        parts = [
            f"{counts[severity]} {words[severity][counts[severity] > 1]}"
            for severity in words
            if counts[severity]
        ]
        return ", ".join(parts) or "nothing to report"

    def to_frames(self) -> dict[str, pd.DataFrame]:
        """
        The tables of the page.

        Returns
        -------
        dict of str to DataFrame
            ``"checks"``: :attr:`frame`.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> diagnosis = fit.diagnose()
        >>> list(diagnosis.to_frames())
        ['checks']
        """
        return {"checks": ResultFrame.of(self.frame.copy())}

    def as_text(self, width: int = 80) -> str:
        """
        The page as plain text.

        Parameters
        ----------
        width : int
            Of a line, in characters.

        Returns
        -------
        str

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> diagnosis = fit.diagnose()
        >>> text = diagnosis.as_text()
        """
        return self.summary().as_text(width)

    def as_html(self) -> str:
        """
        The page as HTML.

        Returns
        -------
        str

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> diagnosis = fit.diagnose()
        >>> html = diagnosis.as_html()
        """
        return self.summary().as_html()


@with_near_names
def diagnose(fit: Any, alpha: float = 0.01) -> Diagnosis:
    """
    Look at a fit from all sides and say in plain words what may be wrong.

    Parameters
    ----------
    fit : MixedLMARResults
        Of a mixed model, or of one without random effects.
    alpha : float
        Level of each check that is a test, of all its parts together: on a
        correct model the check raises a false alarm as often.

    Returns
    -------
    Diagnosis
        A check that cannot be made is a finding of its own, which says why.

    Raises
    ------
    UnsupportedError
        If `fit` is no fit of a mixed model, or `alpha` no probability.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> diagnosis = mar.diagnose(fit)
    >>> [finding.name for finding in diagnosis.alarms]
    ['outlying groups']
    """
    fitted = getattr(fit, "fit", None)
    if not isinstance(fitted, Fit):
        name = type(getattr(fit, "_results", fit)).__name__
        raise UnsupportedError(
            f"diagnose() is for fits of mixedlm, not for {name}; panel fits have "
            "panel_tests()"
        )
    return diagnosis_of(fitted, cache(lambda: without_each(fitted)), check_alpha(alpha))


def diagnosis_of(
    fitted: Fit, without_groups: Callable[[], GroupInfluence], alpha: float = 0.01
) -> Diagnosis:
    """The diagnosis of a fit, given the influence of its groups when it is needed."""
    tests = ScoreTests(fitted)
    checks: dict[str, Callable[[], Finding]] = {
        "convergence": lambda: search.convergence(fitted),
        "boundary": lambda: search.boundary(fitted),
        "other maxima": lambda: search.other_maxima(fitted),
        "identifiability": lambda: search.identifiability(fitted),
        "fixed design": lambda: design.fixed_design(fitted),
        "random design": lambda: design.random_design(fitted),
        "autocorrelation": lambda: residuals.autocorrelation(tests, alpha),
        "missing effects": lambda: residuals.random_effects(tests, alpha),
        "equal variances": lambda: residuals.equal_variances(tests, alpha),
        "outlying groups": lambda: design.outlying_groups(without_groups(), alpha),
        "influential groups": lambda: design.influential_groups(without_groups()),
        "number of groups": lambda: design.number_of_groups(fitted),
        "group sizes": lambda: design.group_sizes(fitted),
        "time": lambda: design.unit_of_time(fitted),
    }
    findings = [_made(name, check) for name, check in checks.items()]
    return Diagnosis(fitted, findings, alpha)


def _made(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # a page with one gap is better than none
        reason = str(error).rstrip(".") or type(error).__name__
        return Finding(name, "unknown", np.nan, "", f"Not computed: {reason}.")
