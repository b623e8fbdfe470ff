"""
The fit: data, likelihood, estimates, and how its fixed effects are tested.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mixedar._types import BoolArray, FloatArray
from mixedar.data.encode import Encoder
from mixedar.data.formula import FormulaSpec
from mixedar.data.model_data import ModelData
from mixedar.data.streamed import encoder_of
from mixedar.data.vanishing import vanished
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.estimate import Estimate, Flat
from mixedar.engine.groups import PredictedEffects, predict_effects
from mixedar.engine.identification import unseen_correlations
from mixedar.engine.precision import PrecisionDerivatives, precision_derivatives
from mixedar.engine.problem import LikelihoodProblem
from mixedar.engine.residuals import relative_sd, whiten_series
from mixedar.engine.search import Optimum
from mixedar.engine.terms import (
    Eliminated,
    TermEffects,
    TermPosterior,
    eliminated_terms,
)
from mixedar.exceptions import NotComputedError, UnsupportedError, check_choice
from mixedar.fit.population import Population
from mixedar.fit.related import Related
from mixedar.hypotheses.df import CONTAINMENT, ContrastMethod, DFMethod, RobustMethod
from mixedar.relations.base import LevelCovariance
from mixedar.residual import ResidualStructure
from mixedar.residual.base import Parametric
from mixedar.summary import NamedInALine, in_a_line

if TYPE_CHECKING:
    from typing_extensions import Self

# Arrays of the data's length: made again when asked for, never pickled.
ROW_CACHES = (
    "effects",
    "eliminated_terms",
    "fitted_fixed",
    "fitted_marginal",
    "fitted_terms",
    "fittedvalues",
    "resid",
    "term_effects",
    "term_posterior",
)


@dataclass(frozen=True, eq=False)
class Fit(NamedInALine):
    """
    A fitted model.

    What is asked of a fit (tests, intervals, predictions, diagnostics) is
    computed from this.  It never changes; ``with_tests`` and
    ``without_data`` return another one.

    Attributes
    ----------
    nobs, n_groups, k_fe, k_re, k_vc : int
        Observations, groups, fixed effects, correlated random effects and
        variance components.
    smallest_group, largest_group : int
        Their numbers of rows.
    names : tuple of str
        Of all parameters but the residual variance, in the order of ``params``.
    factor_levels : tuple of (str, int)
        Factors of the further random-effects terms, and how many levels they have.
    effect_labels : tuple of (str, str)
        Factor and name of every random effect.
    crosses_factors : bool
        Whether groups and the levels of another factor cross.
    effect_names : tuple of str
        Of the random effects and the variance components.
    endog_name, time_unit : str
    notes : tuple of str
        On what may have been meant otherwise.
    scale_known : bool
        Whether the residual variance was given, not estimated.
    formula_spec : FormulaSpec or None
        Of the fixed effects.
    modes : tuple of Optimum
        All maxima that were found, the best first.
    structure : ResidualStructure
        Of the residuals; bound to the data.
    layout : RandomCovariance
        Which entries of the random-effects factor were estimated.
    reml : bool
    factor : ndarray, shape (q, q)
        ``Lambda`` relative to sigma, in internal coordinates.
    z_map : ndarray, shape (q, q)
        From internal coordinates of the random effects to the user's.
    parameters : Parametric
        Those of the residual structure, then of what relates the levels of factors.
    between : tuple of LevelCovariance or None
        How the levels of each further term are related, or its copies.
    settled : bool
        Whether the fitted values that a variance function reads stayed.
    unseen : mapping of int to tuple of str
        Random effects that the restricted likelihood does not depend on, and the
        fixed effects that span their columns.
    flat : Flat
        Directions in which the restricted likelihood is constant.
    df_method : DFMethod
        Degrees of freedom of tests of fixed effects.
    robust : RobustMethod or None
        A cluster-robust covariance of the fixed effects, if the fit has one.
    """

    nobs: int
    n_groups: int
    k_fe: int
    k_re: int
    k_vc: int
    smallest_group: int
    largest_group: int
    names: tuple[str, ...]
    effect_names: tuple[str, ...]
    factor_levels: tuple[tuple[str, int], ...]
    crosses_factors: bool
    effect_labels: tuple[tuple[str, str], ...]
    endog_name: str
    time_unit: str
    notes: tuple[str, ...]
    scale_known: bool
    formula_spec: FormulaSpec | None
    modes: tuple[Optimum, ...]
    structure: ResidualStructure
    layout: RandomCovariance
    reml: bool
    factor: FloatArray
    z_map: FloatArray
    parameters: Parametric
    between: tuple[LevelCovariance | None, ...]
    held_data: ModelData | None
    held_problem: LikelihoodProblem | None
    settled: bool = True
    unseen: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    flat: Flat = field(default_factory=Flat)
    df_method: DFMethod = CONTAINMENT
    robust: RobustMethod | None = None

    def __repr__(self) -> str:
        return in_a_line(self, None, self.endog_name, *self.facts)

    @property
    def facts(self) -> tuple[str, ...]:
        """What it is a fit of and how high it is, as one line says it."""
        return (
            f"{self.nobs} rows, {self.n_groups} groups",
            f"{self.structure.label} residuals",
            f"{self.method}, log-likelihood {self.llf:.2f}",
            *([] if self.converged else ["not converged"]),
        )

    @property
    def data(self) -> ModelData:
        """
        The rows and designs.

        Raises
        ------
        NotComputedError
            If they were removed.
        """
        if self.held_data is None:
            raise NotComputedError(
                "the data were removed from this fit, and this needs them: fit again "
                "and keep the data, or compute it before remove_data()"
            )
        return self.held_data

    @property
    def problem(self) -> LikelihoodProblem:
        """The likelihood as a function of the covariance parameters."""
        self.data  # noqa: B018  raises if they were removed
        assert self.held_problem is not None
        return self.held_problem

    @property
    def has_data(self) -> bool:
        """Whether the fit has its rows, neither removed nor read from a source."""
        return self.held_data is not None and self.held_data.has_rows

    def without_data(self) -> Self:
        """The same fit without anything of the data's length."""
        # tests and predictions go on
        self.df_containment, self.encoder, self.unbounded  # noqa: B018
        self.population  # noqa: B018
        self.unseen_correlations  # noqa: B018
        kept = {k: v for k, v in self.__dict__.items() if k not in ROW_CACHES}
        other = copy.copy(self)
        other.__dict__.clear()
        other.__dict__.update(kept, held_data=None, held_problem=None)
        return other

    def check_scale_estimated(self, what: str) -> None:
        """
        Raise if the residual variance was given.

        Raises
        ------
        UnsupportedError
        """
        if self.scale_known:
            raise UnsupportedError(
                f"{what}: not available with a known residual variance (scale=)"
            )

    def check_maximum(self, what: str) -> None:
        """
        Raise if the likelihood has no maximum.

        Raises
        ------
        NotComputedError
        """
        if self.unbounded:
            raise NotComputedError(
                f"{what} needs a maximum of the likelihood, and there is none: "
                f"residual variation vanishes, {self.unbounded}; leave such rows out, "
                "or take a simpler residual structure"
            )

    @cached_property
    def encoder(self) -> Encoder:
        """Brings new rows on the scale of the fit."""
        return encoder_of(self.data)

    @cached_property
    def df_containment(self) -> FloatArray:
        """Containment degrees of freedom of the fixed effects, shape (p,)."""
        return self.data.df_containment

    def with_tests(self, df_method: DFMethod, robust: RobustMethod | None) -> Self:
        """The same fit, and what was computed of it, with other tests."""
        other = copy.copy(self)
        object.__setattr__(other, "df_method", df_method)
        object.__setattr__(other, "robust", robust)
        if robust is not self.robust:
            other.__dict__.pop("contrast_methods", None)
        return other

    @cached_property
    def contrast_methods(self) -> dict[DFMethod, ContrastMethod]:
        """Methods of degrees of freedom that were computed for this fit."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ROW_CACHES}

    @property
    def estimate(self) -> Estimate:
        """Estimates at the best maximum."""
        return self.modes[0].estimate

    @property
    def k_re2(self) -> int:
        """Number of variances and covariances of the correlated random effects."""
        return len(self.layout.tril[0])

    @property
    def k_estimated(self) -> int:
        """Number of parameters, a residual variance that is not known included."""
        free = int(self.layout.is_free.sum())
        free += self.parameters.k_free - int(self.unseen_correlations.sum())
        return self.k_fe + free + (not self.scale_known) - self.flat.dimension

    @cached_property
    def unseen_correlations(self) -> BoolArray:
        """Residual parameters that no group tells of, shape (k_params,)."""
        return unseen_correlations(self.data.compressed, self.structure)

    @property
    def exog_names(self) -> tuple[str, ...]:
        """Names of the fixed effects."""
        return self.names[: self.k_fe]

    @property
    def params(self) -> FloatArray:
        """All parameters but the residual variance, shape (k,)."""
        best = self.estimate
        return np.concatenate([best.beta, best.cov_values, best.residual_params])

    @property
    def theta(self) -> FloatArray:
        """The optimiser's coordinates of the estimates."""
        return self.estimate.theta

    @property
    def llf(self) -> float:
        """(Restricted) log-likelihood."""
        return float(self.estimate.llf)

    @property
    def method(self) -> str:
        """``"REML"`` or ``"ML"``."""
        return "REML" if self.reml else "ML"

    @property
    def aic(self) -> float:
        """Akaike's criterion, counting fixed effects and all free variances."""
        return 2.0 * (self.k_estimated - self.llf)

    @property
    def bic(self) -> float:
        """Bayesian criterion with N - p observations under REML, as nlme."""
        n = self.nobs - self.k_fe if self.reml else self.nobs
        return float(np.log(n)) * self.k_estimated - 2.0 * self.llf

    @property
    def scale(self) -> float:
        """Residual variance."""
        return self.estimate.scale

    @property
    def bse_scale(self) -> float:
        """Standard error of the residual variance."""
        return float(np.sqrt(self.estimate.cov_theta[-1, -1]))

    @property
    def fe_params(self) -> FloatArray:
        """Fixed effects, shape (p,)."""
        return self.estimate.beta

    @property
    def cov_beta(self) -> FloatArray:
        """Covariance of the fixed effects under the model, shape (p, p)."""
        return self.estimate.cov_beta

    @property
    def cov_re_unscaled(self) -> FloatArray:
        """Covariance of the random effects by the residual variance."""
        return self.estimate.psi[: self.k_re, : self.k_re]

    @property
    def cov_re(self) -> FloatArray:
        """Covariance of the correlated random effects, shape (k_re, k_re)."""
        return self.scale * self.cov_re_unscaled

    @property
    def effect_cov(self) -> FloatArray:
        """Covariance of all random effects by name, factors side by side."""
        return self.layout.matrix(self.estimate.cov_values)

    @property
    def term_covs(self) -> tuple[FloatArray, ...]:
        """Covariance of the effects of one level of each further term."""
        places = [place.effects for place in self.layout.term_places]
        return tuple(
            term.whole(self.effect_cov[here, here], self.related.copies[t])
            for t, (term, here) in enumerate(
                zip(self.layout.terms, places, strict=True)
            )
        )

    @cached_property
    def related(self) -> Related:
        """How the levels of the further terms are related."""
        u = self.unconstrained[self.structure.k_free :]
        return Related(self.between, self.layout.terms, u)

    @property
    def vcomp(self) -> FloatArray:
        """Variance components, shape (k_vc,)."""
        return self.estimate.cov_values[self.k_re2 : self.k_re2 + self.k_vc]

    @property
    def residual_params(self) -> FloatArray:
        """Residual parameters, shape (k_params,)."""
        return self.estimate.residual_params[: self.structure.k_params]

    @property
    def unconstrained(self) -> FloatArray:
        """All parameters beside the random effects' covariances, as searched."""
        return self.theta[int(self.layout.is_free.sum()) :]

    @property
    def u(self) -> FloatArray:
        """Unconstrained residual parameters, shape (k_free,)."""
        return self.unconstrained[: self.structure.k_free]

    @property
    def residual_names(self) -> tuple[str, ...]:
        """Names of the structure's parameters as results have them, (k_params,)."""
        first = len(self.names) - len(self.estimate.residual_params)
        return self.names[first : first + self.structure.k_params]

    @property
    def singular(self) -> bool:
        """Whether the random-effects covariance is singular."""
        return self.estimate.singular

    @property
    def at_end(self) -> BoolArray:
        """Which residual parameters are at an end of their range, shape (k_params,)."""
        return self.estimate.at_end[: self.structure.k_params]

    @property
    def params_known(self) -> BoolArray:
        """
        Residual and other parameters that are known to the rest, shape (k,).

        At an end of their range, or such that no group tells of them.
        """
        out = self.estimate.at_end.copy()
        out[: self.structure.k_params] |= self.unseen_correlations
        return out

    @cached_property
    def unbounded(self) -> str:
        """Residual variation without which the likelihood has no maximum, or empty."""
        if self.modes[0].search.converged and not self.estimate.residual_at_boundary:
            return ""
        return vanished(self.data.first_groups, self.estimate, self.u)

    @property
    def converged(self) -> bool:
        """Whether the search ended at a maximum."""
        found = self.settled and self.modes[0].search.converged
        return found and not self.unbounded

    @cached_property
    def is_held(self) -> BoolArray:
        """Which parameters are held, not estimated; shape (k,)."""
        held = np.zeros(len(self.names), dtype=bool)
        first = self.k_fe + self.layout.k_cov
        seen = ~np.isin(self.layout.effects, list(self.unseen)).any(axis=0)
        held[self.k_fe : first] = seen & ~self.layout.is_free
        held[first:] = ~self.parameters.is_free
        return held

    @cached_property
    def fitted_fixed(self) -> FloatArray:
        """``X beta``, and the offset if there is one, shape (n,)."""
        return self.data.mean(self.fe_params)

    @cached_property
    def fitted_marginal(self) -> FloatArray:
        """Mean of the population, smooths included, shape (n,)."""
        if not self.data.has_shared_smooths:
            return self.fitted_fixed
        return self.fitted_fixed + self.data.smooth_design @ self.population.smooths

    @cached_property
    def population(self) -> Population:
        """Coefficients that all rows share: fixed effects, and those of smooths."""
        data = self.data
        if not data.has_shared_smooths:
            return Population.without_smooths(self.fe_params)
        found = self.term_effects, self.term_posterior
        return Population.of(data.terms, self.fe_params, *found, self.scale)

    @cached_property
    def eliminated_terms(self) -> Eliminated:
        """The further random-effects terms, eliminated at the estimates."""
        return eliminated_terms(self.problem.blocks, self.problem.point(self.theta))

    @cached_property
    def term_effects(self) -> list[TermEffects]:
        """Effects of the further random-effects terms given the data."""
        return self.problem.term_effects(self.eliminated_terms, self.fe_params)

    @cached_property
    def term_posterior(self) -> TermPosterior:
        """Their joint distribution given the data."""
        return TermPosterior(self.eliminated_terms, self.problem.level_maps)

    @cached_property
    def fitted_terms(self) -> FloatArray:
        """``X beta`` and the predicted effects of the further terms, shape (n,)."""
        out = self.fitted_fixed.copy()
        for term, found in zip(self.data.terms, self.term_effects, strict=True):
            out += (term.design * found.means[term.codes]).sum(axis=1)
        return out

    @cached_property
    def effects(self) -> PredictedEffects:
        """
        Random effects of all groups given the data.

        Where there are further terms, given their effects too.
        """
        data = self.data
        return predict_effects(
            data.grouped.sort(data.random_design),
            data.grouped.sort(data.endog - self.fitted_terms),
            data.grouped,
            self.structure,
            self.u,
            self.z_map,
            self.factor,
        )

    @cached_property
    def fittedvalues(self) -> FloatArray:
        """``X beta + Z b`` with the predicted random effects, shape (n,)."""
        data = self.data
        effects = self.effects.means[data.codes]
        return self.fitted_terms + np.einsum("ij,ij->i", data.random_design, effects)

    @cached_property
    def resid(self) -> FloatArray:
        """Raw residuals around the fitted values, shape (n,)."""
        return self.data.endog - self.fittedvalues

    @property
    def residual_sd(self) -> FloatArray | float:
        """Standard deviations of the residuals, shape (n,) or one for all."""
        sigma, grouped = float(np.sqrt(self.scale)), self.data.grouped
        sd = relative_sd(self.structure, grouped.marks, self.residual_params)
        return sigma * (float(sd[0]) if len(sd) == 1 else grouped.unsort(sd))

    def residuals(self, kind: str = "raw") -> FloatArray:
        """
        Within-group residuals, shape (n,).

        Parameters
        ----------
        kind : {"raw", "pearson", "normalized"}
            Raw; divided by their standard deviations; or whitened.

        Returns
        -------
        ndarray
        """
        if kind == "raw":
            return self.resid
        if kind == "pearson":
            return self.resid / self.residual_sd
        check_choice("kind", kind, ("raw", "pearson", "normalized"))
        grouped = self.data.grouped
        # whitening divides by the rows' relative standard deviations too
        values = grouped.sort(self.resid / np.sqrt(self.scale))
        return grouped.unsort(whiten_series(values, grouped, self.structure, self.u))

    @cached_property
    def precision_derivatives(self) -> PrecisionDerivatives:
        """
        Derivatives of the fixed effects' precision by the covariance parameters.

        Raises
        ------
        NotComputedError
            If the data were removed, or the precision is singular.
        """
        try:
            return precision_derivatives(
                self.data.compressed,
                self.nobs,
                self.structure,
                replace(self.layout, fixed=np.where(self.layout.is_free, np.nan, 0.0)),
                self.factor,
                self.unconstrained,
                reml=self.reml,
                held=self.params_known,
                term_factors=self.problem.term_factors(self.theta),
                scale=self.problem.scale,
            )
        except np.linalg.LinAlgError as error:
            raise NotComputedError(
                "the precision of the fixed effects is singular to rounding at this "
                f"estimate ({error}); use df='containment'"
            ) from error
