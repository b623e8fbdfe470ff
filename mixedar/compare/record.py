"""
The numbers of a fit, in the same words for every kind of model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mixedar._types import FloatArray

#: What regressions of something else than the response itself are about, by the
#: kind of panel estimator.
TRANSFORMED = {
    "between": "observations are means of the entities.",
    "fd": "observations are differences.",
}


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
        ``"within"``, ``"between"``, ``"overall"``.
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
    converged: bool | None = None
    absorbed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rho(self) -> float:
        """The autoregressive parameter; NaN without one."""
        return next((c.value for c in self.components if c.name == "rho"), np.nan)

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
    fit: Any,
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


def covariances(names: list[str], cov: FloatArray) -> list[Component]:
    """Variances and covariances of random effects, by rows of the lower triangle."""
    out = []
    for i, name in enumerate(names):
        for j, other in enumerate(names[:i]):
            value = float(cov[i, j])
            label = f"{other} x {name} Cov"
            out.append(Component(label, "random", value, (other, name)))
        out.append(Component(f"{name} Var", "random", float(cov[i, i]), (name,)))
    return out


def estimated_effects_note(entity: str) -> str:
    """What the variance of fixed effects is."""
    return (
        f"the variance of {entity} is that of the estimated effects, and holds their "
        "error of estimation."
    )


def gram(exog: Any) -> FloatArray | None:
    """Cross-products of the columns; None without data."""
    if exog is None:
        return None
    x = np.asarray(exog, dtype=np.float64)
    return x.T @ x


def sample_of(model: Any) -> Sample:
    """Response and rows of a model of statsmodels or of a mixed model."""
    data = getattr(model, "data", None)
    y = getattr(model, "endog", None)
    name = str(getattr(data, "ynames", None) or "y")
    index = getattr(data, "row_labels", None)
    if y is None:
        return Sample(name, 0, None, None)
    values = np.sort(np.asarray(y, dtype=np.float64).ravel())
    return Sample(name, len(values), values, index)
