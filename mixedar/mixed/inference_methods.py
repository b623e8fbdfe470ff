"""
What can be asked of a fit beyond its tables: intervals, tests, robust errors.

Every method imports its module when it is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from statsmodels.regression.mixed_linear_model import MixedLMResults

__all__ = ["InferenceMethods"]


class InferenceMethods(MixedLMResults):
    """Methods of :mod:`mixedar.inference` on the results of a mixed model."""

    def conf_int_re(
        self,
        method: str = "profile",
        alpha: float = 0.05,
        parameters: str | Iterable[str] | None = None,
        *,
        n_boot: int = 1000,
        seed: Any = None,
        progress: bool = False,
    ) -> pd.DataFrame:
        """
        Intervals for variances, correlations, residual parameters and sigma.

        See :func:`mixedar.inference.intervals.conf_int_re`.
        """
        from mixedar.inference.intervals import conf_int_re

        return conf_int_re(
            self,
            method,
            alpha,
            parameters,
            n_boot=n_boot,
            seed=seed,
            progress=progress,
        )

    def profile(self, parameter: str) -> Any:
        """
        Profile likelihood of a covariance parameter.

        See :func:`mixedar.inference.profile.profile_likelihood`.
        """
        from mixedar.inference.profile import profile_likelihood

        return profile_likelihood(self, parameter)

    def information(self, kind: str = "observed") -> pd.DataFrame:
        """
        Observed or expected information of the covariance parameters.

        See :func:`mixedar.inference.information.information_matrix`.
        """
        from mixedar.inference.information import information_matrix

        return information_matrix(self, kind)

    def covariance_parameters(self, kind: str = "observed") -> pd.DataFrame:
        """
        Variances, standard deviations and correlations with standard errors.

        See :func:`mixedar.inference.information.covariance_parameters`.
        """
        from mixedar.inference.information import covariance_parameters

        return covariance_parameters(self, kind)

    def bootstrap(
        self, n_boot: int = 1000, *, seed: Any = None, progress: bool = False
    ) -> Any:
        """
        Parametric bootstrap.

        See :func:`mixedar.inference.bootstrap.bootstrap`.
        """
        from mixedar.inference.bootstrap import bootstrap

        return bootstrap(self, n_boot, seed=seed, progress=progress)

    def anova(self, *others: Any, **options: Any) -> pd.DataFrame:
        """
        Tests of the terms, or likelihood-ratio tests against other fits.

        See :func:`mixedar.inference.anova.anova`.
        """
        from mixedar.inference.anova import anova

        return anova(self, *others, **options)

    def wald_test_terms(
        self,
        skip_single: bool = False,
        extra_constraints: Any = None,
        combine_terms: Sequence[str] | None = None,
        scalar: Any = None,
        df: Any = None,
    ) -> Any:
        """
        Joint Wald tests of the columns of each term.

        See :func:`mixedar.inference.terms.wald_test_terms`.
        """
        from mixedar.inference.terms import wald_test_terms

        return wald_test_terms(
            self, skip_single, extra_constraints, combine_terms, scalar, df
        )

    def robust(self, cov_type: str = "CR2") -> Any:
        """
        The fit with cluster-robust standard errors.

        See :func:`mixedar.inference.robust.robust`.
        """
        from mixedar.inference.robust import robust

        return robust(self, cov_type)

    def information_criteria(self, ic: str = "nlme") -> pd.Series:
        """
        AIC, BIC and others by the convention of a program.

        See :func:`mixedar.inference.criteria.information_criteria`.
        """
        from mixedar.inference.criteria import information_criteria

        return information_criteria(self, ic)

    def marginal_means(
        self,
        variables: str | Sequence[str],
        *,
        at: Mapping[str, Any] | None = None,
        by: str | Sequence[str] | None = None,
        df: Any = None,
        cov_type: str | None = None,
        weights: str = "equal",
    ) -> Any:
        """
        Estimated marginal means.

        See :func:`mixedar.inference.marginal_means.marginal_means`.
        """
        from mixedar.inference.marginal_means import marginal_means

        return marginal_means(
            self, variables, at=at, by=by, df=df, cov_type=cov_type, weights=weights
        )
