"""
Intervals for variances, correlations and residual parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from mixedar._types import Seed
from mixedar.exceptions import (
    MixedARError,
    NotComputedError,
    UnsupportedError,
    check_alpha,
)
from mixedar.fit import Fit
from mixedar.fit.boundary import boundary_notes
from mixedar.fit.parameters import (
    CovarianceParameter,
    normal_interval,
    parameters_of,
    select,
    standard_error,
)
from mixedar.inference.arguments import understands
from mixedar.inference.bootstrap import BootstrapDraws, bootstrap
from mixedar.inference.information import inflation
from mixedar.inference.profile import ProfileEngine
from mixedar.summary import ResultFrame


def wald_interval(
    fit: Fit, parameter: CovarianceParameter, alpha: float
) -> tuple[float, float]:
    """
    The normal interval of a parameter on nlme's scale.

    NotComputedError says why there is no standard error.
    """
    z = float(stats.norm.isf(alpha / 2.0))
    error = standard_error(fit, parameter, fit.estimate.cov_theta)
    if not (error > 0.0 and np.isfinite(error)):
        notes = "; ".join(boundary_notes(fit))
        if notes:
            raise NotComputedError(
                f"no Wald interval on the boundary ({notes}): use method='profile'"
            )
        raise NotComputedError(
            "the observed information is singular, there is no standard error: use "
            "method='profile'"
        )
    return normal_interval(parameter, error, z, named=True)


METHODS = ("profile", "wald", "bootstrap")
# Interval this many times as wide as with the other parameters known: say so.
_FLAT = 4.0

# Ends of an interval, the method that gave them, and notes.
Found = tuple[float, float, str, list[str]]


@understands(seed="rng", n_boot="n_sim")
def conf_int_re(
    fit: Fit,
    method: str = "profile",
    alpha: float = 0.05,
    parameters: str | Iterable[str] | None = None,
    *,
    n_sim: int = 1000,
    rng: Seed = None,
    progress: bool = False,
) -> pd.DataFrame:
    """
    Intervals for all covariance parameters.

    Parameters
    ----------
    fit : Fit
    method : {"profile", "wald", "bootstrap"}
        Inverted likelihood-ratio tests; normal intervals on nlme's scales (log
        standard deviations, ``log((1 + r) / (1 - r))`` of correlations and of
        an AR(1) parameter, logit of a CAR(1) parameter) from the observed
        information; or percentiles of a parametric bootstrap that draws
        random effects and correlated residuals.
    alpha : float
        1 - coverage.
    parameters : str or iterable of str, optional
        Names of some parameters; all by default.
    n_sim : int
        Bootstrap replicates.
    rng : int or Generator, optional
        Of the bootstrap.
    progress : bool
        Progress bar of the bootstrap.

    Returns
    -------
    DataFrame
        A row a parameter: those of ``params`` under their names, ``scale``,
        standard deviations ``sd(...)``, correlations ``corr(..., ...)`` and
        ``sigma``; columns ``estimate``, ``lower``, ``upper``, ``method`` and
        ``note``, which says where an interval is one-sided or missing and why,
        and where the surface is flat.  A parameter that cannot be profiled
        because other entries are held has its Wald interval, and the note says
        so.  ``attrs["condition"]`` is the condition number of the correlation
        matrix of the estimates.

    Raises
    ------
    UnsupportedError
        For another method, or an `alpha` that is no probability.
    UnknownColumnError
        For an unknown parameter.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm(
    ...     "distance ~ age", teeth, groups="subject", re_formula="~age"
    ... ).fit()
    >>> limits = fit.conf_int_re(method="wald")
    >>> limits.columns.tolist()
    ['estimate', 'lower', 'upper', 'method', 'note']
    """
    if method not in METHODS:
        raise UnsupportedError(
            f"method={method!r}: choose {', '.join(repr(name) for name in METHODS)}"
        )
    alpha = check_alpha(alpha)
    if parameters is not None and not isinstance(parameters, Iterable):
        raise UnsupportedError(
            f"parameters={parameters!r}: give names, such as 'rho' or ['rho', 'sigma']"
        )
    engine = ProfileEngine(fit) if method == "profile" else None
    chosen, draws = select(parameters_of(fit), parameters), None
    if method == "bootstrap":
        draws = bootstrap(fit, n_sim, rng=rng, progress=progress)
    return _table(fit, method, chosen, alpha, engine, draws)


def profile_intervals(engine: ProfileEngine, alpha: float = 0.05) -> pd.DataFrame:
    """The frame of :func:`conf_int_re` by profiles, whose nodes stay for pictures."""
    return _table(engine.fit, "profile", engine.parameters, alpha, engine, None)


def _table(
    fit: Fit,
    method: str,
    chosen: Sequence[CovarianceParameter],
    alpha: float,
    engine: ProfileEngine | None,
    draws: BootstrapDraws | None,
) -> pd.DataFrame:
    """A row for each parameter."""
    flat, condition = inflation(fit)
    zero = fit.estimate.zero
    rows = []
    for one in chosen:
        factor = flat.get(one.name, 1.0)
        if one.held:
            lower, upper, used, notes = np.nan, np.nan, method, [one.held]
        elif one.kind == "corr" and (zero[one.i] or zero[one.j]):
            note = "a variance is zero: every correlation fits as well"
            lower, upper, used, notes = -1.0, 1.0, method, [note]
        else:
            lower, upper, used, notes = _interval(fit, one, alpha, engine, draws)
        if factor > _FLAT and not one.held:
            notes = [
                *notes,
                f"flat surface: {factor:.1f} times as wide as if the other covariance "
                "parameters were known",
            ]
        rows.append([one.estimate, lower, upper, used, "; ".join(notes)])
    frame = pd.DataFrame(
        rows,
        index=[one.name for one in chosen],
        columns=["estimate", "lower", "upper", "method", "note"],
    )
    frame.attrs["condition"] = condition
    return ResultFrame.of(frame)


def _interval(
    fit: Fit,
    parameter: CovarianceParameter,
    alpha: float,
    engine: ProfileEngine | None,
    draws: BootstrapDraws | None,
) -> Found:
    """The ends by draws or a profile, or where there is neither Wald's."""
    if draws is not None:
        ends = np.quantile(draws.values(parameter), [alpha / 2.0, 1.0 - alpha / 2.0])
        return float(ends[0]), float(ends[1]), "bootstrap", draws.notes
    notes: list[str] = []
    if engine is not None:
        try:
            lower, upper, notes = engine.interval(parameter, alpha)
            return lower, upper, "profile", notes
        except MixedARError as error:
            notes = [str(error)]
    try:
        return *wald_interval(fit, parameter, alpha), "wald", notes
    except NotComputedError as error:
        return np.nan, np.nan, "wald", notes or [str(error)]
