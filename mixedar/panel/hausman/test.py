"""
Hausman's test of random effects, in the forms that are in use.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from mixedar.exceptions import NotComputedError, UnsupportedError
from mixedar.hypotheses.result import TestResult
from mixedar.mixed import MixedLMAR
from mixedar.panel.algebra import Correction, entity_products
from mixedar.panel.hausman.bootstrap import BootstrapTest, bootstrap_test, estimates
from mixedar.panel.hausman.comparison import (
    Comparison,
    check_kinds,
    check_samples,
    common_names,
    compare_fits,
    require_classical,
    unlike_coefficients,
)
from mixedar.panel.hausman.forms import augmented_test
from mixedar.panel.hausman.mixed import hausman_mixed
from mixedar.panel.hausman.result import (
    AUGMENTED,
    BOOTSTRAP,
    FORMS,
    HausmanResult,
    meaning_of,
)

_FORMS = ("classical", "sigmamore", "sigmaless")
_AUGMENTED = ("auxiliary", "auxiliary-robust", "mundlak", "mundlak-robust")
_METHODS = ("default", *_FORMS, *_AUGMENTED, "bootstrap")
_CORRECTIONS = ("HC0", "HC1", "sss")


def hausman(
    fe: Any,
    re: Any,
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
    name = _method(method, correction, estimator)
    swapped = _mixed_results(fe)
    if swapped is not None:
        raise UnsupportedError(
            "hausman: the first argument is a mixed model; it must be a fit of "
            "fixed_effects(...): call hausman(fe, mixed)"
        )
    mixed = _mixed_results(re)
    if mixed is not None:
        return hausman_mixed(fe, mixed, name, use_f=use_f)
    check_kinds(fe, re)
    check_samples(fe.panel, re.panel, ("fe", "re"))
    names = common_names(fe, re)
    if str(fe.kind).endswith("_ar1"):
        name = _serial_method(name, fe, re)
    both = compare_fits(fe, re, names)

    def augmented(form: str) -> TestResult:
        return _augmented(
            re, form, correction, use_f, estimator == "pooled", plain_constant
        )

    if name == "bootstrap":
        return _bootstrap(fe, re, both, reps, seed, progress)
    if name in _AUGMENTED:
        return _result(name, (augmented(name),), both, fe, None)
    unlike = unlike_coefficients(fe, re)
    problem = require_classical(fe, re, "sigmamore" if name == "default" else name)
    if unlike is not None and name != "default":
        return _result(name, (FORMS[name].missing(unlike, "chi2"),), both, fe, None)
    problem = unlike or problem
    if name == "default":
        if problem is None:
            first = both.test("sigmamore")
        else:
            first = FORMS["sigmamore"].missing(problem, "chi2")
        tests = (first, augmented("mundlak-robust"))
        form = None if problem else "sigmamore"
        return _result(name, tests, both, fe, form, _agreement(*tests))
    if problem is not None:
        raise UnsupportedError(f"hausman: {problem}")
    return _result(name, (both.test(name),), both, fe, name)


def _method(method: str, correction: str, estimator: str) -> str:
    name = str(method).lower().replace("_", "-").replace("-clustered", "-robust")
    if name not in _METHODS:
        raise UnsupportedError(
            f"hausman: method={method!r} is not known; choose one of "
            f"{', '.join(_METHODS)}"
        )
    if correction not in _CORRECTIONS:
        raise UnsupportedError(
            f"hausman: correction={correction!r} is not known; choose one of "
            f"{', '.join(_CORRECTIONS)}"
        )
    if estimator not in ("gls", "pooled"):
        raise UnsupportedError(
            f"hausman: estimator={estimator!r} is not known; choose 'gls' or 'pooled'"
        )
    return name


def _mixed_results(fit: Any) -> Any:
    """Results of a MixedLMAR without their wrapper; None for other fits."""
    if hasattr(fit, "panel"):
        return None
    inner = getattr(fit, "_results", fit)
    return inner if isinstance(getattr(inner, "model", None), MixedLMAR) else None


def _serial_method(name: str, fe: Any, re: Any) -> str:
    """Method for fits with AR(1) errors."""
    if name in ("default", "classical"):
        return "classical"
    raise UnsupportedError(
        f"hausman: method={name!r} is not defined for fits with AR(1) errors: the two "
        "use different transformations of the data. Use method='classical', or a "
        "mixed model with AR(1) residuals as second argument"
    )


def _augmented(
    re: Any,
    form: str,
    correction: Correction,
    use_f: bool,
    pooled: bool,
    plain_constant: bool,
) -> TestResult:
    robust = form.endswith("-robust")
    auxiliary = form.startswith("auxiliary")
    text = AUGMENTED[form]
    theta = re.estimate.theta
    if theta is None:
        return text.missing("the fit has no quasi-demeaning, so that none can be done")
    if robust and re.panel.n_entities < 2:
        return text.missing("clustered covariances need two entities or more")
    found = augmented_test(
        re.panel,
        re.estimate.columns,
        theta,
        "within" if auxiliary else "means",
        correction if robust else None,
        pooled=pooled and not auxiliary,
        plain_constant=plain_constant and auxiliary,
    )
    if not found.tested:
        return text.missing(
            "it is not identified: no regressor varies both within and between "
            + "entities, or the model contains their means already, so that there is "
            "nothing to add",
            "chi2",
            0,
        )
    if found.df < len(found.tested):
        note = (
            f"The covariance of the {len(found.tested)} added regressors has rank "
            f"{found.df}: there are too few entities."
        )
    else:
        note = None
    chi2 = text.result(found.statistic, "chi2", found.df, note=note)
    if not robust:
        return chi2
    below = re.panel.n_entities - 1
    ratio = text.result(found.statistic / found.df, "F", (found.df, below), note=note)
    first, second = (ratio, chi2) if use_f else (chi2, ratio)
    details = (
        (f"{second.symbol}({second.df_text})", second.statistic),
        ("its p-value", second.pvalue),
    )
    return text.result(
        first.statistic, first.distribution, first.df, note=note, details=details
    )


def _bootstrap(
    fe: Any,
    re: Any,
    both: Comparison,
    reps: int,
    seed: int | np.random.Generator | None,
    progress: bool,
) -> HausmanResult:
    if reps < 10:
        raise UnsupportedError(f"hausman: reps={reps}: a bootstrap needs hundreds")
    unlike = unlike_coefficients(fe, re)
    if unlike is not None:
        return _result(
            "bootstrap", (BOOTSTRAP.missing(unlike, "chi2"),), both, fe, None
        )
    problem = require_classical(fe, re, "bootstrap")
    positions = both.identified
    if problem is not None:
        # only the choice of coefficients rests on the covariances
        positions = np.arange(len(both.names))
    if len(positions) == 0:
        test = BOOTSTRAP.missing(both.not_identified(), "chi2", 0)
        return _result("bootstrap", (test,), both, fe, None)
    panel = re.panel
    columns = re.estimate.columns
    constant = next((j for j, c in enumerate(columns) if c == panel.constant), None)
    products = entity_products(panel, columns, constant)
    sums = products.weighted(np.ones((1, panel.n_entities)))
    found: BootstrapTest | None = None
    names = [panel.names[c] for c in columns]
    where = np.array([names.index(both.names[j]) for j in positions])
    for components in ("baltagi-chang", "harmonic"):
        whole = estimates(products, sums, components)
        if np.allclose(whole.re[0, where], both.re[positions], rtol=1e-6, atol=1e-12):
            found = bootstrap_test(
                products,
                where,
                components,
                both.difference[positions],
                reps=reps,
                seed=seed,
                progress=progress,
            )
            break
    if found is None:
        raise NotComputedError(
            f"hausman: the bootstrap estimates variance components by Swamy and Arora "
            f"anew in each replicate, and the fit is another one ({re.method}); refit "
            "random_effects with its default, or use method='mundlak-robust'"
        )
    note = f"{len(found.draws)} bootstrap replicates of {panel.n_entities} entities."
    if found.failed:
        note += f" {found.failed} more could not be estimated and were left out."
    test = BOOTSTRAP.result(
        found.statistic,
        "chi2",
        found.df,
        note=note,
        details=(("p-value from the replicates", found.pvalue_bootstrap),),
    )
    chosen = [both.names[j] for j in positions]
    cov = pd.DataFrame(found.cov, index=chosen, columns=chosen)
    draws = pd.DataFrame(found.draws, columns=chosen)
    frame = both.frame(None)
    frame.loc[chosen, "std_err"] = np.sqrt(np.diag(found.cov))
    return HausmanResult(
        method="bootstrap",
        tests=(test,),
        comparison=frame,
        eigenvalues=None,
        cov_difference=cov,
        identified=len(positions),
        meaning=meaning_of(chosen),
        notes=both.notes(None),
        nobs=panel.nobs,
        n_entities=panel.n_entities,
        draws=draws,
    )


def _result(
    method: str,
    tests: tuple[TestResult, ...],
    both: Comparison,
    fe: Any,
    form: str | None,
    *notes: str | None,
) -> HausmanResult:
    shown = form or "sigmamore"
    usable = form is not None
    return HausmanResult(
        method=method,
        tests=tests,
        comparison=both.frame(form),
        eigenvalues=both.forms[shown].eigenvalues if usable else None,
        cov_difference=both.cov_frame(shown) if usable else None,
        identified=len(both.identified) if usable else None,
        meaning=meaning_of(both.names),
        notes=(*both.notes(form), *(note for note in notes if note)),
        nobs=fe.panel.nobs,
        n_entities=fe.panel.n_entities,
    )


def _agreement(first: TestResult, second: TestResult) -> str | None:
    """What to make of two forms that disagree at 5 percent."""
    verdicts = [test.rejects(0.05) for test in (first, second)]
    if None in verdicts or verdicts[0] == verdicts[1]:
        return None
    return (
        "The two forms disagree at 5 percent: sigmamore needs independent errors of "
        "equal variance, the clustered Mundlak form needs neither but many entities."
    )
