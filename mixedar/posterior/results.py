"""
The posterior of a fitted model: draws, and what is asked of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from tokenize import TokenError
from typing import Any

import numpy as np
import pandas as pd

from mixedar._lazy import Question
from mixedar._types import FloatArray, Seed
from mixedar.data.rows import near_matches
from mixedar.engine.batch import Profiles
from mixedar.exceptions import (
    MixedARError,
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
    check_alpha,
    check_flags,
    shown,
)
from mixedar.fit import Fit
from mixedar.inference.arguments import check_count, generator, understands
from mixedar.posterior.coordinates import Points, Remembered, Target
from mixedar.posterior.explore import Draws, explore
from mixedar.posterior.weighted import Integral, integral
from mixedar.summary import Printed, ResultFrame, ResultsSummary, SummaryTable

# Points that tell the marginal likelihood, and where each costs much.
_POINTS, _DEAR_POINTS = 8000, 1500
# What pandas raises for text that its eval() does not read, and Python for brackets.
_UNREAD = (
    NameError,
    KeyError,
    SyntaxError,
    TypeError,
    ValueError,
    NotImplementedError,
    TokenError,
)


@dataclass(frozen=True, eq=False, repr=False)
class Posterior(Printed):
    """
    Draws of the parameters of a model given the data.

    Attributes
    ----------
    fit : Fit
        What was fitted.
    target : Target
        The density of the covariance parameters, with the priors.
    explored : Draws
        Their draws, and how they were found.
    points : Points
        The same on the user's scale.
    profiles : Profiles
        What the likelihood is at each.
    draws : DataFrame, shape (draws, parameters)
        Fixed effects, then standard deviations, correlations and residual
        parameters by the names of ``conf_int_re``.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ").fit()
    >>> post = fit.posterior(draws=1000, rng=1)
    >>> list(post.draws)
    ['Intercept', 'age', 'sd(subject)', 'rho', 'sigma']
    """

    fit: Fit
    target: Target
    explored: Draws
    points: Points
    profiles: Profiles
    draws: pd.DataFrame

    ranef = Question("mixedar.posterior.given", of="")
    predict = Question("mixedar.posterior.given", of="")
    replicate = Question("mixedar.posterior.given", of="")
    log_likelihood = Question("mixedar.posterior.leave_out", of="")
    loo = Question("mixedar.posterior.leave_out", of="")
    prior_sensitivity = Question("mixedar.posterior.sensitivity", of="")
    to_arviz = Question("mixedar.posterior.arviz", of="")

    def __len__(self) -> int:
        return len(self.draws)

    @property
    def _is_weighted(self) -> bool:
        """Whether draws are weighted points, and not from chains."""
        return self.explored.proposal is not None

    @property
    def priors(self) -> dict[str, str]:
        """The prior of each parameter, as it is printed."""
        known = self.target.priors
        fixed = {n: "flat" for n in self.fit.exog_names if n not in known}
        order = [n for n in map(str, self.draws) if n in known or n in fixed]
        order += [n for n in known if n not in order]
        return {n: fixed.get(n) or _short(repr(known.get(n))) for n in order}

    @cached_property
    def log_marginal_likelihood(self) -> float:
        """
        Logarithm of the integral of likelihood and prior.

        Where fixed effects have flat priors, their Lebesgue measure counts: then only
        differences between models with the same fixed effects mean something.

        Raises
        ------
        NotComputedError
            If chains explored the posterior, which do not tell it.
        """
        return self._integral.log - self.target.log_volume()

    @property
    def log_marginal_likelihood_se(self) -> float:
        """
        Monte Carlo standard error of the logarithm of the marginal likelihood.

        Raises
        ------
        NotComputedError
            As for ``log_marginal_likelihood``.
        """
        return self._integral.log_se

    @cached_property
    def _integral(self) -> Integral:
        """Integral of likelihood and prior, over wherever the prior is."""
        proposal = self.explored.proposal
        if proposal is None:
            raise NotComputedError(
                "the marginal likelihood is not known from chains, which explored this "
                "posterior as weighted draws failed; give narrower priors"
            )
        most = _DEAR_POINTS if self.target.is_dear else _POINTS
        return integral(lambda z: self.target.log_density(z)[0], proposal, most)

    def bayes_factor(self, other: Posterior) -> float:
        """
        How much more probable the data are under this model than under another.

        Parameters
        ----------
        other : Posterior
            Of the same response.

        Returns
        -------
        float
            The ratio of the marginal likelihoods.

        Raises
        ------
        UnsupportedError
            If the responses differ, or a fixed effect with a flat prior is not in both
            models.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> ar1, plain = (
        ...     mar.mixedlm(
        ...         "distance ~ age", teeth, groups="subject", time="occ", residual=name
        ...     ).fit().posterior(1000, rng=1)
        ...     for name in ("ar1", "independent")
        ... )
        >>> 0.1 < ar1.bayes_factor(plain) < 1.0
        True
        """
        if not isinstance(other, Posterior):
            raise UnsupportedError(f"bayes_factor(): {shown(other)} is no posterior")
        mine, theirs = self.fit.data, other.fit.data
        if not np.array_equal(mine.response, theirs.response):
            raise UnsupportedError(
                "bayes_factor(): the two models are not of the same response and rows"
            )
        flat = [
            {
                name: posterior.fit.data.exog[:, k]
                for k, name in enumerate(posterior.fit.exog_names)
                if name not in posterior.target.priors
            }
            for posterior in (self, other)
        ]
        alone = sorted(flat[0].keys() ^ flat[1].keys())
        alone += [
            name
            for name in flat[0].keys() & flat[1].keys()
            if not np.allclose(flat[0][name], flat[1][name])
        ]
        if alone:
            raise UnsupportedError(
                f"bayes_factor(): {', '.join(map(repr, alone))} is not in both models "
                "with the same flat prior, whose arbitrary constant would be the "
                f"answer; give it a proper one, priors={{{alone[0]!r}: Normal(0, 10)}}"
            )
        gap = self.log_marginal_likelihood - other.log_marginal_likelihood
        return float(np.exp(gap))

    def probability(self, event: str) -> float:
        """
        Posterior probability of what is said of the parameters.

        Parameters
        ----------
        event : str
            Such as ``"age > 0.5"`` or ``"rho > 0 and sigma < 2"``, of the columns of
            `draws`; names may stand in backticks.

        Returns
        -------
        float

        Raises
        ------
        UnknownColumnError
            For names of no parameters.
        UnsupportedError
            For what is not true or false.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> post = model.fit().posterior(draws=1000, rng=1)
        >>> post.probability("age > 0.5 and sd(subject) > 0") > 0.9
        True
        """
        if not isinstance(event, str):
            raise UnsupportedError(f"event={shown(event)} is not text: 'age > 0.5'")
        names = sorted(map(str, self.draws), key=len, reverse=True)
        known = {name: f"v{k}_" for k, name in enumerate(names)}
        text = "|".join(re.escape(name) for name in names)
        pattern = rf"`({text})`|(?<![\w.`])({text})(?![\w(\[`])"
        said = re.sub(pattern, lambda m: known[m.group(1) or m.group(2)], event)
        try:
            found = self.draws.rename(columns=known).eval(said, engine="python")
        except _UNREAD as error:
            raise self._unreadable(event, re.sub(pattern, "", event)) from error
        if not isinstance(found, pd.Series) or found.dtype != bool:
            raise UnsupportedError(
                f"event={event!r} is neither true nor false of a draw; write a "
                "comparison, such as 'age > 0.5'"
            )
        return float(found.mean())

    def _unreadable(self, event: str, rest: str) -> MixedARError:
        """What is wrong with an event, from what is left without known names."""
        rest = re.sub(r"'[^']*'|\"[^\"]*\"", "", rest)
        word = r"`([^`]+)`|(?<![\w.])([^\W\d][\w.]*(?:\([^()]*\)|\[[^\]]*\])?)"
        found = [quoted or name for quoted, name in re.findall(word, rest)]
        for name in found:
            function = hasattr(np, name.partition("(")[0])
            if name in {"and", "or", "not", "in"} or function:
                continue
            near = near_matches(name, self.draws, "The parameters are")
            return UnknownColumnError(
                f"event={event!r}: {name!r} is no parameter.{near}"
            )
        return UnsupportedError(
            f"event={event!r} cannot be read: write comparisons of parameters with "
            f"numbers, such as '{self.draws.columns[-1]} > 0.5', joined by and, or"
        )

    @cached_property
    def effective(self) -> pd.DataFrame:
        """Effective numbers of draws of each parameter, for its mean and its tails."""
        found, p = self.explored, self.fit.k_fe
        frame = {
            "ess_bulk": np.r_[np.full(p, found.effective), found.bulk],
            "ess_tail": np.r_[np.full(p, found.effective), found.tail],
        }
        if not self._is_weighted:
            frame["r_hat"] = np.r_[np.full(p, np.nan), found.r_hat]
        return ResultFrame(frame, index=self.draws.columns)

    def summary_frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """
        Means, standard deviations, quantiles and effective numbers of draws.

        Parameters
        ----------
        alpha : float
            1 - probability of the central interval.

        Returns
        -------
        DataFrame, a row a parameter

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> post = model.fit().posterior(draws=1000, rng=1)
        >>> post.summary_frame().columns.tolist()
        ['mean', 'sd', '2.5%', '50%', '97.5%', 'ess_bulk', 'ess_tail']
        """
        ends = (check_alpha(alpha) / 2.0, 0.5, 1.0 - alpha / 2.0)
        frame = pd.DataFrame({"mean": self.draws.mean(), "sd": self.draws.std()})
        for q in ends:
            frame[percent(q)] = self.draws.quantile(q)
        return ResultFrame.of(frame.join(self.effective))

    def summary(self, alpha: float = 0.05) -> ResultsSummary:
        """
        The table, with the priors below.

        Parameters
        ----------
        alpha : float
            1 - probability of the central interval.

        Returns
        -------
        ResultsSummary

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> page = model.fit().posterior(draws=1000, rng=1).summary().as_text()
        """
        found, formats = self.explored, {"ess_bulk": ".0f", "ess_tail": ".0f"}
        frame = self.summary_frame(alpha)
        header: dict[str, Any] = {
            "Dependent variable:": self.fit.endog_name,
            "No. observations:": self.fit.nobs,
            "No. groups:": self.fit.n_groups,
            "Draws:": len(self),
            "Effective draws:": round(found.effective),
        }
        if not self._is_weighted:
            header["Largest R-hat:"] = float(found.r_hat.max())
        else:
            header["Pareto k:"] = f"{found.pareto_k:.2f}"
            header["Log marginal lik.:"] = f"{self.log_marginal_likelihood:.3f}"
        priors = pd.DataFrame({"prior": self.priors})
        return ResultsSummary(
            title="Posterior",
            header=header,
            tables=[
                SummaryTable(frame, "Parameter", formats, name="parameters"),
                SummaryTable(priors, "Priors", name="priors"),
            ],
            notes=self._notes(),
        )

    def _notes(self) -> list[str]:
        """What a reader has to know."""
        least = float(self.effective[["ess_bulk", "ess_tail"]].to_numpy().min())
        notes = []
        if least < 400.0:
            notes.append(
                f"Quantities of some parameters are worth {least:.0f} independent "
                "draws only: ask for more draws"
            )
        if any(name not in self.target.priors for name in self.fit.exog_names):
            notes.append(
                "Fixed effects have flat priors: compare the log marginal likelihood "
                "with those of models that have the same fixed effects"
            )
        return notes

    def plot(self, parameters: Any = None, *, ax: Any = None) -> Any:
        """
        Prior and posterior of each parameter in a panel.

        Parameters
        ----------
        parameters : str or sequence of str, optional
            All by default.
        ax : Axes or sequence of Axes, optional
            One for each panel.

        Returns
        -------
        matplotlib.axes.Axes or Figure
            The figure if there are several panels.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> figure = model.fit().posterior(draws=1000, rng=1).plot()
        """
        from mixedar.plotting.posterior import plot_densities

        return plot_densities(self.draws, self.target.prior_of, parameters, ax=ax)

    @cached_property
    def log_densities(self) -> tuple[FloatArray, FloatArray]:
        """Of each draw, fixed effects included: log-prior and log-likelihood."""
        p = self.fit.k_fe
        beta, sigma = self.draws.to_numpy()[:, :p], self.points.sigma
        found = self.profiles
        apart = np.linalg.solve(found.root, (beta - found.beta)[..., None])[..., 0]
        rss = found.rss + (apart**2).sum(axis=1)
        n = self.fit.nobs
        logs = n * np.log(2.0 * np.pi * sigma**2) + found.logdet + rss / sigma**2
        prior = self.points.log_prior.copy()
        where, mean, sd = self.target.normal_priors()
        prior -= 0.5 * (((beta[:, where] - mean) / sd) ** 2).sum(axis=1)
        return prior, -0.5 * logs


def _short(text: str) -> str:
    """The same text with four digits of each number."""
    return re.sub(r"\d+\.\d+(e[-+]?\d+)?", lambda found: f"{float(found[0]):.4g}", text)


def percent(q: float) -> str:
    """A quantile's name."""
    return f"{100.0 * q:.4g}%"


@understands(seed="rng", n_sim="draws")
def posterior(
    fit: Fit,
    draws: int = 4000,
    priors: Mapping[str, Any] | None = None,
    rng: Seed = None,
    progress: bool = False,
) -> Posterior:
    """
    Draw from the posterior.

    The covariance parameters are explored by importance sampling from mixtures that
    adapt themselves, of a likelihood from which everything else is integrated out;
    fixed effects, random effects and predictions are drawn exactly given them.

    Parameters
    ----------
    fit : Fit
    draws : int
    priors : mapping of str to Prior, optional
        By the names of parameters (``"sd(subject)"``, ``"rho"``, ``"sigma"``,
        ``"age"``), of :mod:`mixedar.priors`; ``"corr(subject)"`` takes ``LKJ(eta)``,
        ``"innovation sd"`` a prior in place of that on ``"sigma"``.  By default
        fixed effects are flat, standard deviations ``HalfT(3, 2.5 sd(y))``,
        correlations and ``rho`` uniform, and correlation matrices ``LKJ(1)``, of those
        with the partial correlations that the model holds at zero.
    rng : int or Generator, optional
        The same seed gives the same draws.
    progress : bool
        Print what is being done.

    Returns
    -------
    Posterior

    Raises
    ------
    UnknownColumnError
        If a prior is given for a parameter that there is not.
    UnsupportedError
        If a prior is improper or does not suit its parameter.
    NotComputedError
        If the likelihood has no maximum, or the posterior could not be explored.

    References
    ----------
    Gelman, A. et al. (2013), Bayesian Data Analysis, 3rd ed., chapters 5, 10 and 15.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> from mixedar.priors import HalfNormal
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ").fit()
    >>> post = fit.posterior(1000, priors={"sd(subject)": HalfNormal(3)}, rng=1)
    >>> post.probability("rho > 0") > 0.5
    True
    """
    n, stream = check_count(draws, "draws"), generator(rng)
    check_flags(progress=progress)
    if priors is not None and not isinstance(priors, Mapping):
        raise UnsupportedError(
            f"priors={shown(priors)} is no mapping of names to priors, such as "
            "{'sigma': HalfNormal(2)}"
        )
    # beside such a likelihood no usual prior keeps the posterior proper
    fit.check_maximum("posterior()")
    target = Target(fit, priors or {})
    starts = [
        target.start((mode.estimate.theta, float(np.sqrt(mode.estimate.scale))))
        for mode in fit.modes
    ]
    density = Remembered(target)
    explored = explore(
        density,
        starts,
        n,
        stream,
        print if progress else lambda text: None,
        natural=lambda z: target.points(z).natural,
        dear=target.is_dear,
    )
    points, profiles = density.at(explored.z)
    mean, root = target.fixed_effects(points, profiles)
    noise = stream.normal(size=(n, mean.shape[1], 1))
    beta = mean + (root @ noise)[..., 0]
    frame = pd.DataFrame(
        np.hstack([beta, points.natural]), columns=[*fit.exog_names, *target.names]
    )
    frame.index.name = "draw"
    return Posterior(fit, target, explored, points, profiles, frame)
