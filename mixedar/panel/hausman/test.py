"""
Hausman's test of random effects, in the forms that are in use.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from mixedar._types import unwrapped
from mixedar.exceptions import UnsupportedError
from mixedar.hypotheses.result import TestResult
from mixedar.mixed import MixedLMARResults
from mixedar.panel.algebra import Correction
from mixedar.panel.hausman.bootstrap import bootstrap
from mixedar.panel.hausman.comparison import Form, Pair
from mixedar.panel.hausman.forms import (
    Augmentation,
    augmented_test,
    difference_test,
    scaled_eigenvalues,
)
from mixedar.panel.hausman.mixed import hausman_mixed
from mixedar.panel.hausman.result import TEXTS, HausmanResult
from mixedar.panel.results import PanelResults

_METHODS = ("default", *TEXTS)


def hausman(
    fe: PanelResults,
    re: PanelResults | MixedLMARResults,
    method: str = "default",
    *,
    correction: Correction = "sss",
    use_f: bool = True,
    estimator: Literal["gls", "pooled"] = "gls",
    plain_constant: bool = False,
    reps: int = 999,
    seed: int | np.random.Generator | None = None,
    progress: bool = True,
) -> HausmanResult:
    """
    Test whether fixed and random effects estimate the same coefficients.

    Parameters
    ----------
    fe : PanelResults
        Fit of fixed effects.
    re : PanelResults or MixedLMARResults
        Fit of random effects to the same rows.  With a mixed model (random
        slopes, correlated residuals) the means of the entities are added to it
        and tested jointly; `method` is then ``"default"`` or ``"mundlak"``.
    method : str
        ``"default"``
            ``"sigmamore"`` together with ``"mundlak-robust"``.
        ``"classical"``
            Difference of the two covariances, each with its own residual
            variance; it need not be positive definite.
        ``"sigmamore"``, ``"sigmaless"``
            Both with the residual variance of random effects, or of fixed
            effects, as Stata's options of these names.
        ``"auxiliary"``, ``"auxiliary-robust"``
            Regression on quasi-demeaned data with the entity-demeaned
            regressors added; classical or clustered by entity.
        ``"mundlak"``, ``"mundlak-robust"``
            The same with entity means added, as Stata's ``estat mundlak``.
        ``"bootstrap"``
            Covariance of the difference from drawing entities with replacement,
            variance components estimated anew each time.
    correction : {"sss", "HC1", "HC0"}
        Small-sample factor of the clustered forms: ``G / (G - 1) * (n - 1) /
        (n - k)`` as Stata, ``n / (n - k)``, or 1.
    use_f : bool
        F distribution with one less than the number of entities as denominator
        degrees of freedom for the clustered forms, or chi-squared as Stata.  The
        other one is in the details of the result.
    estimator : {"gls", "pooled"}
        Whether the Mundlak regression is quasi-demeaned or plain least squares.
    plain_constant : bool
        Constant of the auxiliary regression as plm has it, see Notes.
    reps : int
        Bootstrap replicates.
    seed : int or Generator, optional
        Of the bootstrap.
    progress : bool
        Progress bar of the bootstrap.

    Returns
    -------
    HausmanResult

    Raises
    ------
    UnsupportedError
        If arguments are swapped, fits differ in rows, response or regressors, or
        a form is asked for that needs classical covariances and does not get
        them.
    NotComputedError
        If the bootstrap cannot estimate the models in its replicates.

    Notes
    -----
    Degrees of freedom are the rank of the comparison.  Regressors that do not
    vary both within and between entities contribute nothing: period dummies or
    trends in a balanced panel, and all that fixed effects absorb.  When nothing
    is left the result has a reason in place of a number.

    In balanced panels sigmaless, auxiliary regression and Mundlak's regression
    give the same number.  With entities of different lengths the auxiliary
    regression equals Mundlak's if its constant is quasi-demeaned as all other
    columns are, which is done here; plm leaves it a constant, and its statistic
    then depends on the origins of the variables.

    References
    ----------
    Hausman, J. A. (1978), Econometrica 46, 1251-1271.
    Mundlak, Y. (1978), Econometrica 46, 69-85.
    Wooldridge, J. M. (2010), Econometric Analysis of Cross Section and Panel
    Data, 2nd ed., section 10.7.3.
    Cameron, A. C. and Trivedi, P. K. (2005), Microeconometrics, section 21.4.3.
    """
    name = str(method).lower().replace("_", "-").replace("-clustered", "-robust")
    for given, value, known in (
        (f"method={method!r}", name, _METHODS),
        (f"correction={correction!r}", correction, ("HC0", "HC1", "sss")),
    ):
        if value not in known:
            raise UnsupportedError(
                f"hausman: {given} is not known; choose one of {', '.join(known)}"
            )
    if estimator not in ("gls", "pooled"):
        raise UnsupportedError(
            f"hausman: estimator={estimator!r} is not known; choose 'gls' or 'pooled'"
        )
    first, second = unwrapped(fe), unwrapped(re)
    if isinstance(first, MixedLMARResults):
        raise UnsupportedError(
            "hausman: the first argument is a mixed model; it must be a fit of "
            "fixed_effects(...): call hausman(fe, mixed)"
        )
    if isinstance(second, MixedLMARResults):
        return hausman_mixed(first, second, name, use_f=use_f)
    pair = Pair.of(first, second)
    if name == "bootstrap" and not first.kind.endswith("_ar1"):
        return bootstrap(pair, reps, seed, progress)
    options = Augmentation(correction, use_f, estimator == "pooled", plain_constant)
    return _compared(pair, name, options)


def _compared(pair: Pair, name: str, options: Augmentation) -> HausmanResult:
    """The forms that need no bootstrap."""
    if pair.fe.kind.endswith("_ar1"):
        if name not in ("default", "classical"):
            raise UnsupportedError(
                f"hausman: method={name!r} is not defined for fits with AR(1) errors: "
                "the two use different transformations of the data. Use "
                "method='classical', or a mixed model with AR(1) residuals as second "
                "argument"
            )
        name = "classical"
    if name.startswith(("auxiliary", "mundlak")):
        return _result(pair, name, (augmented_test(pair, name, options),))
    form: Form = "sigmamore" if name == "default" else name  # type: ignore[assignment]
    unlike, robust = pair.unlike(), pair.not_classical(form)
    if robust and not unlike and name != "default":
        raise UnsupportedError(f"hausman: {robust}")
    problem = unlike or robust
    if problem:
        tests = [TEXTS[form].missing(problem, "chi2")]
    else:
        tests = [difference_test(pair, form)]
    if name == "default":
        tests.append(augmented_test(pair, "mundlak-robust", options))
    return _result(pair, name, tuple(tests), None if problem else form)


def _result(
    pair: Pair, method: str, tests: tuple[TestResult, ...], form: Form | None = None
) -> HausmanResult:
    frame, parts = None, {}
    if form is not None:
        cov = pd.DataFrame(pair.cov(form), index=pair.names, columns=pair.names)
        frame = pair.frame(cov.to_numpy())
        parts = {
            "cov_difference": cov,
            "eigenvalues": scaled_eigenvalues(pair, form)[0][::-1],
            "identified": len(pair.identified),
        }
    notes = pair.notes(form)
    verdicts = {test.rejects(0.05) for test in tests}
    if verdicts == {True, False}:
        notes.append(
            "The two forms disagree at 5 percent: sigmamore needs independent errors "
            "of equal variance, the clustered Mundlak form needs neither but many "
            "entities."
        )
    frame = pair.frame() if frame is None else frame
    return pair.result(method, tests, frame, notes, **parts)
