"""
Intervals for variances, correlations and residual parameters.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixedar.exceptions import MixedARError, NotComputedError, UnsupportedError
from mixedar.inference.arguments import check_alpha
from mixedar.inference.bootstrap import bootstrap
from mixedar.inference.profile import ProfileEngine
from mixedar.inference.targets import Target, select, targets_of
from mixedar.inference.wald_intervals import WaldIntervals, flatness

__all__ = ["conf_int_re"]

FloatArray = NDArray[np.float64]

METHODS = ("profile", "wald", "bootstrap")
# Interval this many times as wide as with the other parameters known: say so.
_FLAT = 4.0


def conf_int_re(
    results: Any,
    method: str = "profile",
    alpha: float = 0.05,
    parameters: str | Iterable[str] | None = None,
    *,
    n_boot: int = 1000,
    seed: Any = None,
    progress: bool = False,
) -> pd.DataFrame:
    """
    Intervals for all covariance parameters.

    Parameters
    ----------
    results : MixedLMARResults
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
    n_boot : int
        Bootstrap replicates.
    seed : int or Generator, optional
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
    """
    results = getattr(results, "_results", results)
    if method not in METHODS:
        raise UnsupportedError(
            f"method={method!r}: choose {', '.join(repr(name) for name in METHODS)}"
        )
    alpha = check_alpha(alpha)
    if parameters is not None and not isinstance(parameters, Iterable):
        raise UnsupportedError(
            f"parameters={parameters!r}: give names, such as 'rho' or ['rho', 'sigma']"
        )
    engine = ProfileEngine(results) if method == "profile" else None
    targets = select(engine.targets if engine else targets_of(results), parameters)
    flat, condition = flatness(results)
    draws = None
    if method == "bootstrap":
        draws = bootstrap(results, n_boot, seed=seed, progress=progress)
    wald = WaldIntervals(results, alpha) if method == "wald" else None
    rows = []
    for target in targets:
        notes: list[str] = []
        lower = upper = np.nan
        used = method
        if target.held:
            notes.append(target.held)
        elif _undefined(results, target):
            lower, upper = -1.0, 1.0
            notes.append("a variance is zero: every correlation fits as well")
        elif engine is not None:
            try:
                lower, upper, notes = engine.interval(target, alpha)
            except MixedARError as error:
                notes, used = [str(error)], "wald"
                with suppress(NotComputedError):
                    lower, upper = WaldIntervals(results, alpha).interval(target)
        elif draws is not None:
            values = draws.values(target)
            lower, upper = np.quantile(values, [alpha / 2.0, 1.0 - alpha / 2.0])
            notes.extend(draws.notes)
        else:
            assert wald is not None
            try:
                lower, upper = wald.interval(target)
            except NotComputedError as error:
                notes = [str(error)]
        factor = flat.get(target.name, 1.0)
        if factor > _FLAT and not target.held:
            notes.append(
                f"flat surface: {factor:.1f} times as wide as if the other covariance "
                "parameters were known"
            )
        rows.append(
            [target.estimate, float(lower), float(upper), used, "; ".join(notes)]
        )
    frame = pd.DataFrame(
        rows,
        index=[target.name for target in targets],
        columns=["estimate", "lower", "upper", "method", "note"],
    )
    frame.attrs["condition"] = condition
    return frame


def _undefined(results: Any, target: Target) -> bool:
    """Whether a correlation has no meaning because a variance is zero."""
    if target.kind != "corr":
        return False
    spread = np.diag(results._z_map)[: results.k_re] ** 2
    relative = np.diag(results.cov_re_unscaled) / np.where(spread > 0.0, spread, 1.0)
    return bool(min(relative[target.i], relative[target.j]) < 1e-8)
