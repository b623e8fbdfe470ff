"""
Methods of denominator degrees of freedom, by name.

=================== =========================================================
``containment``     nlme's inner-outer rule, the default
``between-within``  SAS' ``ddfm=bw``
``residual``        observations less fixed effects
``satterthwaite``   see :mod:`mixedar.inference.df.small_sample`
``kenward-roger``   see :mod:`mixedar.inference.df.small_sample`
``normal``          z and chi-square: infinite degrees of freedom
=================== =========================================================
"""

from __future__ import annotations

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.data.containment import constant_within
from mixedar.exceptions import NotComputedError
from mixedar.fit import Fit
from mixedar.fit.parameters import at_end_values
from mixedar.hypotheses.df import (
    METHODS,
    ColumnDF,
    ContrastMethod,
    DFMethod,
    resolve_df,
)
from mixedar.inference.df.small_sample import KenwardRogerDF, SatterthwaiteDF
from mixedar.inference.information import parameter_covariance


def between_within_df(exog: FloatArray, groups: IntArray) -> FloatArray:
    """
    Between-within degrees of freedom of each fixed-effects column.

    The ``n - p`` residual degrees of freedom are split into a part between
    groups, for columns that vary in no group, the intercept among them (number
    of groups less the number of such columns), and the rest within groups
    (Schluchter and Elashoff, 1990; SAS' ``ddfm=bw``).

    Parameters
    ----------
    exog : ndarray, shape (n, p)
        Fixed-effects design of full rank.
    groups : ndarray of int, shape (n,)
        Codes ``0 ... m - 1``.

    Returns
    -------
    ndarray, shape (p,)
        May be zero or less: no t test exists there.

    Raises
    ------
    NotComputedError
        With one group only.

    References
    ----------
    Schluchter, M. D. and Elashoff, J. T. (1990), Small-sample adjustments to
    tests with unbalanced repeated measures assuming several covariance
    structures, Journal of Statistical Computation and Simulation 37, 69-87.
    """
    n, p = exog.shape
    count = int(groups.max()) + 1
    if count == 1:
        raise NotComputedError(
            "between-within degrees of freedom need several groups, and there is one; "
            "use df='satterthwaite'"
        )
    constant = constant_within(exog, groups)
    between = float(count - constant.sum())
    return np.where(constant, between, n - p - between)


def contrast_method(
    fit: Fit, df: str | float | DFMethod | None = None
) -> ContrastMethod:
    """
    A method of degrees of freedom at a fit's estimate; computed once.

    Parameters
    ----------
    fit : Fit
    df : str, float or DFMethod, optional
        That of the fit by default.

    Returns
    -------
    ContrastMethod

    Raises
    ------
    NotComputedError
        If the method is not defined for the fit; the message says why.
    """
    method = fit.df_method if df is None else resolve_df(df)
    known = fit.contrast_methods
    if method not in known:
        known[method] = _contrast_method(fit, method)
    return known[method]


def _contrast_method(fit: Fit, method: DFMethod) -> ContrastMethod:
    cov = fit.cov_beta
    if fit.robust is not None:
        if method.name == "kenward-roger":
            raise NotComputedError(
                "Kenward-Roger corrects the covariance of the model, and this fit has "
                "robust standard errors; use df='satterthwaite', which is theirs"
            )
        if method.name == "satterthwaite":
            return fit.robust
        cov = fit.robust.cov
    if method.name == "containment":
        return ColumnDF(cov, fit.df_containment)
    same = {"normal": np.inf, "given": method.value, "residual": fit.nobs - fit.k_fe}
    if method.name in same:
        return ColumnDF(cov, np.full(fit.k_fe, float(same[method.name])))
    if method.name == "between-within":
        return ColumnDF(cov, between_within_df(fit.data.exog, fit.data.codes))
    if method.name == "kenward-roger" and not fit.reml:
        raise NotComputedError(
            "Kenward-Roger is defined for REML estimates, and this is an ML fit; refit "
            "with fit(reml=True), or use df='satterthwaite'"
        )
    derivatives = fit.precision_derivatives
    w = parameter_covariance(derivatives, method.information)
    found: ContrastMethod
    if method.name == "kenward-roger":
        found = KenwardRogerDF(derivatives, w, full=method.kr == "full")
    else:
        found = SatterthwaiteDF(derivatives, w, cov)
    found.notes.extend(_boundary_notes(fit, method))
    return found


def _boundary_notes(fit: Fit, method: DFMethod) -> list[str]:
    name, notes = f"{METHODS[method.name]} degrees of freedom", []
    if fit.singular and method.information == "observed":
        notes.append(
            f"{name} take variances of zero, and other directions in which the "
            "covariance is singular, as known."
        )
    elif fit.singular:
        notes.append(
            f"{name} count all covariance parameters, those on the boundary too."
        )
    if fit.residual_at_boundary:
        names = ", ".join(map(repr, at_end_values(fit)))
        which = "s {}, which are at the end of their" if fit.at_end.sum() > 1 else ""
        which = (which or " {}, which is at the end of its").format(names)
        notes.append(f"{name} take the residual parameter{which} range, as known.")
    return notes


def covariance(fit: Fit) -> FloatArray:
    """
    Covariance of all parameters, that of the fixed effects by the fit's method.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    ndarray, shape (k, k)
        Zero for parameters that are held, NaN on the boundary.
    """
    p, k = fit.k_fe, len(fit.names)
    cov = np.zeros((k, k))
    cov[p:, p:] = fit.estimate.cov_theta[:-1, :-1]
    cov[fit.is_held] = cov[:, fit.is_held] = 0.0
    cov[:p, :p] = contrast_method(fit).cov
    return cov


def df_notes(fit: Fit) -> list[str]:
    """What a reader of the tests has to know about their DF."""
    notes = []
    method = fit.df_method
    if method.name == "given":
        notes.append(f"t tests of the fixed effects use {method.value:g} DF.")
    elif method.name == "normal":
        notes.append("Tests of the fixed effects use the normal distribution.")
    else:
        notes.append(
            "t tests of the fixed effects use "
            f"{METHODS[method.name]} degrees of freedom."
        )
    if fit.robust is not None:
        notes.append(
            f"Standard errors of the fixed effects are robust ({fit.robust.cov_type}, "
            f"clusters are the {fit.robust.clusters})."
        )
    if method.name == "kenward-roger":
        term = "with" if method.kr == "full" else "without"
        notes.append(
            "Standard errors hold the Kenward-Roger correction, "
            f"{term} its second-order term."
        )
    found = contrast_method(fit)
    notes.extend(found.notes)
    if fit.robust is not None and found is not fit.robust:
        notes.extend(fit.robust.notes[1:])  # the first is about its DF
    df = found.single(np.eye(fit.k_fe))
    spent = [name for name, value in zip(fit.exog_names, df, strict=True) if value <= 0]
    if spent:
        notes.append(
            f"No degrees of freedom are left for {', '.join(spent)}: there is no "
            "test of this kind."
        )
    return notes
