"""
One thing that a diagnosis says of a fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mixedar.exceptions import without_types
from mixedar.summary import format_values, kind_of

#: From the worst down: do not use the numbers; something is wrong; worth
#: knowing; it could not be looked at; nothing to report.
SEVERITIES = ("serious", "warning", "note", "unknown", "ok")


@dataclass(frozen=True)
class Finding:
    """
    What one check found.

    Attributes
    ----------
    name : str
        Of the check, such as ``"autocorrelation"``.
    severity : {"serious", "warning", "note", "unknown", "ok"}
        ``"unknown"`` if the check could not be made; the sentence says why.
    value : float
        The number that decided; NaN if there is none.
    measure : str
        What that number is.
    sentence : str
        What was found, what it means, and what to do.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> diagnosis = fit.diagnose()
    >>> finding = diagnosis.findings[0]
    >>> finding.name, finding.is_alarm
    ('outlying groups', True)
    """

    name: str
    severity: str
    value: float
    measure: str
    sentence: str

    def __post_init__(self) -> None:
        assert self.severity in SEVERITIES, self.severity
        object.__setattr__(self, "sentence", without_types(self.sentence))

    @property
    def is_alarm(self) -> bool:
        """Whether the finding is ``"serious"`` or a ``"warning"``."""
        return self.severity in SEVERITIES[:2]

    @property
    def value_text(self) -> str:
        """The number as it is printed, a p-value as one; empty if there is none."""
        if kind_of(self.measure) == "pvalue":
            return format_values([self.value], "pvalue")[0]
        return "" if math.isnan(self.value) else number(self.value)

    def __str__(self) -> str:
        return f"{self.name} ({self.severity}): {self.sentence}"


@dataclass(frozen=True)
class Check:
    """
    What is checked, and by which number; makes the finding.

    Attributes
    ----------
    name, measure : str
        As in :class:`Finding`.
    """

    name: str
    measure: str

    def found(self, severity: str, value: float, sentence: str) -> Finding:
        """The finding of the check."""
        return Finding(self.name, severity, value, self.measure, sentence)

    def ok(self, value: float, sentence: str) -> Finding:
        """Nothing to report."""
        return self.found("ok", value, sentence)

    def note(self, value: float, sentence: str) -> Finding:
        """Worth knowing."""
        return self.found("note", value, sentence)

    def warning(self, value: float, sentence: str) -> Finding:
        """Something is wrong."""
        return self.found("warning", value, sentence)


def joined(words: list[str], last: str = "and") -> str:
    """Words as a list in a sentence, with `last` before the last one."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def number(value: float, digits: int = 3) -> str:
    """A number as it reads in a sentence, with so many significant digits."""
    if 1000.0 <= abs(value) < 1e7:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def sentence_case(text: str) -> str:
    """The text with its first letter in upper case, and no other changed."""
    return text[:1].upper() + text[1:]
