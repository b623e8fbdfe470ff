"""
Wald tests and intervals with the degrees of freedom of each coefficient.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from statsmodels.formula._manager import FormulaManager
from statsmodels.regression.mixed_linear_model import MixedLMResults
from statsmodels.stats.contrast import ContrastResults

from mixedar.exceptions import MixedARError, NotComputedError, UnsupportedError

__all__ = ["WaldInference"]

FloatArray = NDArray[np.float64]


class WaldInference(MixedLMResults):
    """t and F tests of fixed effects with containment degrees of freedom."""

    _df_fe: FloatArray
    _names: list[str]

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

    def conf_int(self, alpha: float = 0.05, cols: Any = None) -> FloatArray:
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

        Returns
        -------
        ndarray, shape (k, 2)
            NaN where no standard error exists.
        """
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
        if matrix.shape[1] != p:
            raise UnsupportedError(
                f"r_matrix for t-test should have {p:d} columns, one for each fixed "
                f"effect; it has {matrix.shape[1]}"
            )
        return matrix, values

    def _contrast_df(self, matrix: FloatArray) -> FloatArray:
        """Smallest degrees of freedom among the coefficients of each row."""
        used = np.abs(matrix) > 0.0
        return np.where(used, self._df_fe, np.inf).min(axis=1)

    def t_test(self, r_matrix: Any, use_t: bool | None = None) -> ContrastResults:
        """
        Test linear combinations of the fixed effects, one by one.

        Parameters
        ----------
        r_matrix : array_like, shape (k, p), str, or tuple
            Restrictions; ``"time = 0.5"``; or ``(R, q)`` for ``R b = q``.
        use_t : bool, optional
            False for normal p-values; by default Student's t with the smallest
            degrees of freedom of the coefficients involved.

        Returns
        -------
        ContrastResults

        Raises
        ------
        UnsupportedError
            If `r_matrix` has the wrong number of columns.
        """
        matrix, values = self._contrasts(r_matrix)
        p = self.k_fe
        effect = matrix @ self.fe_params
        cov = self.cov_params()[:p, :p]
        sd = np.sqrt(np.einsum("ki,ij,kj->k", matrix, cov, matrix))
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (effect - values) / sd
        if use_t is False:
            return ContrastResults(
                effect=effect, statistic=t, sd=sd, distribution="norm"
            )
        df = self._contrast_df(matrix)
        return ContrastResults(effect=effect, t=t, sd=sd, df_denom=df)

    def wald_test(
        self,
        r_matrix: Any,
        cov_p: ArrayLike | None = None,
        invcov: ArrayLike | None = None,
        use_f: bool | None = None,
        df_constraints: int | None = None,
        scalar: bool = True,
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
            F with containment degrees of freedom (default), or chi-square.
        df_constraints : int, optional
            Number of restrictions; the rank of `r_matrix` by default.
        scalar : bool
            Statistic as a number, not an array.

        Returns
        -------
        ContrastResults

        Raises
        ------
        NotComputedError
            If the restrictions have no variance, or are inconsistent.
        """
        matrix, values = self._contrasts(r_matrix)
        p = self.k_fe
        cov = self.cov_params()[:p, :p] if cov_p is None else np.asarray(cov_p)
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
        if use_f is False:
            return ContrastResults(
                chi2=shape if scalar else np.array([[shape]]),
                statistic=shape if scalar else np.array([[shape]]),
                df_denom=count,
                distribution="chi2",
            )
        value = shape / count
        return ContrastResults(
            F=value if scalar else np.array([[value]]),
            df_denom=float(self._contrast_df(matrix).min()),
            df_num=count,
        )

    def f_test(
        self,
        r_matrix: Any,
        cov_p: ArrayLike | None = None,
        invcov: ArrayLike | None = None,
    ) -> ContrastResults:
        """
        Joint F test of linear restrictions on the fixed effects.

        Parameters
        ----------
        r_matrix, cov_p, invcov
            As in :meth:`wald_test`.

        Returns
        -------
        ContrastResults
            Denominator degrees of freedom are the smallest of the coefficients
            involved.
        """
        return self.wald_test(r_matrix, cov_p=cov_p, invcov=invcov, use_f=True)


def _t_sf(t: FloatArray, df: FloatArray) -> FloatArray:
    """Upper tail of Student's t; NaN without degrees of freedom."""
    return np.where(df > 0.0, stats.t.sf(t, np.where(df > 0.0, df, 1.0)), np.nan)


def _t_isf(q: float, df: FloatArray) -> FloatArray:
    """Upper quantile of Student's t; NaN without degrees of freedom."""
    return np.where(df > 0.0, stats.t.isf(q, np.where(df > 0.0, df, 1.0)), np.nan)
