"""
Methods of denominator degrees of freedom, by name.

=================== =========================================================
``containment``     nlme's inner-outer rule, the default
``between-within``  SAS' ``ddfm=bw``
``residual``        observations less fixed effects
``satterthwaite``   see :mod:`mixedar.inference.df.satterthwaite`
``kenward-roger``   see :mod:`mixedar.inference.df.kenward_roger`
``normal``          z and chi-square: infinite degrees of freedom
=================== =========================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.engine.precision import PrecisionDerivatives, precision_derivatives
from mixedar.exceptions import NotComputedError, UnsupportedError
from mixedar.inference.df.base import ColumnDF, ContrastMethod
from mixedar.inference.df.kenward_roger import KenwardRogerDF
from mixedar.inference.df.sandwich import SandwichDF
from mixedar.inference.df.satterthwaite import SatterthwaiteDF
from mixedar.inference.information import parameter_covariance

#: The methods, and what summaries call them.
METHODS = {
    "containment": "containment",
    "between-within": "between-within",
    "residual": "residual",
    "satterthwaite": "Satterthwaite",
    "kenward-roger": "Kenward-Roger",
    "normal": "none (normal)",
}
_ALIASES = {
    "bw": "between-within",
    "betwithin": "between-within",
    "kr": "kenward-roger",
    "kenwardroger": "kenward-roger",
    "satterth": "satterthwaite",
    "z": "normal",
}


@dataclass(frozen=True)
class DFMethod:
    """
    A method of degrees of freedom with its options.

    Parameters
    ----------
    name : str
        A key of :data:`METHODS`, or ``"given"``.
    kr : {"full", "linear"}
        Kenward-Roger with or without the second derivatives of ``V``.
    information : {"observed", "expected"}
        Information of the covariance parameters that Satterthwaite's and
        Kenward and Roger's methods invert.
    value : float
        Degrees of freedom of ``"given"``.
    """

    name: str
    kr: str = ""
    information: str = ""
    value: float = np.nan

    @property
    def label(self) -> str:
        """The name that summaries print, with its options."""
        if self.name == "given":
            return f"{self.value:g}"
        label = METHODS[self.name]
        if self.name == "kenward-roger":
            return f"{label} ({self.kr}, {self.information} information)"
        if self.name == "satterthwaite" and self.information != "observed":
            return f"{label} ({self.information} information)"
        return label


def resolve_df(
    df: Any, kr: str | None = None, information: str | None = None
) -> DFMethod:
    """
    A method from what a user wrote.

    Parameters
    ----------
    df : str, float or DFMethod
        The name of a method, or degrees of freedom themselves.
    kr : {"full", "linear"}, optional
        Linear by default, which keeps its level where the full correction does
        not, exists where that has no positive definite covariance, and does not
        depend on the unit of time.
    information : {"observed", "expected"}, optional
        By default observed for Satterthwaite (as lmerTest), expected for linear
        Kenward-Roger (as pbkrtest) and observed for the full one (as SAS unless
        told ``scoring``).

    Returns
    -------
    DFMethod

    Raises
    ------
    UnsupportedError
        For unknown names, and options that the method does not have.
    """
    if isinstance(df, DFMethod):
        if df.name == "given":
            return df
        return resolve_df(
            df.name, kr or df.kr or None, information or df.information or None
        )
    if isinstance(df, (int, float, np.number)) and not isinstance(df, bool):
        if not float(df) > 0.0:
            raise UnsupportedError(f"df={df!r}: degrees of freedom are positive")
        method = DFMethod("given", value=float(df))
    else:
        name = str(df).strip().lower().replace("_", "-").replace(" ", "-")
        name = _ALIASES.get(name, name)
        if not isinstance(df, str) or name not in METHODS:
            raise UnsupportedError(
                f"df={df!r} is not a method of degrees of freedom; choose one of "
                f"{', '.join(METHODS)}, or give a positive number"
            )
        method = DFMethod(name)
    if kr is not None and method.name != "kenward-roger":
        raise UnsupportedError(f"kr={kr!r} is an option of df='kenward-roger' only")
    if method.name not in ("kenward-roger", "satterthwaite"):
        if information is not None:
            raise UnsupportedError(
                f"information={information!r} is an option of df='satterthwaite' and "
                "df='kenward-roger' only"
            )
        return method
    if method.name == "kenward-roger":
        kr = "linear" if kr is None else kr
        if kr not in ("full", "linear"):
            raise UnsupportedError(f"kr={kr!r}: choose 'full' or 'linear'")
    if information is None:
        information = "expected" if kr == "linear" else "observed"
    if information not in ("observed", "expected"):
        raise UnsupportedError(
            f"information={information!r}: choose 'observed' or 'expected'"
        )
    if method.name == "satterthwaite":
        return DFMethod(method.name, information=information)
    return DFMethod(method.name, str(kr), information)


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
    first = np.empty(count, dtype=np.intp)
    first[groups[::-1]] = np.arange(n - 1, -1, -1)
    constant = np.array(
        [bool((exog[:, j] == exog[first, j][groups]).all()) for j in range(p)]
    )
    between = float(count - constant.sum())
    return np.where(constant, between, n - p - between)


def derivatives_of(results: Any) -> PrecisionDerivatives:
    """
    The derivatives that data-driven methods need, at a fit's estimate.

    Parameters
    ----------
    results : MixedLMARResults

    Returns
    -------
    PrecisionDerivatives

    Raises
    ------
    NotComputedError
        If the data of the fit were removed, or its precision is singular.
    """
    model = results.model
    if getattr(model, "_rows", None) is None:
        raise NotComputedError(
            "the data of this fit were removed: compute what needs them before "
            "remove_data()"
        )
    layout = model._layout(None, None)
    if results.freepat is not None:
        held = results.freepat.get_packed(use_sqrt=False, has_fe=False) == 0.0
        fixed = layout.fixed.copy()
        fixed[held] = 0.0
        layout = type(layout)(layout.k_re, layout.vc_sizes, fixed)
    try:
        return precision_derivatives(
            model._rows,
            model.nobs,
            results.structure,
            layout,
            results._factor,
            results._u,
            reml=results.reml,
            hold_rho=results._residual_at_boundary,
        )
    except np.linalg.LinAlgError as error:
        raise NotComputedError(
            "the precision of the fixed effects is singular to rounding at this "
            f"estimate ({error}); use df='containment'"
        ) from error


def contrast_method(results: Any, method: DFMethod) -> ContrastMethod:
    """
    A method of degrees of freedom at a fit's estimate.

    Parameters
    ----------
    results : MixedLMARResults
    method : DFMethod

    Returns
    -------
    ContrastMethod

    Raises
    ------
    NotComputedError
        If the method is not defined for the fit; the message says why.
    """
    cov, containment = results._unadjusted
    robust = results._sandwich
    if robust is not None:
        if method.name == "kenward-roger":
            raise NotComputedError(
                "Kenward-Roger corrects the covariance of the model, and this fit has "
                "robust standard errors; use df='satterthwaite', which is theirs"
            )
        if method.name == "satterthwaite":
            return SandwichDF(robust)
        cov = robust.cov
    p = len(cov)
    if method.name == "containment":
        return ColumnDF(cov, containment)
    if method.name == "normal":
        return ColumnDF(cov, np.full(p, np.inf))
    if method.name == "given":
        return ColumnDF(cov, np.full(p, method.value))
    if method.name == "residual":
        return ColumnDF(cov, np.full(p, float(results.nobs - p)))
    if method.name == "between-within":
        model = results.model
        if getattr(model, "exog", None) is None:
            raise NotComputedError(
                "the data of this fit were removed: ask for between-within degrees of "
                "freedom before remove_data()"
            )
        return ColumnDF(cov, between_within_df(model.exog, model._codes))
    if method.name == "kenward-roger" and not results.reml:
        raise NotComputedError(
            "Kenward-Roger is defined for REML estimates, and this is an ML fit; refit "
            "with fit(reml=True), or use df='satterthwaite'"
        )
    derivatives = results._precision_derivatives
    w = parameter_covariance(derivatives, method.information)
    found: ContrastMethod
    if method.name == "kenward-roger":
        found = KenwardRogerDF(derivatives, w, full=method.kr == "full")
    else:
        found = SatterthwaiteDF(derivatives, w, cov)
    found.notes.extend(_boundary_notes(results, method))
    return found


def _boundary_notes(results: Any, method: DFMethod) -> list[str]:
    notes = []
    if results._singular and method.information == "observed":
        notes.append(
            f"{METHODS[method.name]} degrees of freedom take variances of zero, and "
            "other directions in which the covariance is singular, as known."
        )
    elif results._singular:
        notes.append(
            f"{METHODS[method.name]} degrees of freedom count all covariance "
            "parameters, those on the boundary too."
        )
    if results._residual_at_boundary:
        notes.append(
            f"{METHODS[method.name]} degrees of freedom take the residual parameter, "
            "which is at the end of its range, as known."
        )
    return notes
