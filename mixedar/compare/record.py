"""
The numbers of a fit, the same for every kind of model, and which may be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLMResults

from mixedar._types import FloatArray
from mixedar.exceptions import UnsupportedError, listing, shown

#: What regressions of something else than the response itself are about, by the
#: kind of panel estimator.
TRANSFORMED = {
    "between": "observations are means of the entities.",
    "fd": "observations are differences.",
}
_REMEDY = (
    "Fit all models to the same rows (a missing value in a regressor of one model "
    "drops a row from that model only), or pass allow_different_samples=True"
)


@dataclass(frozen=True)
class Component:
    """
    One covariance parameter.

    Attributes
    ----------
    name : str
        As in ``params`` of a mixed model: ``"id Var"``, ``"id x time Cov"``,
        ``"rho"``.
    group : str
        ``"random"`` or ``"residual"``.
    value : float
        On the scale of the data.
    labels : tuple of str
        The effect of a variance, both effects of a covariance; empty for a
        correlation parameter.
    std_error : float
        NaN where there is none.
    interval : tuple of float
        Ends of the confidence interval; NaN where there is none.
    """

    name: str
    group: str
    value: float
    labels: tuple[str, ...] = ()
    std_error: float = np.nan
    interval: tuple[float, float] = (np.nan, np.nan)


@dataclass(frozen=True, eq=False)
class Sample:
    """
    What a model was fitted to.

    Attributes
    ----------
    name : str
        Of the response.
    size : int
        Rows of the data, before means or differences are taken.
    y : ndarray, shape (size,), or None
        Response in ascending order; None if the data have been removed.
    index : pandas.Index or None
        Labels of the rows.
    """

    name: str
    size: int
    y: FloatArray | None
    index: pd.Index | None


@dataclass(frozen=True, eq=False)
class Likelihood:
    """
    A likelihood at its maximum.

    Attributes
    ----------
    kind : str
        ``"ML"`` or ``"REML"``.
    llf : float
    k : int
        Parameters, the residual variance and estimated effects counted.
    n : int
        Observations that BIC counts: N - p under REML.
    names : tuple of str
        Of the columns of the design.
    gram : ndarray, shape (p, p), or None
        Cross-products of the columns; None if the data have been removed.
    """

    kind: str
    llf: float
    k: int
    n: int
    names: tuple[str, ...]
    gram: FloatArray | None

    def same_design(self, other: Likelihood) -> bool:
        """Whether the columns are the same, in any order."""
        if sorted(self.names) != sorted(other.names):
            return False
        if self.gram is None or other.gram is None:
            return True
        order = [other.names.index(name) for name in self.names]
        there = other.gram[np.ix_(order, order)]
        size = np.sqrt(np.outer(np.diag(self.gram), np.diag(self.gram)))
        return bool((np.abs(self.gram - there) <= 1e-8 * size).all())

    @property
    def aic(self) -> float:
        """Akaike's criterion."""
        return 2.0 * (self.k - self.llf)

    @property
    def bic(self) -> float:
        """Bayesian criterion."""
        return float(np.log(self.n)) * self.k - 2.0 * self.llf


@dataclass(frozen=True, eq=False)
class FitRecord:
    """
    Numbers of a fit.

    Attributes
    ----------
    estimator : str
        ``"OLS"``, ``"within"``, ``"GLS"``, ``"REML"``, ...
    cov_type : str
        How standard errors were estimated.
    terms : tuple of str
        Names of the k coefficients.
    estimate, std_error : ndarray, shape (k,)
    df : ndarray, shape (k,)
        Degrees of freedom of Student's t; infinite for the normal distribution.
    components : tuple of Component
        Covariance parameters.
    sample : Sample
    nobs : int
        Rows of the regression.
    n_groups : int or None
        Groups, entities or clusters.
    df_resid : float
        Residual degrees of freedom; NaN where each coefficient has its own.
    scale : float
        Residual variance as the fit gives it.
    likelihood : Likelihood or None
        None if the method has none of the response itself.
    criteria : tuple of float
        AIC and BIC as the fit gives them; NaN where it does not.
    theta : ndarray or None
        Fractions of the means that random effects subtract.
    rsquared : mapping of str to float
        ``"within"``, ``"between"``, ``"overall"``; of mixed models ``"marginal"``,
        ``"conditional"``.
    icc : float
        Share of the random effects in the variance that is random.
    n_levels : mapping of str to int
        Factors of the random effects, the groups first, and how many levels they have.
    converged : bool or None
        None where nothing iterates.
    absorbed : tuple of str
        Regressors that the effects leave no variation of.
    notes : tuple of str
        What a reader of a table has to know about this fit.
    """

    estimator: str
    cov_type: str
    terms: tuple[str, ...]
    estimate: FloatArray
    std_error: FloatArray
    df: FloatArray
    components: tuple[Component, ...]
    sample: Sample
    nobs: int
    n_groups: int | None = None
    df_resid: float = np.nan
    scale: float = np.nan
    likelihood: Likelihood | None = None
    criteria: tuple[float, float] = (np.nan, np.nan)
    theta: FloatArray | None = None
    rsquared: Mapping[str, float] = field(default_factory=dict)
    icc: float = np.nan
    n_levels: Mapping[str, int] = field(default_factory=dict)
    converged: bool | None = None
    absorbed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rho(self) -> float:
        """The autoregressive parameter; NaN without one."""
        names = "rho", "rho (residual)"  # beside a coefficient rho
        return next((c.value for c in self.components if c.name in names), np.nan)

    def coefficients(self, alpha: float) -> pd.DataFrame:
        """
        Coefficients with tests and intervals.

        Parameters
        ----------
        alpha : float
            1 - coverage.

        Returns
        -------
        DataFrame, shape (k, 7)
            Indexed by term: ``estimate, std_error, statistic, df, p_value,
            conf_low, conf_high``.
        """
        error = np.where(self.std_error > 0.0, self.std_error, np.nan)
        # Student's t with infinite degrees of freedom is the normal distribution
        df = np.where(self.df > 0.0, self.df, np.nan)
        statistic = self.estimate / error
        half = stats.t.isf(alpha / 2.0, df) * error
        columns = {
            "estimate": self.estimate,
            "std_error": error,
            "statistic": statistic,
            "df": df,
            "p_value": 2.0 * stats.t.sf(np.abs(statistic), df),
            "conf_low": self.estimate - half,
            "conf_high": self.estimate + half,
        }
        return pd.DataFrame(columns, index=pd.Index(self.terms, name="term"))


def mixed_model(
    fit: MixedLMResults,
    terms: tuple[str, ...],
    components: Iterable[Component],
    nobs: int,
    k: int,
    **parts: Any,
) -> FitRecord:
    """Record of a mixed model, of this package or of statsmodels."""
    kind = str(fit.method)
    n = nobs - len(terms) if kind == "REML" else nobs
    products = gram(getattr(fit.model, "exog", None))
    return FitRecord(
        estimator=kind,
        terms=terms,
        estimate=np.asarray(fit.fe_params, dtype=np.float64),
        std_error=np.asarray(fit.bse_fe, dtype=np.float64),
        components=tuple(components),
        nobs=nobs,
        scale=float(fit.scale),
        likelihood=Likelihood(kind, float(fit.llf), k, n, terms, products),
        criteria=(float(fit.aic), float(fit.bic)),
        converged=bool(fit.converged),
        **parts,
    )


def residual_variance(value: float) -> Component:
    """The variance of the residuals, without a standard error."""
    return Component("Residual Var", "residual", float(value), ("residual",))


def random_effects(
    names: Sequence[str],
    cov: ArrayLike,
    component_names: Sequence[str],
    variances: ArrayLike,
) -> list[Component]:
    """
    Covariances of random effects, by rows of the lower triangle, and variances.

    The variances are those of the variance components, whose names are given.
    """
    cov, out = np.asarray(cov, dtype=np.float64), []
    for i, name in enumerate(names):
        for j, other in enumerate(names[:i]):
            label, value = f"{other} x {name} Cov", float(cov[i, j])
            out.append(Component(label, "random", value, (other, name)))
        out.append(random_variance(name, cov[i, i]))
    pairs = zip(component_names, np.ravel(variances), strict=True)
    return out + [random_variance(*pair) for pair in pairs]


def random_variance(name: str, value: float) -> Component:
    """The variance of random effects, without a standard error."""
    return Component(f"{name} Var", "random", float(value), (name,))


def estimated_effects_note(entity: str) -> str:
    """What the variance of fixed effects is."""
    return (
        f"the variance of {entity} is that of the estimated effects, and holds their "
        "error of estimation."
    )


def gram(exog: ArrayLike | None) -> FloatArray | None:
    """Cross-products of the columns; None without data."""
    if exog is None:
        return None
    x = np.asarray(exog, dtype=np.float64)
    return x.T @ x


def sample_of(model: object) -> Sample:
    """Response and rows of a model of statsmodels or of a mixed model."""
    data = getattr(model, "data", None)
    y = getattr(model, "endog", None)
    name = str(getattr(data, "ynames", None) or "y")
    index = getattr(data, "row_labels", None)
    if y is None:
        return Sample(name, 0, None, None)
    values = np.sort(np.asarray(y, dtype=np.float64).ravel())
    return Sample(name, len(values), values, index)


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
    samples = [record.sample for record in records.values()]
    classes: list[int] = []
    firsts: list[int] = []
    notes = []
    for k, sample in enumerate(samples):
        found = next((c for c, f in enumerate(firsts) if _same(samples[f], sample)), -1)
        if found < 0:
            found = len(firsts)
            firsts.append(k)
            if k:
                message = _difference(names[0], samples[0], names[k], sample)
                if not allow:
                    raise SampleMismatchError(
                        f"compare: mismatch: {message}. {_REMEDY}"
                    )
                notes.append(f"Different samples: {message}.")
        classes.append(found)
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
    others = [s[0] for s in left]
    if len(best) < 2 and len(records) > 1:
        note = (
            f"Of these fits only {best[0]} has a likelihood of the response: there is "
            "none to compare it with."
        )
        if others:
            reasons = "; ".join(_reasons(kinds, best[0], others))
            note = f"Log-likelihood, AIC and BIC are not shown: {reasons}."
        return [], [note]
    if not left:
        return best, []
    out = listing([name for s in left for name in s])
    reasons = "; ".join(_reasons(kinds, best[0], others))
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
