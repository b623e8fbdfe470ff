"""
Which degrees of freedom the tests of a fit use.
"""

from __future__ import annotations

import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from statsmodels.regression.mixed_linear_model import MixedLMResults

from mixedar.inference.contrasts import ContrastMethod
from mixedar.inference.derivatives import PrecisionDerivatives
from mixedar.inference.df import (
    METHODS,
    DFMethod,
    contrast_method,
    derivatives_of,
    resolve_df,
)

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["DegreesOfFreedom"]

FloatArray = NDArray[np.float64]


class DegreesOfFreedom(MixedLMResults):
    """The method of degrees of freedom of a fit, and how to choose another."""

    _wrapper: ClassVar[Any]
    _df_fe: FloatArray
    _df_spec: DFMethod = DFMethod("containment")
    _names: list[str]
    # a cluster-robust covariance of the fixed effects, if the fit has one
    _sandwich: Any = None
    cov_type: str = "nonrobust"

    @property
    def df_method(self) -> str:
        """The method of degrees of freedom, ``"containment"`` by default."""
        return self._df_spec.name

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
        return self._wrapper(self._copy_with_df(method))

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
        mixedar.inference.sandwich : the estimators, and references.
        """
        name = "satterthwaite" if use_t is None or use_t else "normal"
        if cov_type == "nonrobust":
            return self._wrapper(self._copy_with_sandwich(None, self._df_spec))
        from mixedar.inference.sandwich import sandwich

        found = sandwich(self, cov_type)
        return self._wrapper(self._copy_with_sandwich(found, resolve_df(name)))

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

    @cached_property
    def _unadjusted(self) -> tuple[FloatArray, FloatArray]:
        """Model covariance of the fixed effects, and containment DF."""
        p = self.k_fe
        return np.asarray(self.cov_params())[:p, :p], self._df_fe

    @cached_property
    def _precision_derivatives(self) -> PrecisionDerivatives:
        return derivatives_of(self)

    @cached_property
    def _contrast_methods(self) -> dict[DFMethod, ContrastMethod]:
        return {}

    def _contrast_method(self, df: Any) -> ContrastMethod:
        """The method that a ``df=`` argument names; computed once."""
        method = self._df_spec if df is None else resolve_df(df)
        known = self._contrast_methods
        if method not in known:
            known[method] = contrast_method(self, method)
        return known[method]

    def _copy_with_df(self, method: DFMethod) -> Self:
        """A copy whose errors, t values and tests follow a method."""
        found = self._contrast_method(method)
        out = copy.copy(self)  # shares what was computed so far
        out._cache = {}
        out._df_spec = method
        p = self.k_fe
        out._df_fe = found.single(np.eye(p))
        cov = np.array(self.normalized_cov_params)
        cov[:p, :p] = found.cov / self.scale
        out.normalized_cov_params = cov
        out.use_t = method.name != "normal"
        return out

    def _copy_with_sandwich(self, sandwich: Any, method: DFMethod) -> Self:
        """A copy whose fixed effects have a robust covariance, or the model's."""
        self._unadjusted  # noqa: B018  the copy keeps the model's own
        out = copy.copy(self)
        out._sandwich = sandwich
        out.cov_type = "nonrobust" if sandwich is None else sandwich.cov_type
        out.__dict__.pop("_contrast_methods", None)
        return out._copy_with_df(method)

    def _df_notes(self) -> list[str]:
        """What a reader of the tests has to know about their DF."""
        notes = []
        method = self._df_spec
        if method.name == "given":
            notes.append(f"t tests of the fixed effects use {method.value:g} DF.")
        elif method.name == "normal":
            notes.append("Tests of the fixed effects use the normal distribution.")
        else:
            notes.append(
                "t tests of the fixed effects use "
                f"{METHODS[method.name]} degrees of freedom."
            )
        if self._sandwich is not None:
            notes.append(
                f"Standard errors of the fixed effects are robust ({self.cov_type}, "
                f"clusters are the {self._sandwich.n_clusters} groups)."
            )
        if method.name == "kenward-roger":
            term = "with" if method.kr == "full" else "without"
            notes.append(
                "Standard errors hold the Kenward-Roger correction, "
                f"{term} its second-order term."
            )
        notes.extend(self._contrast_method(None).notes)
        spent = [n for n, df in zip(self._names, self._df_fe, strict=False) if df <= 0]
        if spent:
            notes.append(
                f"No degrees of freedom are left for {', '.join(spent)}: there is no "
                "test of this kind."
            )
        return notes
