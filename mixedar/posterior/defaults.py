"""
Which priors the parameters of a fit have: defaults, and those that a user gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import compress

import numpy as np

from mixedar._types import FloatArray
from mixedar.exceptions import UnknownColumnError, UnsupportedError
from mixedar.fit import Fit
from mixedar.posterior.blocks import EffectBlock, effect_blocks
from mixedar.posterior.priors import (
    LKJ,
    Beta,
    HalfT,
    LogNormal,
    Normal,
    Prior,
    Uniform,
)
from mixedar.residual.base import Parametric


class PriorsByName:
    """
    Names of the covariance parameters of a fit, and priors.

    Parameters
    ----------
    fit : Fit
    priors : mapping of str to Prior or LKJ
        By name of the parameter; the others have defaults.

    Raises
    ------
    UnknownColumnError
        If a prior is given for a parameter that there is not.
    UnsupportedError
        If a prior is improper, or does not suit its parameter.
    """

    def __init__(self, fit: Fit, priors: Mapping[str, object]) -> None:
        self.fit = fit
        self.blocks = effect_blocks(fit)
        self.parameters: Parametric = fit.parameters
        tail = fit.names[fit.k_fe + fit.layout.k_cov :]
        free = self.parameters.is_free
        self.free_names = [n for n, on in zip(tail, free, strict=True) if on]
        self.free_links = list(compress(self.parameters.links, free))
        names = list(fit.effect_names)
        self.names: list[str] = []
        self.corr_of: list[list[str]] = []
        #: those that are entries of the factor by themselves: whether they are positive
        self.loadings: dict[str, bool] = {}
        for block in self.blocks:
            own = [names[k] for k in block.effects]
            if block.compound:
                own = [fit.names[fit.k_fe].removesuffix(" Var")]
                corr = [f"corr({own[0]})"]
            else:
                pairs = zip(*block.pairs, strict=True)
                corr = [f"corr({own[j]}, {own[i]})" for i, j in pairs]
            self.names += [f"sd({own[k]})" for k in block.scaled] + corr
            self.corr_of.append(corr)
            loadings = zip(*block.loadings, strict=True)
            alone = [f"loading({own[i]}, {own[j]})" for i, j in loadings]
            self.names += alone
            self.loadings |= zip(alone, block.positive, strict=True)
        self.names += self.free_names
        if not fit.scale_known:
            self.names.append("sigma")
        #: of the parameters with priors of one number, where it is not half a line
        self.ranges: dict[str, tuple[float, float]] = {}
        self.priors = self._priors(dict(priors))

    def _priors(self, given: dict[str, object]) -> dict[str, Prior | LKJ]:
        """A prior for each covariance parameter, and those of fixed effects."""
        fit = self.fit
        out: dict[str, Prior | LKJ] = {}
        spread = float(np.sqrt(fit.data.moments.cov[-1, -1]))  # of the response
        wide = HalfT(3.0, 2.5 * spread)
        for name in self.names:
            if name.startswith("sd(") or name == "sigma":
                out[name] = wide
            elif name in self.loadings:
                out[name] = wide
                if not self.loadings[name]:
                    out[name] = Normal(0.0, wide.scale)
                    self.ranges[name] = (-np.inf, np.inf)
        for block, corr in zip(self.blocks, self.corr_of, strict=True):
            self.ranges |= dict.fromkeys(corr, (-1.0, 1.0))
            if block.compound:
                self.ranges[corr[0]] = (block.lowest, 1.0)
                out[corr[0]] = Uniform(block.lowest, 1.0)
            elif corr:
                out[self.lkj_name(block)] = LKJ(1.0)
        ends = self._ends()
        for name, link in zip(self.free_names, self.free_links, strict=True):
            out[name] = _default(link, *ends[name])
            self.ranges[name] = _range(link, *ends[name][:2])
        corr_names = {name: k for k, part in enumerate(self.corr_of) for name in part}
        known = [*out, *corr_names, "innovation sd", *fit.exog_names]
        for name, prior in given.items():
            if name not in known:
                raise UnknownColumnError(
                    f"priors=: there is no parameter {name!r}; there are "
                    f"{', '.join(map(repr, known))}"
                )
            self._check(name, prior)
            if name in corr_names and not self.blocks[corr_names[name]].compound:
                block = self.blocks[corr_names[name]]
                if block.k_corr > 1 or not block.is_partial(0):
                    raise UnsupportedError(
                        f"priors=: {name!r} is one of several correlations; give the "
                        f"matrix a prior, {{{self.lkj_name(block)!r}: LKJ(2)}}"
                    )
                out.pop(self.lkj_name(block), None)
            if name == "innovation sd":
                out.pop("sigma", None)
            out[name] = prior  # type: ignore[assignment]
        return out

    def prior(self, name: str) -> Prior:
        """The prior of a parameter that is one number."""
        found = self.priors[name]
        assert isinstance(found, Prior)
        return found

    def lkj_name(self, block: EffectBlock) -> str:
        """Name of the correlation matrix of a block."""
        return f"corr({self.fit.effect_labels[int(block.effects[0])][0]})"

    def _check(self, name: str, prior: object) -> None:
        """Raise if a prior does not suit a parameter."""
        fixed = name in self.fit.exog_names
        several = [block for block in self.blocks if not block.compound]
        matrix = name in [self.lkj_name(block) for block in several]
        if matrix != isinstance(prior, LKJ):
            raise UnsupportedError(
                f"priors=: {name!r} takes {'LKJ(eta)' if matrix else 'a prior of one '}"
                f"{'' if matrix else 'number, as HalfT(3, 2.5)'}, not {prior!r}"
            )
        if isinstance(prior, LKJ):
            return
        if not isinstance(prior, Prior):
            raise UnsupportedError(
                f"priors=: {name!r} takes a prior of mixedar.priors, not {prior!r}"
            )
        if fixed and not isinstance(prior, Normal):
            raise UnsupportedError(
                f"priors=: the fixed effect {name!r} takes Normal(mean, sd), or none "
                f"(flat), not {prior!r}"
            )
        if not prior.is_proper:
            raise UnsupportedError(
                f"priors=: {prior!r} of {name!r} is improper: the data do not bound "
                "parameters of the covariance, and the posterior would not integrate"
            )
        low, high = self.ranges.get(name, (0.0, np.inf))
        if not fixed and isinstance(prior, Beta) and np.isinf(high):
            raise UnsupportedError(
                f"priors=: {prior!r} is of correlations and shares; {name!r} takes "
                "HalfT(df, scale), or another prior of what has no upper end"
            )
        if not fixed and prior.share(low, high) == 0.0:
            raise UnsupportedError(
                f"priors=: {prior!r} of {name!r} is zero wherever that can be, between "
                f"{low:g} and {high:g}"
            )
        if name == "innovation sd" and self.free_names != ["rho"]:
            raise UnsupportedError(
                "priors=: 'innovation sd' is a parameter of AR(1) residuals alone"
            )

    def _ends(self) -> dict[str, tuple[float, float, float]]:
        """Range and present value of each free parameter."""
        free = np.flatnonzero(self.parameters.is_free)
        values = self.fit.estimate.residual_params[free]
        out = {}
        for j, (name, value) in enumerate(zip(self.free_names, values, strict=True)):
            low = high = float(value)
            for t in (-30.0, 30.0):
                u = self.fit.unconstrained.copy()
                u[j] = t
                with np.errstate(all="ignore"):
                    end = float(self.parameters.from_unconstrained(u)[free[j]])
                low, high = min(low, end), max(high, end)
            out[name] = low, high, float(value)
        return out

    def prior_of(self, name: str, x: FloatArray) -> FloatArray | None:
        """Prior density of one parameter; None if it is flat, or has no formula."""
        prior: Prior | LKJ | None = self.priors.get(name)
        for block, corr in zip(self.blocks, self.corr_of, strict=True):
            if name in corr and prior is None:
                matrix = self.priors[self.lkj_name(block)]
                assert isinstance(matrix, LKJ)
                k = 0 if block.is_free else corr.index(name)  # all are alike
                if not block.is_partial(k):
                    return None
                return np.exp(matrix.log_density_partial(x, block.further[k]))
        if not isinstance(prior, Prior):
            return None
        return np.exp(prior.log_density(x))


def _range(link: str, low: float, high: float) -> tuple[float, float]:
    """Values that a parameter of the residual structure may have."""
    if link in ("correlation", "share"):
        return low, high
    return (0.0, np.inf) if low >= 0.0 else (-np.inf, np.inf)


def _default(link: str, low: float, high: float, value: float) -> Prior:
    """A prior for a parameter of the residual structure, by its range."""
    if link == "correlation" and low < -0.5:
        return Beta(1.0, 1.0)
    if link in ("correlation", "share"):
        return Uniform(0.0, 1.0)
    if low >= 0.0:
        return LogNormal(max(value, 1e-12), 1.5)
    return Normal(0.0, 2.0)
