"""
Wald tests and intervals with a choice of degrees of freedom.

Methods that test take ``df=``: ``"containment"`` (nlme's rule, the default),
``"between-within"``, ``"residual"``, ``"satterthwaite"``, ``"kenward-roger"``,
``"normal"``, a number, or a :class:`mixedar.inference.DFMethod` with options.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from mixedar._types import FloatArray
from mixedar.data.checks import float_array
from mixedar.exceptions import (
    LengthError,
    MissingDataError,
    NotComputedError,
    UnsupportedError,
    check_alpha,
    check_choice,
    check_flags,
)
from mixedar.fit import Fit
from mixedar.fit.parameters import normal_interval, parameters_of
from mixedar.hypotheses.contrast import WaldTest
from mixedar.hypotheses.df import DFMethod, f_sf, resolve_df, t_isf, t_sf
from mixedar.hypotheses.restrictions import (
    WITHOUT_ERROR,
    covariance_of,
    restrictions,
    single_tests,
)
from mixedar.inference.df import (
    contrast_method,
    covariance,
    df_of_rows,
    shared_covariance,
)

Hypothesis = Any


def conf_int(fit: Fit, alpha: float = 0.05) -> FloatArray:
    """
    Confidence intervals of all parameters.

    Fixed effects by Student's t with their degrees of freedom; variances
    on the log scale, covariances on their own scale and residual
    parameters on the unconstrained scale, by the normal distribution.

    Parameters
    ----------
    fit : Fit
    alpha : float
        1 - coverage.

    Returns
    -------
    ndarray, shape (k, 2)
        NaN where no standard error exists.
    """
    check_alpha(alpha)
    p, params = fit.k_fe, fit.params
    bse = np.sqrt(np.diag(covariance(fit)))
    out = np.full((len(params), 2), np.nan)
    half = t_isf(alpha / 2.0, contrast_method(fit).single(np.eye(p))) * bse[:p]
    out[:p] = np.column_stack([params[:p] - half, params[:p] + half])
    z = float(stats.norm.isf(alpha / 2.0))
    # those of ``params`` come first
    for k, (one, error) in enumerate(zip(parameters_of(fit), bse[p:], strict=False)):
        if np.isfinite(error) and error > 0.0:
            out[p + k] = normal_interval(one, float(error), z)
    return out


def tvalues(fit: Fit) -> FloatArray:
    """Estimates by standard errors, shape (k,); NaN beside the fixed effects."""
    out = np.full(len(fit.names), np.nan)
    out[: fit.k_fe] = fit.fe_params / np.sqrt(np.diag(contrast_method(fit).cov))
    return out


def pvalues(fit: Fit) -> FloatArray:
    """Two-sided p-values by Student's t, shape (k,); NaN as in :func:`tvalues`."""
    out, p = np.full(len(fit.names), np.nan), fit.k_fe
    df = contrast_method(fit).single(np.eye(p))
    out[:p] = 2.0 * t_sf(np.abs(tvalues(fit)[:p]), df)
    return out


def coefficient_frame(fit: Fit) -> pd.DataFrame:
    """``estimate``, ``std_error`` and ``df`` (or infinity) of the fixed effects."""
    method = contrast_method(fit)
    df = method.single(np.eye(fit.k_fe))
    columns = {
        "estimate": fit.fe_params,
        "std_error": np.sqrt(np.diag(method.cov)),
        "df": np.where(np.isfinite(df), df, np.inf),
    }
    return pd.DataFrame(columns, index=list(fit.exog_names))


def _contrasts(fit: Fit, r_matrix: Hypothesis) -> tuple[FloatArray, FloatArray]:
    """Restrictions on the fixed effects, and their right-hand sides."""
    p = fit.k_fe
    return restrictions(r_matrix, fit.names[:p], fit.names[p:])


def t_test(
    fit: Fit,
    r_matrix: Hypothesis,
    use_t: bool | None = None,
    df: str | float | DFMethod | None = None,
) -> WaldTest:
    """
    Test linear combinations of the fixed effects, one by one.

    Parameters
    ----------
    r_matrix : array_like, shape (k, p), str, mapping, list of str or tuple
        Restrictions, one a row; those of a Series or DataFrame are matched by name,
        and effects that they leave out count zero.  Text such as ``"time = 0.5"``,
        one or several; a mapping of names to values; or ``(R, q)`` for ``R b = q``.
    use_t : bool, optional
        False for normal p-values.
    df : str, float or DFMethod, optional
        Degrees of freedom; those of the results by default.  Methods by
        column take the smallest of the coefficients involved.

    Returns
    -------
    WaldTest
        ``sd`` and ``df_denom`` follow the method.

    Raises
    ------
    MixedARError
        If `r_matrix` cannot be read.
    UnsupportedError
        If `r_matrix` has the wrong number of columns, or `df` is unknown.
    NotComputedError
        If a row is zero, or the method is not defined for this fit.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age * sex", teeth, groups="subject", time="occ"
    ... )
    >>> fit = model.fit()
    >>> test = fit.t_test("age:sex[T.Male] = 0", df="satterthwaite")
    >>> round(float(test.pvalue), 2)
    0.01
    """
    check_choice("use_t", use_t, (None, True, False))
    matrix, values = _contrasts(fit, r_matrix)
    spec = fit.df_method if df is None else resolve_df(df)
    method = contrast_method(fit, spec)
    cov = covariance_of(matrix, method.cov)
    if np.isnan(np.diag(cov)).any():
        raise NotComputedError(WITHOUT_ERROR)
    df_denom = None
    if not (use_t is False or (use_t is None and spec.name == "normal")):
        df_denom = method.single(matrix)
        _check_df(fit, df_denom)
    return single_tests(matrix @ fit.fe_params, values, cov, df_denom)


def population_tests(fit: Fit, matrix: FloatArray) -> WaldTest:
    """
    Tests of combinations of the coefficients that all rows share.

    Parameters
    ----------
    fit : Fit
    matrix : ndarray, shape (k, p + q)
        Columns of the fixed effects, then of the smooths' coefficients.  Degrees of
        freedom are those of the fixed part.
    """
    if matrix.shape[1] == fit.k_fe:
        return t_test(fit, matrix)
    method = contrast_method(fit)
    cov = covariance_of(matrix, shared_covariance(fit, method.cov))
    if np.isnan(np.diag(cov)).any():
        raise NotComputedError(WITHOUT_ERROR)
    df = None
    if fit.df_method.name != "normal":
        df = df_of_rows(method, matrix[:, : fit.k_fe])
        _check_df(fit, df)
    effect = matrix @ fit.population.coefficients
    return single_tests(effect, np.zeros(len(matrix)), cov, df)


def _check_df(fit: Fit, df: FloatArray) -> None:
    if not (np.asarray(df) > 0.0).all():
        if fit.robust is not None and np.isnan(df).any():
            raise NotComputedError(
                "the robust variance of a contrast is zero whatever the data: "
                "it has no degrees of freedom"
            )
        raise NotComputedError(
            "no degrees of freedom are left in the stratum of these effects; use "
            "df='satterthwaite' or df='kenward-roger'"
        )


def wald_test(
    fit: Fit,
    r_matrix: Hypothesis,
    cov_p: ArrayLike | None = None,
    invcov: ArrayLike | None = None,
    use_f: bool | None = None,
    df_constraints: int | None = None,
    scalar: bool = True,
    df: str | float | DFMethod | None = None,
) -> WaldTest:
    """
    Joint Wald test of linear restrictions on the fixed effects.

    Parameters
    ----------
    r_matrix : array_like, shape (k, p), str, or tuple
        As in :meth:`t_test`.
    cov_p : array_like, shape (p, p), optional
        Another covariance of the fixed effects.
    invcov : array_like, shape (k, k), optional
        Inverse covariance of the restrictions.
    use_f : bool, optional
        F (default), or chi-square.
    df_constraints : int, optional
        Number of restrictions; the rank of `r_matrix` by default.
    scalar : bool
        Statistic as a number, not an array.
    df : str, float or DFMethod, optional
        Denominator degrees of freedom; those of the results by default.
        Satterthwaite's are pooled as Fai and Cornelius do, whatever the coding.

    Returns
    -------
    WaldTest
        Kenward-Roger's F is scaled; its ``scaling`` holds the factor.

    Raises
    ------
    NotComputedError
        If a restriction is zero, the restrictions contradict one another or
        have a singular covariance, or the method of degrees of freedom is
        not defined for this fit.
    UnsupportedError
        If `cov_p` or `invcov` comes with a method that implies a covariance.
    LengthError, MissingDataError
        If `cov_p` or `invcov` has another shape, or is not finite.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age * sex", teeth, groups="subject", time="occ"
    ... )
    >>> fit = model.fit()
    >>> test = fit.wald_test("sex[T.Male] = 0, age:sex[T.Male] = 0", use_f=True)
    >>> test.df_num
    2
    """
    check_choice("use_f", use_f, (None, True, False))
    check_flags(scalar=scalar)
    matrix, values = _contrasts(fit, r_matrix)
    spec = fit.df_method if df is None else resolve_df(df)
    implied = spec.name in ("satterthwaite", "kenward-roger")
    if implied and not (cov_p is None and invcov is None):
        raise UnsupportedError(
            f"df={spec.name!r} belongs to the fit's own covariance; leave out "
            "cov_p= and invcov=, or choose df='containment'"
        )
    method = contrast_method(fit, spec)
    cov = method.cov
    if cov_p is not None:
        cov = _square(cov_p, fit.k_fe, "cov_p", "fixed effect")
    difference = matrix @ fit.fe_params - values
    reduced, distance = _independent_rows(fit, matrix, difference)
    rank = len(reduced)
    middle = covariance_of(reduced, cov)
    if np.isnan(middle).any():
        raise NotComputedError(WITHOUT_ERROR)
    df_denom, scaling = method.joint(matrix, rank)
    if invcov is None:
        statistic = _squared_length(distance, middle)
    else:
        inverse = _square(invcov, len(matrix), "invcov", "restriction")
        statistic = float(difference @ inverse @ difference)
    count = rank if df_constraints is None else df_constraints
    if not count > 0:
        raise UnsupportedError(f"df_constraints={count!r} is not positive")
    if use_f is False or (use_f is None and spec.name == "normal"):
        chi2 = statistic if scalar else np.array([[statistic]])
        return WaldTest(chi2=chi2, statistic=chi2, df_denom=count, distribution="chi2")
    _check_df(fit, np.array([df_denom]))
    value = statistic / count * scaling
    result = WaldTest(
        F=value if scalar else np.array([[value]]), df_denom=df_denom, df_num=count
    )
    if np.isinf(df_denom):  # scipy's F distribution does not know infinity
        result.pvalue = np.float64(f_sf(value, count, df_denom))
    result.scaling = scaling
    return result


def _independent_rows(
    fit: Fit, matrix: FloatArray, difference: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Restrictions without those that follow from others, and their distances."""
    middle = covariance_of(matrix, fit.cov_beta)
    if np.isnan(middle).any():
        raise NotComputedError(WITHOUT_ERROR)
    # rank on the scale of correlations: units of the coefficients do not matter
    lengths = np.sqrt(np.diag(middle))
    spectrum, vectors = np.linalg.eigh(middle / np.outer(lengths, lengths))
    keep = spectrum > 1e-10 * spectrum[-1]
    standardized = vectors.T @ (difference / lengths)
    if (np.abs(standardized[~keep]) > 1e-6 * (1 + np.abs(standardized).max())).any():
        raise NotComputedError(
            "the restrictions contradict one another: some are linear combinations "
            "of others with different right-hand sides"
        )
    rows = vectors.T @ (matrix / lengths[:, None])
    return rows[keep], standardized[keep]


def _square(values: ArrayLike, order: int, name: str, what: str) -> FloatArray:
    """A covariance that a user gave, checked."""
    matrix = float_array(values, name)
    if matrix.shape != (order, order):
        raise LengthError(
            f"{name} has the shape {matrix.shape}; it needs {order} rows and columns, "
            f"one for each {what}"
        )
    if not np.isfinite(matrix).all():
        raise MissingDataError(f"{name} holds missing or infinite values")
    return matrix


def _squared_length(distance: FloatArray, cov: FloatArray) -> float:
    """``distance' cov^-1 distance``."""
    spectrum, vectors = np.linalg.eigh(cov)
    if not spectrum[0] > 1e-12 * abs(spectrum[-1]):
        raise NotComputedError(
            f"the covariance of the {len(cov)} restrictions is singular: they cannot "
            "be tested jointly"
        )
    return float(((vectors.T @ distance) ** 2 / spectrum).sum())
