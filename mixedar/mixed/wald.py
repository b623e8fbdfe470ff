"""
Wald tests and intervals with a choice of degrees of freedom.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from statsmodels.formula._manager import FormulaManager
from statsmodels.stats.contrast import ContrastResults

from mixedar.exceptions import MixedARError, NotComputedError, UnsupportedError
from mixedar.inference.df import resolve_df
from mixedar.mixed.freedom import DegreesOfFreedom

__all__ = ["WaldInference"]

FloatArray = NDArray[np.float64]


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
        out[:p] = 2.0 * _t_sf(np.abs(self.tvalues[:p]), self._df_fe)
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
        cols : array_like of int, optional
            Which parameters; all by default.
        df : str, float or DFMethod, optional
            Degrees of freedom of the fixed effects; those of the results by
            default.

        Returns
        -------
        ndarray, shape (k, 2)
            NaN where no standard error exists.
        """
        if df is not None:
            other = self._copy_with_df(resolve_df(df))
            return other.conf_int(alpha, cols)
        check_alpha(alpha)
        params = np.asarray(self.params)
        bse = np.asarray(self.bse)
        out = np.full((len(params), 2), np.nan)
        p, k_cov = self.k_fe, self.k_re2 + self.k_vc
        half = _t_isf(alpha / 2.0, self._df_fe) * bse[:p]
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
        if self.structure.k_free and np.isfinite(bse[p + k_cov :]).all():
            u = self._u
            slope = np.diag(self.structure.jacobian(u))
            if (slope > 0.0).all():
                width = z * bse[p + k_cov :] / slope
                out[p + k_cov :, 0] = self.structure.from_unconstrained(u - width)
                out[p + k_cov :, 1] = self.structure.from_unconstrained(u + width)
        return out if cols is None else out[np.asarray(cols)]

    def _contrasts(self, r_matrix: Any) -> tuple[FloatArray, FloatArray]:
        """Restrictions on the fixed effects, and their right-hand sides."""
        p = self.k_fe
        names = self._names[:p]
        if isinstance(r_matrix, (str, dict)) or (
            isinstance(r_matrix, (list, tuple))
            and len(r_matrix)
            and all(isinstance(item, str) for item in r_matrix)
        ):
            try:
                lc = FormulaManager().get_linear_constraints(r_matrix, names)
            except Exception as error:
                raise MixedARError(
                    f"the hypothesis {r_matrix!r} cannot be read ({error}); the fixed "
                    f"effects are {', '.join(names)}"
                ) from error
            matrix = np.atleast_2d(np.asarray(lc.constraint_matrix, dtype=float))
            values = np.atleast_1d(np.squeeze(np.asarray(lc.constraint_values, float)))
        elif isinstance(r_matrix, tuple):
            matrix = np.atleast_2d(np.asarray(r_matrix[0], dtype=float))
            values = np.broadcast_to(np.asarray(r_matrix[1], float), (len(matrix),))
        else:
            matrix = np.atleast_2d(np.asarray(r_matrix, dtype=float))
            values = np.zeros(len(matrix))
        # statsmodels' own helpers pass a column for every parameter
        if matrix.shape[1] == len(self._names) and not matrix[:, p:].any():
            matrix = matrix[:, :p]
        if matrix.shape[1] != p:
            raise UnsupportedError(
                f"r_matrix for t-test should have {p:d} columns, one for each fixed "
                f"effect; it has {matrix.shape[1]}"
            )
        return matrix, values

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
        UnsupportedError
            If `r_matrix` has the wrong number of columns, or `df` is unknown.
        NotComputedError
            If a row is zero, or the method is not defined for this fit.
        """
        matrix, values = self._contrasts(r_matrix)
        if not (np.abs(matrix).max(axis=1, initial=0.0) > 0.0).all():
            raise NotComputedError(
                "a contrast involves no fixed effect: its row is zero"
            )
        spec = self._df_spec if df is None else resolve_df(df)
        method = self._contrast_method(spec)
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
            If the restrictions have no variance, or are inconsistent, or the
            method of degrees of freedom is not defined for this fit.
        UnsupportedError
            If `cov_p` or `invcov` comes with a method that implies a covariance.
        """
        matrix, values = self._contrasts(r_matrix)
        spec = self._df_spec if df is None else resolve_df(df)
        implied = spec.name in ("satterthwaite", "kenward-roger")
        if implied and not (cov_p is None and invcov is None):
            raise UnsupportedError(
                f"df={spec.name!r} belongs to the model's own covariance; leave out "
                "cov_p= and invcov=, or choose df='containment'"
            )
        method = self._contrast_method(spec)
        cov = method.cov if cov_p is None else np.asarray(cov_p)
        difference = matrix @ self.fe_params - values
        middle = matrix @ cov @ matrix.T
        lengths = np.sqrt(np.diag(middle))
        if not (lengths > 0.0).all():
            raise NotComputedError(
                "a restriction involves no fixed effect: its row is zero"
            )
        # rank on the scale of correlations: units of the coefficients do not matter
        scaled = middle / np.outer(lengths, lengths)
        spectrum, vectors = np.linalg.eigh(scaled)
        keep = spectrum > 1e-10 * spectrum[-1]
        rank = int(keep.sum())
        standardized = vectors.T @ (difference / lengths)
        if (
            np.abs(standardized[~keep]) > 1e-6 * (1 + np.abs(standardized).max())
        ).any():
            raise NotComputedError(
                "the restrictions contradict one another: some are linear combinations "
                "of others with different right-hand sides"
            )
        if invcov is None:
            statistic = float((standardized[keep] ** 2 / spectrum[keep]).sum())
        else:
            statistic = float(difference @ np.asarray(invcov) @ difference)
        count = rank if df_constraints is None else df_constraints
        shape: Any = statistic
        if use_f is False or (use_f is None and spec.name == "normal"):
            return ContrastResults(
                chi2=shape if scalar else np.array([[shape]]),
                statistic=shape if scalar else np.array([[shape]]),
                df_denom=count,
                distribution="chi2",
            )
        freedom, scaling = method.joint(matrix, rank)
        self._check_freedom(np.array([freedom]))
        value = shape / count * scaling
        result = ContrastResults(
            F=value if scalar else np.array([[value]]), df_denom=freedom, df_num=count
        )
        if np.isinf(freedom):  # scipy's F distribution does not know infinity
            result.pvalue = stats.chi2.sf(value * count, count)
        result.scaling = scaling
        return result

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


def check_alpha(alpha: float) -> None:
    """
    Raise unless `alpha` is a probability that leaves an interval.

    Parameters
    ----------
    alpha : float

    Raises
    ------
    UnsupportedError
    """
    if not 0.0 < alpha < 1.0:
        raise UnsupportedError(
            f"alpha={alpha!r} is not between 0 and 1; 0.05 gives 95% intervals"
        )


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
