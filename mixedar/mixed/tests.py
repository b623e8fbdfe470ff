"""
Which degrees of freedom the tests of a fit use.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLMResults
from statsmodels.stats.contrast import ContrastResults

from mixedar._types import FloatArray
from mixedar.exceptions import (
    LengthError,
    MissingDataError,
    NotComputedError,
    UnsupportedError,
)
from mixedar.fit import Fit
from mixedar.hypotheses.df import METHODS, DFMethod, RobustMethod, resolve_df
from mixedar.hypotheses.restrictions import restrictions
from mixedar.inference.arguments import check_alpha, positions
from mixedar.inference.df.methods import contrast_method
from mixedar.inference.intervals.wald import residual_intervals

if TYPE_CHECKING:
    from typing_extensions import Self


class DegreesOfFreedom(MixedLMResults):
    """The method of degrees of freedom of a fit, and how to choose another."""

    _wrapper: ClassVar[Any]
    fit: Fit

    @property
    def df(self) -> pd.Series:
        """Degrees of freedom of each fixed effect, by the method of the fit."""
        return pd.Series(self._df_values, index=list(self.fit.exog_names))

    @property
    def _df_values(self) -> FloatArray:
        return contrast_method(self.fit).single(np.eye(self.k_fe))

    @property
    def df_method(self) -> str:
        """The method of degrees of freedom, ``"containment"`` by default."""
        return self.fit.df_method.name

    @property
    def cov_type(self) -> str:
        """``"nonrobust"``, or the kind of the robust covariance."""
        robust = self.fit.robust
        return "nonrobust" if robust is None else robust.cov_type

    @cov_type.setter
    def cov_type(self, value: str) -> None:
        """Set by statsmodels' base class; the fit knows it."""

    def with_df(
        self, df: Any, *, kr: str | None = None, information: str | None = None
    ) -> Any:
        """
        The same fit with other degrees of freedom in all its tests.

        Parameters
        ----------
        df : str, float or DFMethod
            ``"containment"``, ``"between-within"``, ``"residual"``,
            ``"satterthwaite"``, ``"kenward-roger"``, ``"normal"``, or a number.
            With Kenward-Roger standard errors and ``cov_params()`` hold the
            correction for small samples.
        kr : {"full", "linear"}, optional
            Kenward-Roger with or without (default) the term of second order.
        information : {"observed", "expected"}, optional
            Information of the covariance parameters: observed by default for
            Satterthwaite (as lmerTest) and full Kenward-Roger (as SAS),
            expected for the linear one (as pbkrtest).

        Returns
        -------
        MixedLMARResultsWrapper

        Raises
        ------
        UnsupportedError
            For unknown names and options.
        NotComputedError
            If the method is not defined for this fit.
        """
        method = resolve_df(df, kr, information)
        return self._wrapper(self._with_tests(method, self.fit.robust))

    def get_robustcov_results(
        self, cov_type: str = "CR2", use_t: bool | None = None
    ) -> Any:
        """
        The same fit with cluster-robust standard errors in all its tests.

        Clusters are the groups of the model.  Tests use Satterthwaite's
        degrees of freedom for the robust variance (Bell and McCaffrey's for
        CR2; HTZ for joint tests); :meth:`with_df` chooses others.

        Parameters
        ----------
        cov_type : {"CR0", "CR1", "CR1p", "CR1S", "CR2", "CR3", "nonrobust"}
        use_t : bool, optional
            False for tests by the normal distribution.

        Returns
        -------
        MixedLMARResultsWrapper

        Raises
        ------
        UnsupportedError
            For another type.
        NotComputedError
            If the covariance cannot be computed; the message says why.

        See Also
        --------
        mixedar.inference.df.sandwich : the estimators, and references.
        """
        if cov_type == "nonrobust":
            return self._wrapper(self._with_tests(self.fit.df_method, None))
        from mixedar.inference.df.sandwich import SandwichDF, sandwich

        method = resolve_df("satterthwaite" if use_t is None or use_t else "normal")
        return self._wrapper(
            self._with_tests(method, SandwichDF(sandwich(self, cov_type)))
        )

    def cov_params(
        self,
        r_matrix: Any = None,
        column: Any = None,
        scale: float | None = None,
        cov_p: Any = None,
        other: Any = None,
    ) -> FloatArray:
        """
        Covariance of the estimates, as in statsmodels.

        Parameters
        ----------
        r_matrix, column, scale, cov_p, other
            As in ``MixedLMResults.cov_params``.

        Returns
        -------
        ndarray, shape (k, k)
            Rows and columns are zero for covariance parameters that are held, or
            on the boundary, where no standard error exists (`bse` is NaN
            there): what is asked of the fixed effects stays a number.
        """
        if cov_p is None and np.isnan(self.normalized_cov_params).any():
            cov_p = np.nan_to_num(self.normalized_cov_params, nan=0.0)
            cov_p = cov_p * (self.scale if scale is None else scale)
        return super().cov_params(r_matrix, column, scale, cov_p, other)

    @property
    def bse(self) -> FloatArray:
        """Standard errors, shape (k,); NaN on the boundary, 0 if held."""
        return np.sqrt(np.diag(self.normalized_cov_params) * self.scale)

    def _with_tests(self, method: DFMethod, robust: RobustMethod | None) -> Self:
        """A copy whose errors, t values and tests follow a method."""
        out = copy.copy(self)  # shares what was computed so far
        out._cache = {}
        out.fit = self.fit.with_tests(method, robust)
        p = self.k_fe
        cov = np.array(self.normalized_cov_params)
        cov[:p, :p] = contrast_method(out.fit).cov / self.scale
        out.normalized_cov_params = cov
        out.use_t = method.name != "normal"
        return out

    def _with_df(self, df: str | float | DFMethod) -> Self:
        return self._with_tests(resolve_df(df), self.fit.robust)

    def _df_notes(self) -> list[str]:
        """What a reader of the tests has to know about their DF."""
        notes = []
        method = self.fit.df_method
        if method.name == "given":
            notes.append(f"t tests of the fixed effects use {method.value:g} DF.")
        elif method.name == "normal":
            notes.append("Tests of the fixed effects use the normal distribution.")
        else:
            notes.append(
                "t tests of the fixed effects use "
                f"{METHODS[method.name]} degrees of freedom."
            )
        if self.fit.robust is not None:
            notes.append(
                f"Standard errors of the fixed effects are robust ({self.cov_type}, "
                f"clusters are the {self.fit.robust.n_clusters} groups)."
            )
        if method.name == "kenward-roger":
            term = "with" if method.kr == "full" else "without"
            notes.append(
                "Standard errors hold the Kenward-Roger correction, "
                f"{term} its second-order term."
            )
        notes.extend(contrast_method(self.fit).notes)
        spent = [
            n for n, df in zip(self.fit.names, self._df_values, strict=False) if df <= 0
        ]
        if spent:
            notes.append(
                f"No degrees of freedom are left for {', '.join(spent)}: there is no "
                "test of this kind."
            )
        return notes


class WaldInference(DegreesOfFreedom):
    """
    t and F tests of fixed effects.

    Methods that test take ``df=``: ``"containment"`` (nlme's rule, the default),
    ``"between-within"``, ``"residual"``, ``"satterthwaite"``,
    ``"kenward-roger"``, ``"normal"``, a number, or a
    :class:`mixedar.inference.DFMethod` with options.
    """

    @property
    def tvalues(self) -> FloatArray:
        """
        Estimates divided by standard errors, shape (k,).

        NaN for variances and residual parameters: zero is no value for a Wald
        test there (compare log-likelihoods instead).
        """
        out = np.full(len(self.params), np.nan)
        p = self.k_fe
        out[:p] = self.fe_params / self.bse_fe
        return out

    @property
    def pvalues(self) -> FloatArray:
        """Two-sided p-values of the fixed effects by Student's t, shape (k,)."""
        out = np.full(len(self.params), np.nan)
        p = self.k_fe
        out[:p] = 2.0 * _t_sf(np.abs(self.tvalues[:p]), self._df_values)
        return out

    def conf_int(
        self, alpha: float = 0.05, cols: Any = None, df: Any = None
    ) -> FloatArray:
        """
        Confidence intervals.

        Fixed effects by Student's t with their degrees of freedom; variances
        on the log scale, covariances on their own scale and residual
        parameters on the unconstrained scale, by the normal distribution.

        Parameters
        ----------
        alpha : float
            1 - coverage.
        cols : sequence of int or str, optional
            Which parameters, by position or name; all by default.
        df : str, float or DFMethod, optional
            Degrees of freedom of the fixed effects; those of the results by
            default.

        Returns
        -------
        ndarray, shape (k, 2)
            NaN where no standard error exists.
        """
        if df is not None:
            other = self._with_df(df)
            return other.conf_int(alpha, cols)
        check_alpha(alpha)
        params = np.asarray(self.params)
        bse = np.asarray(self.bse)
        out = np.full((len(params), 2), np.nan)
        p, k_cov = self.k_fe, self.k_re2 + self.k_vc
        half = _t_isf(alpha / 2.0, self._df_values) * bse[:p]
        out[:p] = np.column_stack([params[:p] - half, params[:p] + half])
        z = stats.norm.isf(alpha / 2.0)
        rows, columns = np.tril_indices(self.k_re)
        is_variance = np.concatenate([rows == columns, np.ones(self.k_vc, dtype=bool)])
        for k in range(p, p + k_cov):
            if not bse[k] > 0.0:
                continue
            if is_variance[k - p]:
                factor = np.exp(z * bse[k] / params[k])
                out[k] = params[k] / factor, params[k] * factor
            else:
                out[k] = params[k] - z * bse[k], params[k] + z * bse[k]
        if self.structure.k_free:
            out[p + k_cov :] = residual_intervals(
                self.structure, self.fit.u, bse[p + k_cov :], z
            )
        return out if cols is None else out[positions(cols, self.fit.names)]

    def _contrasts(self, r_matrix: Any) -> tuple[FloatArray, FloatArray]:
        """Restrictions on the fixed effects, and their right-hand sides."""
        p = self.k_fe
        return restrictions(r_matrix, self.fit.names[:p], self.fit.names[p:])

    def t_test(
        self, r_matrix: Any, use_t: bool | None = None, df: Any = None
    ) -> ContrastResults:
        """
        Test linear combinations of the fixed effects, one by one.

        Parameters
        ----------
        r_matrix : array_like, shape (k, p), str, or tuple
            Restrictions; ``"time = 0.5"``; or ``(R, q)`` for ``R b = q``.
        use_t : bool, optional
            False for normal p-values.
        df : str, float or DFMethod, optional
            Degrees of freedom; those of the results by default.  Methods by
            column take the smallest of the coefficients involved.

        Returns
        -------
        ContrastResults
            ``sd`` and ``df_denom`` follow the method.

        Raises
        ------
        MixedARError
            If `r_matrix` cannot be read; see
            :func:`mixedar.hypotheses.restrictions.restrictions`.
        UnsupportedError
            If `r_matrix` has the wrong number of columns, or `df` is unknown.
        NotComputedError
            If a row is zero, or the method is not defined for this fit.
        """
        matrix, values = self._contrasts(r_matrix)
        spec = self.fit.df_method if df is None else resolve_df(df)
        method = contrast_method(self.fit, spec)
        effect = matrix @ self.fe_params
        sd = np.sqrt(np.einsum("ki,ij,kj->k", matrix, method.cov, matrix))
        t = (effect - values) / sd
        if use_t is False or (use_t is None and spec.name == "normal"):
            return ContrastResults(
                effect=effect, statistic=t, sd=sd, distribution="norm"
            )
        freedom = method.single(matrix)
        self._check_freedom(freedom)
        return ContrastResults(effect=effect, t=t, sd=sd, df_denom=freedom)

    def _check_freedom(self, df: FloatArray) -> None:
        if not (np.asarray(df) > 0.0).all():
            if self.fit.robust is not None and np.isnan(df).any():
                raise NotComputedError(
                    "the robust variance of a contrast is zero whatever the data: "
                    "it has no degrees of freedom"
                )
            raise NotComputedError(
                "no degrees of freedom are left in the stratum of these effects; use "
                "df='satterthwaite' or df='kenward-roger'"
            )

    def wald_test(
        self,
        r_matrix: Any,
        cov_p: ArrayLike | None = None,
        invcov: ArrayLike | None = None,
        use_f: bool | None = None,
        df_constraints: int | None = None,
        scalar: bool = True,
        df: Any = None,
    ) -> ContrastResults:
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
            Satterthwaite's are pooled as Fai and Cornelius do.

        Returns
        -------
        ContrastResults
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
        """
        matrix, values = self._contrasts(r_matrix)
        spec = self.fit.df_method if df is None else resolve_df(df)
        implied = spec.name in ("satterthwaite", "kenward-roger")
        if implied and not (cov_p is None and invcov is None):
            raise UnsupportedError(
                f"df={spec.name!r} belongs to the fit's own covariance; leave out "
                "cov_p= and invcov=, or choose df='containment'"
            )
        method = contrast_method(self.fit, spec)
        cov = method.cov
        if cov_p is not None:
            cov = _square(cov_p, self.k_fe, "cov_p", "fixed effect")
        difference = matrix @ self.fe_params - values
        reduced, distance = self._independent_rows(matrix, difference)
        rank = len(reduced)
        freedom, scaling = method.joint(matrix, rank)
        if invcov is None:
            statistic = _squared_length(distance, reduced @ cov @ reduced.T)
        else:
            inverse = _square(invcov, len(matrix), "invcov", "restriction")
            statistic = float(difference @ inverse @ difference)
        count = rank if df_constraints is None else df_constraints
        if not count > 0:
            raise UnsupportedError(f"df_constraints={count!r} is not positive")
        shape: Any = statistic
        if use_f is False or (use_f is None and spec.name == "normal"):
            return ContrastResults(
                chi2=shape if scalar else np.array([[shape]]),
                statistic=shape if scalar else np.array([[shape]]),
                df_denom=count,
                distribution="chi2",
            )
        self._check_freedom(np.array([freedom]))
        value = shape / count * scaling
        result = ContrastResults(
            F=value if scalar else np.array([[value]]), df_denom=freedom, df_num=count
        )
        if np.isinf(freedom):  # scipy's F distribution does not know infinity
            result.pvalue = stats.chi2.sf(value * count, count)
        result.scaling = scaling
        return result

    def _independent_rows(
        self, matrix: FloatArray, difference: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Restrictions without those that follow from others, and their distances."""
        middle = matrix @ self.fit.cov_beta @ matrix.T
        # rank on the scale of correlations: units of the coefficients do not matter
        lengths = np.sqrt(np.diag(middle))
        spectrum, vectors = np.linalg.eigh(middle / np.outer(lengths, lengths))
        keep = spectrum > 1e-10 * spectrum[-1]
        standardized = vectors.T @ (difference / lengths)
        if (
            np.abs(standardized[~keep]) > 1e-6 * (1 + np.abs(standardized).max())
        ).any():
            raise NotComputedError(
                "the restrictions contradict one another: some are linear combinations "
                "of others with different right-hand sides"
            )
        rows = vectors.T @ (matrix / lengths[:, None])
        return rows[keep], standardized[keep]

    def f_test(
        self,
        r_matrix: Any,
        cov_p: ArrayLike | None = None,
        invcov: ArrayLike | None = None,
        df: Any = None,
    ) -> ContrastResults:
        """
        Joint F test of linear restrictions on the fixed effects.

        Parameters
        ----------
        r_matrix, cov_p, invcov, df
            As in :meth:`wald_test`.

        Returns
        -------
        ContrastResults
        """
        return self.wald_test(r_matrix, cov_p=cov_p, invcov=invcov, use_f=True, df=df)


def _square(values: ArrayLike, order: int, name: str, what: str) -> FloatArray:
    """A covariance that a user gave, checked."""
    matrix = np.asarray(values, dtype=float)
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


def _t_sf(t: FloatArray, df: FloatArray) -> FloatArray:
    """Upper tail of Student's t; NaN without degrees of freedom."""
    finite = np.isfinite(df) & (df > 0.0)
    tail = stats.t.sf(t, np.where(finite, df, 1.0))
    return np.where(finite, tail, np.where(df > 0.0, stats.norm.sf(t), np.nan))


def _t_isf(q: float, df: FloatArray) -> FloatArray:
    """Upper quantile of Student's t; NaN without degrees of freedom."""
    finite = np.isfinite(df) & (df > 0.0)
    point = stats.t.isf(q, np.where(finite, df, 1.0))
    return np.where(finite, point, np.where(df > 0.0, stats.norm.isf(q), np.nan))
