"""
Prior distributions of parameters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
from scipy import stats
from scipy.special import betaln, gammaln

from mixedar._lazy import class_with_near_names
from mixedar._types import FloatArray
from mixedar.exceptions import UnsupportedError, check_positive

_POINTS = 4000  # of an integral over a range


class Prior(ABC):
    """
    A distribution on a parameter's own scale, to derive others from.

    Examples
    --------
    >>> import numpy as np
    >>> from mixedar.priors import Prior
    >>> class HalfCauchy(Prior):
    ...     def log_density(self, x):
    ...         density = np.where(x < 0.0, 0.0, 2.0 / (np.pi * (1.0 + x**2)))
    ...         with np.errstate(divide="ignore"):
    ...             return np.log(density)
    >>> round(float(HalfCauchy().log_density(np.array(1.0))), 4)
    -1.1447
    """

    @abstractmethod
    def log_density(self, x: FloatArray) -> FloatArray:
        """
        Return the logarithm of the density, with its constant.

        Parameters
        ----------
        x : ndarray
            Values of the parameter.

        Returns
        -------
        ndarray
            Of the same shape, ``-inf`` outside.
        """

    @property
    def is_proper(self) -> bool:
        """Whether it integrates to one."""
        return True

    def share(self, low: float, high: float) -> float:
        """
        Probability of the range of a parameter, which a prior may reach beyond.

        Parameters
        ----------
        low, high : float

        Returns
        -------
        float
            Of half a line, or all of it, one by default.

        Examples
        --------
        >>> from mixedar.priors import Normal
        >>> round(Normal(1, 2).share(0.0, float("inf")), 4)
        0.6915
        """
        if not np.isfinite(high - low):
            return 1.0
        x = np.linspace(low, high, _POINTS + 1)
        inside = np.exp(self.log_density(0.5 * (x[1:] + x[:-1])))
        return float(min(inside.mean() * (high - low), 1.0))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _positive(name: str, **values: float) -> None:
    for key, value in values.items():
        check_positive(f"{name}: {key}", value)


@class_with_near_names
@dataclass(frozen=True)
class HalfT(Prior):
    """
    Student's t, the positive half: for standard deviations.

    Parameters
    ----------
    df : float
    scale : float
        In the units of the parameter.

    References
    ----------
    Gelman, A. (2006), Prior distributions for variance parameters in hierarchical
    models, Bayesian Analysis 1, 515-534.

    Examples
    --------
    >>> from mixedar.priors import HalfT
    >>> HalfT(3, 2.5)
    HalfT(df=3, scale=2.5)
    """

    df: float
    scale: float

    def __post_init__(self) -> None:
        _positive("HalfT", df=self.df, scale=self.scale)

    def log_density(self, x: FloatArray) -> FloatArray:
        """See :class:`Prior`."""
        found = np.log(2.0) + stats.t.logpdf(x, self.df, scale=self.scale)
        return np.where(x >= 0.0, found, -np.inf)


@class_with_near_names
@dataclass(frozen=True)
class HalfNormal(Prior):
    """
    The positive half of a normal distribution: for standard deviations.

    Parameters
    ----------
    scale : float
        In the units of the parameter.

    Examples
    --------
    >>> from mixedar.priors import HalfNormal
    >>> HalfNormal(2.0)
    HalfNormal(scale=2.0)
    """

    scale: float

    def __post_init__(self) -> None:
        _positive("HalfNormal", scale=self.scale)

    def log_density(self, x: FloatArray) -> FloatArray:
        """See :class:`Prior`."""
        found = np.log(2.0) + stats.norm.logpdf(x, scale=self.scale)
        return np.where(x >= 0.0, found, -np.inf)


@class_with_near_names
@dataclass(frozen=True)
class ExponentialPrior(Prior):
    """
    An exponential distribution, ``rate exp(-rate x)``: for standard deviations.

    Parameters
    ----------
    rate : float

    Examples
    --------
    >>> from mixedar.priors import Exponential
    >>> Exponential(0.5)
    Exponential(rate=0.5)
    """

    rate: float

    def __post_init__(self) -> None:
        _positive("Exponential", rate=self.rate)

    def __repr__(self) -> str:
        return f"Exponential(rate={self.rate!r})"

    def log_density(self, x: FloatArray) -> FloatArray:
        """See :class:`Prior`."""
        return np.where(x >= 0.0, np.log(self.rate) - self.rate * x, -np.inf)


@class_with_near_names
@dataclass(frozen=True)
class PC(ExponentialPrior):
    """
    Penalised complexity: a standard deviation exceeds `u` with probability `alpha`.

    Parameters
    ----------
    u : float
    alpha : float

    References
    ----------
    Simpson, D. et al. (2017), Penalising model component complexity, Statistical
    Science 32, 1-28.

    Examples
    --------
    >>> from mixedar.priors import PC
    >>> PC(2.0, 0.05)
    PC(u=2.0, alpha=0.05)
    """

    rate: float = field(init=False, repr=False)
    u: float
    alpha: float

    def __post_init__(self) -> None:
        _positive("PC", u=self.u)
        if not 0.0 < self.alpha < 1.0:
            raise UnsupportedError(f"PC: alpha={self.alpha!r} is not between 0 and 1")
        object.__setattr__(self, "rate", -np.log(self.alpha) / self.u)


@class_with_near_names
@dataclass(frozen=True)
class Normal(Prior):
    """
    A normal distribution: for fixed effects, and parameters on the real line.

    Parameters
    ----------
    mean : float
    sd : float

    Examples
    --------
    >>> from mixedar.priors import Normal
    >>> Normal(0, 5)
    Normal(mean=0, sd=5)
    """

    mean: float
    sd: float

    def __post_init__(self) -> None:
        _positive("Normal", sd=self.sd)
        if not np.isfinite(self.mean):
            raise UnsupportedError(f"Normal: mean={self.mean!r} is not a finite number")

    def log_density(self, x: FloatArray) -> FloatArray:
        """See :class:`Prior`."""
        return np.asarray(stats.norm.logpdf(x, self.mean, self.sd))

    def share(self, low: float, high: float) -> float:
        """See :class:`Prior`."""
        return float(np.diff(stats.norm.cdf([low, high], self.mean, self.sd))[0])


@class_with_near_names
@dataclass(frozen=True)
class LogNormal(Prior):
    """
    The logarithm is normal: for ranges and ratios.

    Parameters
    ----------
    median : float
    sd : float
        Of the logarithm.

    Examples
    --------
    >>> from mixedar.priors import LogNormal
    >>> LogNormal(10.0, 1.5)
    LogNormal(median=10.0, sd=1.5)
    """

    median: float
    sd: float

    def __post_init__(self) -> None:
        _positive("LogNormal", median=self.median, sd=self.sd)

    def log_density(self, x: FloatArray) -> FloatArray:
        """See :class:`Prior`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(x)
            found = stats.norm.logpdf(logs, np.log(self.median), self.sd) - logs
        return np.where(x > 0.0, found, -np.inf)


@class_with_near_names
@dataclass(frozen=True)
class Uniform(Prior):
    """
    The same density between two values.

    Parameters
    ----------
    lower, upper : float
        Finite for parameters of the covariance.

    Examples
    --------
    >>> from mixedar.priors import Uniform
    >>> Uniform(-1, 1)
    Uniform(lower=-1, upper=1)
    """

    lower: float
    upper: float

    def __post_init__(self) -> None:
        if not self.lower < self.upper:
            raise UnsupportedError(f"{self!r}: lower has to be below upper")

    @property
    def is_proper(self) -> bool:
        """Whether both ends are finite."""
        return bool(np.isfinite(self.lower) and np.isfinite(self.upper))

    def log_density(self, x: FloatArray) -> FloatArray:
        """See :class:`Prior`."""
        width = self.upper - self.lower
        height = -np.log(width) if self.is_proper else 0.0
        inside = (x >= self.lower) & (x <= self.upper)
        return np.where(inside, height, -np.inf)

    def share(self, low: float, high: float) -> float:
        """See :class:`Prior`."""
        overlap = min(high, self.upper) - max(low, self.lower)
        return float(max(overlap, 0.0) / (self.upper - self.lower))


@class_with_near_names
@dataclass(frozen=True)
class Beta(Prior):
    """
    A beta distribution of ``(1 + r) / 2``: for correlations.

    Parameters
    ----------
    a, b : float
        ``Beta(1, 1)`` is uniform between -1 and 1.

    Examples
    --------
    >>> from mixedar.priors import Beta
    >>> Beta(2, 2)
    Beta(a=2, b=2)
    """

    a: float
    b: float

    def __post_init__(self) -> None:
        _positive("Beta", a=self.a, b=self.b)

    def log_density(self, x: FloatArray) -> FloatArray:
        """See :class:`Prior`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found = (self.a - 1.0) * np.log1p(x) + (self.b - 1.0) * np.log1p(-x)
        found = found - betaln(self.a, self.b) - (self.a + self.b - 1.0) * np.log(2.0)
        return np.where(np.abs(x) <= 1.0, found, -np.inf)

    def share(self, low: float, high: float) -> float:
        """See :class:`Prior`."""
        ends = np.clip([0.5 * (1.0 + low), 0.5 * (1.0 + high)], 0.0, 1.0)
        return float(np.diff(stats.beta.cdf(ends, self.a, self.b))[0])


@class_with_near_names
@dataclass(frozen=True)
class LKJ:
    """
    Density proportional to ``|R|^(eta - 1)`` of the correlation matrix of effects.

    Parameters
    ----------
    eta : float
        One is uniform over correlation matrices; larger values favour small
        correlations.

    References
    ----------
    Lewandowski, D., Kurowicka, D. and Joe, H. (2009), Generating random correlation
    matrices based on vines and extended onion method, Journal of Multivariate Analysis
    100, 1989-2001.

    Examples
    --------
    >>> from mixedar.priors import LKJ
    >>> LKJ(2.0)
    LKJ(eta=2.0)
    """

    eta: float = 1.0

    def __post_init__(self) -> None:
        _positive("LKJ", eta=self.eta)

    def log_density_partial(self, z: FloatArray, further: int) -> FloatArray:
        """
        Log-density of a partial correlation, given those before it.

        Those of a vine are independent, ``(1 + z) / 2`` being ``Beta(b, b)`` with
        ``b = eta + further / 2``, where `further` counts the correlations that it
        narrows: all free ones behind it in its row, and those of its effect with later
        ones.  Of the j-th in a row of a matrix of order q these are ``q - 1 - j``.
        """
        b = self.eta + further / 2.0
        with np.errstate(divide="ignore"):
            logs = np.log1p(-(z**2))
        constant = gammaln(2.0 * b) - 2.0 * gammaln(b) - (2.0 * b - 1.0) * np.log(2.0)
        return np.asarray((b - 1.0) * logs + constant)
