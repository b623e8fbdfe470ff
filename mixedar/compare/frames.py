"""
Numbers of one fit, or of several side by side, as plain frames; which may be compared.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from mixedar._lazy import with_near_names
from mixedar._types import unwrapped
from mixedar.by_group import ByGroupResults
from mixedar.compare.pooled import PooledResults
from mixedar.compare.record import (
    Component,
    FitRecord,
    Likelihood,
    Sample,
    mixed_record,
    panel_record,
)
from mixedar.exceptions import (
    UnknownColumnError,
    UnsupportedError,
    check_alpha,
    check_choice,
    listing,
    shown,
)
from mixedar.mixed import MixedLMARResults
from mixedar.panel.results import PanelResults
from mixedar.summary import ResultFrame

# A variance in units of the residual variance that only rounding keeps from zero.
_NOTHING = 1e-20
_RSQUARED = ("within", "between", "overall")
_OF_MIXED = ("marginal", "conditional")
_REMEDY = (
    "Fit all models to the same rows (a missing value in a regressor of one model "
    "drops a row from that model only), or pass allow_different_samples=True"
)
ACCEPTED = (
    "results of mixedar (mixed models, with robust standard errors too, all panel "
    "estimators, and what pool() makes of these), of statsmodels (OLS, WLS, GLS, "
    "GLSAR, GEE, MixedLM) and of linearmodels' panel models"
)


def read(fit: object, what: str, alpha: float = 0.05) -> FitRecord:
    """
    The numbers of a fit of one of the kinds that `ACCEPTED` lists.

    `what` begins the message if it is something else, `alpha` is one less the
    coverage of the intervals of covariance parameters.
    """
    check_alpha(alpha)
    inner = unwrapped(fit)
    if isinstance(inner, PanelResults):
        return panel_record(inner)
    if isinstance(inner, MixedLMARResults):
        return mixed_record(inner, alpha)
    if isinstance(inner, PooledResults):
        return inner.record
    from mixedar.compare.foreign import foreign_record

    found = foreign_record(inner)
    if found is None:
        raise UnsupportedError(_refusal(fit, what))
    return found


def _refusal(fit: object, what: str) -> str:
    name = type(fit).__name__
    if isinstance(fit, type):
        return f"{what} is the class {fit.__name__}; pass the results of a fit"
    if callable(getattr(fit, "fit", None)):
        return f"{what} is a {name}, a model that is not fitted; pass what .fit() gives"
    model = getattr(fit, "model", None)
    of = "" if model is None else f" ({type(model).__name__})"
    return f"{what} is of type {name}{of}; accepted are {ACCEPTED}"


@with_near_names
def tidy(fit: object, alpha: float = 0.05) -> pd.DataFrame:
    """
    One row for each parameter of a fit.

    Parameters
    ----------
    fit : results
        Of mixedar (mixed models, all panel estimators, `by_group`, pooled fits of
        imputations), of statsmodels (OLS, WLS, GLS, GLSAR, GEE, MixedLM) or of
        linearmodels' panel models.
    alpha : float
        1 - coverage of the intervals.

    Returns
    -------
    DataFrame, shape (parameters, 9)
        Of regressions by group a row for each group and coefficient, with the labels
        of the groups in a first column of their name.
        ``term``; ``group`` (``"fixed"``, ``"random"`` or ``"residual"``);
        ``estimate``, variances and covariances on the scale of the data;
        ``std_error``; ``statistic``, ``df`` (infinite for the normal
        distribution) and ``p_value`` of coefficients; ``conf_low``,
        ``conf_high``.  NaN where the fit has no such number.

    Raises
    ------
    UnsupportedError
        If `fit` is not such a result.

    Notes
    -----
    Intervals of variances of a mixed model are computed on the log scale, those
    of residual parameters on the unconstrained scale.  ``"Residual Var"`` is the
    variance of the residuals themselves, also where the fit's ``scale`` is the
    variance of AR(1) innovations.  Standard errors of the variances of
    statsmodels' MixedLM are left out: they are on another scale.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> list(mar.tidy(model.fit())["term"])
    ['Intercept', 'age', 'subject Var', 'rho', 'Residual Var']
    """
    inner = unwrapped(fit)
    if isinstance(inner, ByGroupResults):
        return ResultFrame.of(_by_group(inner, alpha))
    record = read(fit, "tidy: fit", alpha)
    fixed = record.coefficients(alpha).reset_index()
    fixed.insert(1, "group", "fixed")
    if not record.components:
        return ResultFrame.of(fixed)
    rows = [
        (part.name, part.group, part.value, part.std_error, *part.interval)
        for part in record.components
    ]
    columns = ["term", "group", "estimate", "std_error", "conf_low", "conf_high"]
    random = pd.DataFrame(rows, columns=columns)
    return ResultFrame.of(pd.concat([fixed, random], ignore_index=True))


def _by_group(fit: ByGroupResults, alpha: float) -> pd.DataFrame:
    """Coefficients of all groups below one another."""
    found = fit.conf_int(alpha).reset_index()
    statistic = found["estimate"] / found["std_error"]
    columns = {
        "term": found["coefficient"],
        "group": "fixed",
        "estimate": found["estimate"],
        "std_error": found["std_error"],
        "statistic": statistic,
        "df": found["df"],
        "p_value": fit.pvalues.to_numpy().ravel(),
        "conf_low": found["lower"],
        "conf_high": found["upper"],
    }
    out = pd.DataFrame(columns)
    name = str(fit.params.index.name)
    out.insert(0, "level" if name in columns else name, found.iloc[:, 0])
    return out


@with_near_names
def glance(fit: object) -> pd.DataFrame:
    """
    One row for a fit as a whole.

    Parameters
    ----------
    fit : results
        As for :func:`tidy`.

    Returns
    -------
    DataFrame, shape (1, 19)
        ``method``, ``cov_type``, ``nobs``, ``n_groups``, ``df_resid``, ``llf``,
        ``aic``, ``bic``, ``scale``, ``rho``, ``theta`` (the median),
        ``rsquared_within``, ``rsquared_between``, ``rsquared_overall``,
        ``converged``; of mixed models ``rsquared_marginal``,
        ``rsquared_conditional``, ``icc`` (adjusted) and ``n_levels``, the factors of
        the random effects as text, ``"subject: 40, item: 30"``.  Missing where the fit
        has no such number.  The columns are the same for all fits, so that rows can
        be put below one another.

    Raises
    ------
    UnsupportedError
        If `fit` is not such a result.

    Notes
    -----
    AIC and BIC are those of the fit if it has them, else they count the residual
    variance and estimated effects as parameters; statsmodels' least squares do
    not count the variance.  :func:`mixedar.formula.api.compare` counts alike in
    all fits.  ``llf`` is missing where it is no likelihood of the response (GLS of
    random effects, differences).

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> mar.glance(fit)[["nobs", "n_groups", "method"]].iloc[0].to_dict()
    {'nobs': 108, 'n_groups': 27, 'method': 'REML'}
    """
    record = read(fit, "glance: fit")
    found = record.likelihood
    aic, bic = record.criteria
    if found is not None:
        aic = aic if np.isfinite(aic) else found.aic
        bic = bic if np.isfinite(bic) else found.bic
    groups = pd.NA if record.n_groups is None else record.n_groups
    converged = pd.NA if record.converged is None else record.converged
    levels = ", ".join(f"{name}: {n}" for name, n in record.n_levels.items())
    values = {
        "method": record.estimator,
        "cov_type": record.cov_type,
        "nobs": record.nobs,
        "n_groups": pd.array([groups], dtype="Int64"),
        "df_resid": record.df_resid,
        "llf": np.nan if found is None else found.llf,
        "aic": aic,
        "bic": bic,
        "scale": record.scale,
        "rho": record.rho,
        "theta": record.median_theta,
        **{f"rsquared_{part}": record.rsquared.get(part, np.nan) for part in _RSQUARED},
        "converged": pd.array([converged], dtype="boolean"),
        **{f"rsquared_{part}": record.rsquared.get(part, np.nan) for part in _OF_MIXED},
        "icc": record.icc,
        "n_levels": pd.array([levels or pd.NA], dtype="string"),
    }
    return ResultFrame(values, index=[0])


def coefficients_frame(
    records: Mapping[str, FitRecord],
    alpha: float,
    rename: Mapping[str, str] | None,
    keep: str | Iterable[str] | None,
    drop: str | Iterable[str] | None,
) -> pd.DataFrame:
    """
    Coefficients of all fits, rows in the order of first appearance.

    Parameters
    ----------
    records : mapping of str to FitRecord
    alpha : float
        1 - coverage.
    rename : mapping of str to str, optional
        New names; several old names may get one new name.
    keep, drop : str or iterable of str, optional
        Coefficients to show, or not to show, under their old or new names.

    Returns
    -------
    DataFrame, shape (terms, 7 models)

    Raises
    ------
    UnknownColumnError
        For a name that no fit has.
    UnsupportedError
        If two coefficients of one fit get one name.
    """
    if rename is not None and not isinstance(rename, Mapping):
        raise UnsupportedError(
            f"compare: rename={rename!r} is no mapping of old names to new ones"
        )
    rename = dict(rename or {})
    old = list(dict.fromkeys(t for r in records.values() for t in r.terms))
    _check_known("rename", rename, old)
    frames = {}
    for name, record in records.items():
        frame = record.coefficients(alpha).rename(index=rename)
        twice = list(frame.index[frame.index.duplicated()].unique())
        if twice:
            raise UnsupportedError(
                f"compare: {name!r} has several coefficients called {twice[0]!r}"
                + (" after rename; give them different names" if rename else "")
            )
        frames[name] = frame
    terms = list(dict.fromkeys(rename.get(term, term) for term in old))
    known = [*old, *terms]

    def chosen(names: str | Iterable[str] | None, what: str) -> set[str]:
        given = [names] if isinstance(names, str) else list(names or ())
        _check_known(what, given, known)
        return {rename.get(name, name) for name in given}

    if keep is not None:
        wanted = chosen(keep, "keep")
        terms = [term for term in terms if term in wanted]
    unwanted = chosen(drop, "drop")
    terms = [term for term in terms if term not in unwanted]
    columns = {name: frame.reindex(terms) for name, frame in frames.items()}
    return pd.concat(columns, axis=1, names=["model", "value"])


def _check_known(what: str, given: Iterable[str], known: Sequence[str]) -> None:
    for name in given:
        if name in known:
            continue
        near = difflib.get_close_matches(str(name), list(map(str, known)), 1)
        guess = f"; did you mean {near[0]!r}?" if near else "."
        raise UnknownColumnError(
            f"compare: {what}={name!r} is a coefficient of none of the fits{guess} "
            f"They have {', '.join(map(repr, dict.fromkeys(known)))}"
        )


def components_frame(records: Mapping[str, FitRecord], kind: str) -> pd.DataFrame:
    """
    Covariance parameters of all fits.

    Parameters
    ----------
    records : mapping of str to FitRecord
    kind : {"sd", "variance"}
        Standard deviations and correlations, or variances and covariances.

    Returns
    -------
    DataFrame, shape (components, models)
        Random effects first, then residuals.

    Raises
    ------
    UnsupportedError
        For another `kind`.
    """
    check_choice("components", kind, ("sd", "variance"))
    columns = {}
    order: list[tuple[int, str]] = []
    for name, record in records.items():
        values = {}
        variances = {
            c.labels[0]: c.value for c in record.components if len(c.labels) == 1
        }
        for component in record.components:
            label, value, place = _shown(component, variances, kind)
            if len(component.labels) == 1 and component.value < _NOTHING * record.scale:
                value = 0.0
            if np.isfinite(value):
                values[label] = value
                order.append((place, label))
        columns[name] = pd.Series(values, dtype=float)
    labels = [label for _, label in sorted(dict.fromkeys(order), key=lambda x: x[0])]
    return pd.DataFrame(columns, index=labels, columns=list(records), dtype=float)


def _shown(
    component: Component, variances: Mapping[str, float], kind: str
) -> tuple[str, float, int]:
    """Label, value and place of a row."""
    labels, value, sd = component.labels, component.value, kind == "sd"
    residual = component.group == "residual"
    if not labels:  # a correlation parameter
        return component.name, value, 3
    if len(labels) == 1:
        shown = float(np.sqrt(max(value, 0.0))) if sd else value
        return f"{'SD' if sd else 'Var'}({labels[0]})", shown, 2 if residual else 0
    name = f"{'Corr' if sd else 'Cov'}({', '.join(labels)})"
    size = float(np.sqrt(max(variances[labels[0]] * variances[labels[1]], 0.0)))
    if value == 0.0 or size == 0.0:  # uncorrelated by assumption, or no variance
        return name, np.nan, 1
    return name, value / size if sd else value, 1


def statistics_frame(
    records: Mapping[str, FitRecord], likelihoods: Sequence[str]
) -> pd.DataFrame:
    """
    Numbers of the fits as a whole.

    Parameters
    ----------
    records : mapping of str to FitRecord
    likelihoods : sequence of str
        Fits whose likelihoods may be compared.

    Returns
    -------
    DataFrame, shape (statistics, models)
        Without rows that all fits lack.
    """
    shares = {"R-squared": "overall"}
    if any("within" in record.rsquared for record in records.values()):
        shares = {f"R-squared {part}": part for part in _RSQUARED}
    shares |= {f"R2 {part}": part for part in _OF_MIXED}
    factors: list[str] = []
    if any(len(record.n_levels) > 1 for record in records.values()):
        factors = [name for record in records.values() for name in record.n_levels]
    columns = {}
    for name, record in records.items():
        found = record.likelihood if name in likelihoods else None
        columns[name] = {
            "Observations": record.nobs,
            "Groups": record.n_groups,
            **{f"Levels of {one}": record.n_levels.get(one) for one in factors},
            "theta": record.median_theta,
            **{label: record.rsquared.get(part) for label, part in shares.items()},
            "ICC": record.icc,
            "Log-likelihood": None if found is None else found.llf,
            "AIC": None if found is None else found.aic,
            "BIC": None if found is None else found.bic,
        }
    return pd.DataFrame(columns, dtype=float).dropna(how="all")


class SampleMismatchError(UnsupportedError):
    """Fits differ in rows or response.  Fit all of them to the same rows."""


def sample_classes(
    records: Mapping[str, FitRecord], allow: bool
) -> tuple[list[int], list[str]]:
    """
    Number the different samples.

    Parameters
    ----------
    records : mapping of str to FitRecord
    allow : bool
        Tolerate differences.

    Returns
    -------
    classes : list of int
        Number of the sample of each fit, from 0.
    notes : list of str
        What differs.

    Raises
    ------
    SampleMismatchError
        If they differ and that is not allowed.
    """
    names = list(records)
    classes: list[int] = []
    distinct: list[Sample] = []
    notes = []
    for name, record in records.items():
        sample = record.sample
        same = (c for c, other in enumerate(distinct) if _same(other, sample))
        classes.append(next(same, len(distinct)))
        if classes[-1] < len(distinct):
            continue
        distinct.append(sample)
        if len(distinct) > 1:
            message = _difference(names[0], distinct[0], name, sample)
            if not allow:
                raise SampleMismatchError(f"compare: mismatch: {message}. {_REMEDY}")
            notes.append(f"Different samples: {message}.")
    return classes, notes


def _same(a: Sample, b: Sample) -> bool:
    if a.size != b.size:
        return False
    if a.y is None or b.y is None:
        return a.name == b.name
    size = float(np.abs(a.y).max(initial=0.0))
    return bool(np.allclose(a.y, b.y, rtol=1e-9, atol=1e-12 * size))


def _difference(name: str, a: Sample, other: str, b: Sample) -> str:
    """Say in what two samples differ."""
    if a.name != b.name:
        sizes = "" if a.size == b.size else f", with {a.size} and {b.size} rows"
        return (
            f"{name!r} has the response {a.name!r} and {other!r} the response "
            f"{b.name!r}{sizes}"
        )
    text = f"{name!r} has {a.size} rows and {other!r} {b.size}"
    if a.size == b.size:
        text = f"{name!r} and {other!r} have {a.size} different rows of {a.name!r}"
    if a.index is None or b.index is None or a.index.nlevels != b.index.nlevels:
        return text
    for one, left, right in ((name, a.index, b.index), (other, b.index, a.index)):
        only = left[~left.isin(right)]
        if 0 < len(only) < len(left):
            plural = "s" if len(only) > 1 else ""
            labels = listing([shown(label) for label in only[:6]])
            return f"{text}; row{plural} {labels} only in {one!r}"
    return text


def comparable(
    records: Mapping[str, FitRecord], classes: list[int]
) -> tuple[list[str], list[str]]:
    """
    Choose the likelihoods that may be compared with one another.

    They belong to the same response and rows, and are either all likelihoods or
    all restricted likelihoods of models with the same coefficients.  Of several
    such sets the largest is chosen.

    Parameters
    ----------
    records : mapping of str to FitRecord
    classes : list of int
        From :func:`sample_classes`.

    Returns
    -------
    names : list of str
        The fits of which log-likelihood, AIC and BIC are shown.
    notes : list of str
    """
    sets: list[list[str]] = []
    kinds: dict[str, tuple[int, Likelihood]] = {}
    for (name, record), sample in zip(records.items(), classes, strict=True):
        if record.likelihood is None:
            continue
        kinds[name] = (sample, record.likelihood)
        home = next((s for s in sets if _match(kinds[s[0]], kinds[name])), None)
        if home is None:
            sets.append([name])
        else:
            home.append(name)
    if not sets:
        return [], []
    # of sets of one size, likelihoods go before restricted ones
    best = max(sets, key=lambda s: (len(s), kinds[s[0]][1].kind == "ML"))
    left = [s for s in sets if s is not best]
    reasons = "; ".join(_reasons(kinds, best[0], [s[0] for s in left]))
    alone = len(best) < 2 and len(records) > 1
    if alone and not left:
        return [], [
            f"Of these fits only {best[0]} has a likelihood of the response: there is "
            "none to compare it with."
        ]
    if alone:
        return [], [f"Log-likelihood, AIC and BIC are not shown: {reasons}."]
    if not left:
        return best, []
    out = listing([name for s in left for name in s])
    return best, [f"Log-likelihood, AIC and BIC of {out} are left out: {reasons}."]


def _match(a: tuple[int, Likelihood], b: tuple[int, Likelihood]) -> bool:
    if a[0] != b[0] or a[1].kind != b[1].kind:
        return False
    return a[1].kind == "ML" or a[1].same_design(b[1])


def _reasons(
    kinds: Mapping[str, tuple[int, Likelihood]], best: str, others: list[str]
) -> list[str]:
    found = []
    sample, likelihood = kinds[best]
    for name in others:
        there, other = kinds[name]
        if there != sample:
            found.append("likelihoods of different data cannot be compared")
        elif other.kind != likelihood.kind:
            found.append(
                "a restricted likelihood (REML) cannot be compared with a likelihood "
                "(refit with reml=False)"
            )
        else:
            found.append(
                "restricted likelihoods (REML) of models with different fixed effects "
                "cannot be compared (refit with reml=False)"
            )
    return list(dict.fromkeys(found))
