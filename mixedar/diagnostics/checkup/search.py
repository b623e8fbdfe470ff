"""
Richer models than the one that was fitted, and what they gain.

With few enough (compressed) rows a further variance, or serial correlation, is
added to the likelihood and everything is estimated anew: far from the estimate
that says much more than a score does, because a random slope that was left out
has made rho large, and a missed correlation the variance of a slope.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from mixedar._types import FloatArray
from mixedar.diagnostics.checkup.finding import Finding, joined, number
from mixedar.diagnostics.residuals.series import SeriesRows, rows_of
from mixedar.engine.compress import ClusterRows, compress
from mixedar.engine.problem import LikelihoodProblem
from mixedar.engine.search import find_modes
from mixedar.inference.information import Flatness, flatness
from mixedar.residual import ResidualStructure, resolve

# Compressed rows up to which another fit costs next to nothing.
_CHEAP = 20_000


@dataclass(frozen=True)
class Gain:
    """
    A richer model against the fitted one.

    Attributes
    ----------
    llf : float
        Gain of the log-likelihood.
    value : float
        The new parameter: a standard deviation, or a correlation.
    p : float
        Of the likelihood-ratio test; for a variance the mixture of chi-squared
        distributions with zero and one degrees of freedom.
    """

    llf: float
    value: float
    p: float


def gain_of_effect(fit: Any, column: FloatArray) -> Gain | None:
    """
    Let the coefficient of a column vary between groups.

    Parameters
    ----------
    fit : MixedLMARResults
    column : ndarray, shape (n,)
        In the order of the model's sorted rows.

    Returns
    -------
    Gain or None
        None if that would take long.
    """
    model, grouped = fit.model, fit.model._grouped
    z = np.column_stack([grouped.sort(model._random_design()), column])
    rows = compress(
        z,
        grouped.sort(model.exog),
        grouped.sort(model.endog),
        grouped.gaps,
        grouped.offsets,
        grouped.marks,
    )
    layout = model._layout(fit.freepat, fit.params_object)
    wider = replace(
        layout,
        vc_sizes=(*layout.vc_sizes, 1),
        fixed=np.append(layout.fixed, np.nan),
    )
    best = _best(fit, rows, fit.structure, wider)
    if best is None:
        return None
    gain = max(best.llf - fit.llf, 0.0)
    sd = float(np.sqrt(max(best.cov_values[-1], 0.0)))
    p = 0.5 * float(stats.chi2.sf(2.0 * gain, 1)) if gain > 1e-8 else 1.0
    return Gain(gain, sd, p)


def gain_of_serial(fit: Any) -> Gain | None:
    """
    Let independent residuals be correlated in time.

    AR(1) for equally spaced times, CAR(1) for others.

    Parameters
    ----------
    fit : MixedLMARResults
        With independent residuals.

    Returns
    -------
    Gain or None
        `value` is the correlation a typical gap apart.  None if two observations
        share their time, or it would take long.
    """
    model, rows = fit.model, rows_of(fit)
    gaps = _gaps(rows)
    inside = gaps[~rows.first]
    if len(inside) == 0 or not (inside > 0.0).all():
        return None
    whole = bool((inside == np.rint(inside)).all())
    structure = resolve("ar1" if whole else "car1").bind(inside)
    data = compress(
        rows.sort(model._random_design()),
        rows.sort(model.exog),
        rows.sort(model.endog),
        gaps,
        rows.offsets,
    )
    layout = model._layout(fit.freepat, fit.params_object)
    best = _best(fit, data, structure, layout)
    if best is None:
        return None
    gain = max(best.llf - fit.llf, 0.0)
    times = np.array([0.0, float(np.median(inside))])
    value = float(structure.correlation(times, best.residual_params)[0, 1])
    return Gain(gain, value, float(stats.chi2.sf(2.0 * gain, 1)))


def _gaps(rows: SeriesRows) -> FloatArray:
    """Distance to the row before; 0 where a series begins."""
    gaps = np.zeros(len(rows.time))
    gaps[1:] = np.diff(rows.time)
    gaps[rows.first] = 0.0
    return gaps


def _best(
    fit: Any, rows: ClusterRows, structure: ResidualStructure, layout: Any
) -> Any:
    """The highest maximum, or None if finding it would take long."""
    if len(rows.w) > _CHEAP:
        return None
    problem = LikelihoodProblem(rows, fit.nobs, structure, layout, reml=fit.reml)
    return find_modes(problem)[0].estimate


# Expected gains of the log-likelihood that are no rounding, and such that are.
_GAIN, _ROUNDING = 1e-4, 1e-9
# Maxima whose log-likelihoods differ by less are as good as one another.
_CLOSE = 2.0
# An interval this many times as wide as with the other parameters known.
_INFLATED = 4.0
# Widths, on the scale of correlations, of an interval that says little, nothing.
_WIDE, _VERY_WIDE = 0.6, 1.0


def convergence(fit: Any) -> Finding:
    """
    Whether the search ended in a maximum.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    Finding
    """
    name, measure = "convergence", "possible gain in log-likelihood"
    gain = _possible_gain(fit)
    if fit.converged and not gain > _GAIN:
        return Finding(
            name,
            "ok",
            gain,
            measure,
            "The search ended in a maximum of the likelihood.",
        )
    if fit.converged:
        return Finding(
            name,
            "warning",
            gain,
            measure,
            f"The search says that it converged, but the log-likelihood could still "
            f"rise by about {number(gain)}: fit again with other start_params.",
        )
    return Finding(
        name,
        "serious",
        gain,
        measure,
        "The search did not reach a maximum: do not use these numbers. Fit again with "
        "fit(maxiter=1000), other start_params, or fewer random effects.",
    )


def _possible_gain(fit: Any) -> float:
    problem = fit.fit.problem
    if problem.k_theta == 0:
        return 0.0
    point = problem.evaluate(fit._theta, derivatives=True)
    values, vectors = np.linalg.eigh(-point.hessian)
    slope = vectors.T @ point.gradient
    there = np.abs(values) > 1e-10 * np.abs(values).max()
    gain = float(0.5 * (slope[there] ** 2 / np.abs(values[there])).sum())
    return gain if gain > _ROUNDING else 0.0


def boundary(fit: Any) -> Finding:
    """
    Whether an estimate lies on the edge of what is possible.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    Finding
    """
    name, measure = "boundary", "parameters on the boundary"
    notes = list(fit.boundary_notes)
    if not notes:
        return Finding(
            name, "ok", 0.0, measure, "No variance is zero and no correlation is one."
        )
    advice = []
    if fit._singular:
        zero = (np.diag(fit.cov_re) < 1e-8 * fit.scale).any() if fit.k_re else False
        if zero or (np.asarray(fit.vcomp) < 1e-8 * fit.scale).any():
            advice.append(
                "the data show no such variation beyond that of the residuals: leave "
                "the term out if nothing in the design asks for it"
            )
        else:
            advice.append(
                "the random effects move together: centre the covariate of the slope, "
                "take re_cov='diagonal', or leave a random effect out"
            )
        advice.append(
            "standard errors of variances do not exist there; conf_int_re(method="
            "'profile') gives intervals"
        )
    if fit._residual_at_boundary:
        advice.append(
            "a residual parameter at its limit hints at a missing random effect, a "
            "trend that is not in the fixed effects, or a unit of time that does not "
            "suit the data"
        )
    text = "; ".join(notes)
    return Finding(
        name,
        "warning" if fit._residual_at_boundary else "note",
        float(len(notes)),
        measure,
        f"{text}. That is a legitimate estimate, but: {'; '.join(advice)}.",
    )


def modes(fit: Any) -> Finding:
    """
    Whether the likelihood has other maxima, and how far they are.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    Finding
    """
    name, measure = "other maxima", "log-likelihood above the next maximum"
    frame = fit.modes
    frame = frame[frame["converged"]]
    if len(frame) < 2:
        return Finding(
            name, "ok", np.nan, measure, "One maximum was found from all starts."
        )
    gap = float(frame["llf"].iloc[0] - frame["llf"].iloc[1])
    names = [c for c in frame.columns if c not in ("llf", "converged", "at_boundary")]
    covariances = names[fit.k_fe :]
    size = np.abs(frame[covariances].iloc[0]) + np.abs(frame[covariances].iloc[1])
    apart = np.abs(frame[covariances].iloc[0] - frame[covariances].iloc[1])
    share = (apart / size.where(size > 0.0, 1.0)).astype(float)
    most = str(share.idxmax())
    errors = np.asarray(fit.bse_fe)
    fixed = frame[names[: fit.k_fe]]
    moved = np.abs(fixed.iloc[0] - fixed.iloc[1]).to_numpy(dtype=float) / errors
    other = (
        f"at the next one {most!r} is {number(frame[most].iloc[1])} instead of "
        f"{number(frame[most].iloc[0])}, and the fixed effects differ by up to "
        f"{number(float(moved.max(initial=0.0)), 2)} standard errors"
    )
    count = f"The likelihood has {len(frame)} maxima; {other}."
    if gap >= _CLOSE:
        return Finding(
            name,
            "note",
            gap,
            measure,
            f"{count} The best is higher by {number(gap)} and the data prefer it "
            "clearly; other programs may stop at a lower one (see fit.modes).",
        )
    return Finding(
        name,
        "warning",
        gap,
        measure,
        f"{count} They differ by {number(gap)} in log-likelihood, too little to choose "
        "by: report both (see fit.modes), or simplify the covariance.",
    )


def identifiability(fit: Any) -> Finding:
    """
    Whether the data tell the covariance parameters apart.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    Finding
    """
    name, measure = "identifiability", "condition number of the estimates"
    if fit._k_estimated - fit.k_fe < 2:
        return Finding(
            name,
            "ok",
            1.0,
            measure,
            "There is one variance only, nothing to confuse it with.",
        )
    flat = flatness(fit)
    about, parts = _ridge(flat)
    severity = "ok"
    told, worse = _residual_parameter(flat)
    if told:
        parts.append(told)
        severity = worse
    rivals, worse = _rivals(flat)
    if rivals:
        parts.append(rivals)
        severity = "warning" if "warning" in (severity, worse) else worse
    if severity == "ok":
        text = "The likelihood is curved enough in every direction"
        text += f"; {about}." if about else "."
        return Finding(name, severity, flat.condition, measure, text)
    advice = (
        "Groups followed for longer would tell more; until then report the profile "
        "intervals (conf_int_re), or choose the covariance on grounds of design"
    )
    text = " ".join(f"{part}." for part in parts)
    return Finding(name, severity, flat.condition, measure, f"{text} {advice}.")


def _ridge(flat: Flatness) -> tuple[str, list[str]]:
    """The two estimates that trade off most, if any do."""
    first, second, r = flat.correlated
    if abs(r) < 0.9:
        return "", []
    text = (
        f"the estimates of {first!r} and {second!r} are correlated by {r:+.2f}, which "
        "their standard errors take account of"
    )
    return text, [text[0].upper() + text[1:]]


def _residual_parameter(flat: Flatness) -> tuple[str, str]:
    """How much is known of the correlation of neighbours."""
    if len(flat.across_gap) == 0:
        return "", "ok"
    low, high = flat.across_gap[["lower", "upper"]].iloc[0]
    parameter = str(flat.intervals.index[0])
    lower, upper = flat.intervals[["lower", "upper"]].iloc[0]
    width = abs(float(high - low))
    inflation = flat.inflation.get(parameter, np.inf)
    if not width > _WIDE:
        return "", "ok"
    text = (
        f"the data allow {parameter!r} anything from {number(lower, 2)} to "
        f"{number(upper, 2)} (95% profile interval)"
    )
    text = text[0].upper() + text[1:]
    if inflation > _INFLATED and np.isfinite(inflation):
        text += (
            f", {inflation:.0f} times the range if the variances were known: the "
            "likelihood is flat between them"
        )
        return text, "warning"
    return text, "warning" if width > _VERY_WIDE else "note"


def _rivals(flat: Flatness) -> tuple[str, str]:
    """Whether serial correlation and random effects can replace one another."""
    if len(flat.rivals) < 3:
        return "", "ok"
    names = list(flat.rivals)
    serial, effects, both = flat.rivals.values()
    if serial < _CLOSE and effects < _CLOSE and both > _CLOSE + 1.0:
        return (
            f"Without the {names[0]} the log-likelihood falls by {number(serial, 2)} "
            f"only, without {names[1]} by {number(effects, 2)}, without both by "
            f"{number(both, 2)}: one can stand in for the other",
            "warning",
        )
    if both < _CLOSE:
        return (
            f"Without {joined(['the ' + names[0], names[1]])} together the "
            f"log-likelihood falls by {number(both, 2)} only: a simpler covariance "
            "fits as well",
            "note",
        )
    return "", "ok"
