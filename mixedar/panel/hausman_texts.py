"""
Names, hypotheses and references of the forms of Hausman's test.
"""

from __future__ import annotations

from mixedar.panel.outcome import TestText

__all__ = ["AUGMENTED", "BOOTSTRAP", "FORMS", "MIXED"]

_NULL = (
    "the effects of the entities are unrelated to the regressors, so that fixed and "
    "random effects estimate the same coefficients"
)
_ALTERNATIVE = "they are related, and random effects is inconsistent"
_HAUSMAN = "Hausman (1978), Econometrica 46, 1251-1271"
_STATA = "; residual variances as Stata's option of this name"
_AUXILIARY = (
    "Wooldridge (2010), Econometric Analysis of Cross Section and Panel Data, "
    "section 10.7.3; Arellano (1993), Journal of Econometrics 59, 87-97"
)
_MUNDLAK = "Mundlak (1978), Econometrica 46, 69-85"


def _text(name: str, reference: str) -> TestText:
    return TestText(name, _NULL, _ALTERNATIVE, reference)


FORMS = {
    "classical": _text("Hausman (classical)", _HAUSMAN),
    "sigmamore": _text("Hausman (sigmamore)", _HAUSMAN + _STATA),
    "sigmaless": _text("Hausman (sigmaless)", _HAUSMAN + _STATA),
}

AUGMENTED = {
    "auxiliary": _text("Auxiliary regression", _AUXILIARY),
    "auxiliary-robust": _text("Auxiliary regression (clustered)", _AUXILIARY),
    "mundlak": _text("Mundlak", _MUNDLAK),
    "mundlak-robust": _text("Mundlak (clustered)", _MUNDLAK),
}

BOOTSTRAP = _text(
    "Hausman (bootstrap)",
    "Cameron and Trivedi (2005), Microeconometrics, section 21.4.3",
)

MIXED = TestText(
    "Mundlak in the mixed model",
    "the random effects are unrelated to the regressors, so that differences within "
    "and between entities have the same coefficients",
    "they are related, and the mixed model without entity means is inconsistent",
    _MUNDLAK + "; Snijders and Bosker (2012), Multilevel Analysis, section 4.6",
)
