"""
statsmodels' own tests of MixedLM, run against MixedLMAR.

Without times MixedLMAR has to be a complete superset of its parent.  `DIFFERENT`
names the assertions that encode faults of the parent, each with its reason;
everything else has to pass as it stands.
"""

from __future__ import annotations

import types
from typing import Any

import pytest
from statsmodels.regression.tests import test_lme as parent_tests

from mixedar import MixedLMAR

_REFUSED = (
    "expects cov_type='hc1' to be left out with a warning; standard errors of another "
    "kind than those asked for are refused"
)
DIFFERENT = {
    "test_fit_unsupported_kwargs_ignored": _REFUSED,
    "test_fit_unsupported_kwargs_warns": _REFUSED,
    "TestMixedLM::test_pastes_vcomp": (
        "expects AIC and BIC to be NaN under REML; nlme, lme4 and SAS define them"
    ),
    "test_singular": (
        "expects a warning of a singular covariance; the maximum has a variance of "
        "0.00057 (lme4 finds the same), which is small and regular"
    ),
    "test_summary_col": (
        "expects the variance divided by the residual variance under the name "
        "'Group Var', and standard errors of fixed effects that include the sampling "
        "error of the variances, which no other program's do"
    ),
}


parent_tests.MixedLM = MixedLMAR


def _collected() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in vars(parent_tests).items():
        if isinstance(value, types.FunctionType) and name.startswith("test_"):
            if name not in DIFFERENT:
                found[name] = value
        elif isinstance(value, type) and name.startswith("Test"):
            body = {key: None for key in vars(value) if f"{name}::{key}" in DIFFERENT}
            found[name] = type(name, (value,), {"__module__": __name__, **body})
    return found


globals().update(_collected())

pytestmark = pytest.mark.filterwarnings("default")
