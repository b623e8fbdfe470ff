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
            Kenward-Roger with (default) or without the term of second order.
        information : {"observed", "expected"}, optional
            Information of the covariance parameters: observed by default for
            Satterthwaite (as lmerTest), expected for Kenward-Roger (as
            pbkrtest).

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
