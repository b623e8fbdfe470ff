"""
Checks of the maximum: found, inside the parameter space, alone, and sharp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mixedar._types import FloatArray
from mixedar.diagnostics.checkup.finding import (
    Check,
    Finding,
    joined,
    number,
    sentence_case,
)
from mixedar.engine.compress import ClusterRows
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.estimate import Estimate
from mixedar.engine.problem import LikelihoodProblem
from mixedar.engine.search import find_modes
from mixedar.engine.starts import start_beside
from mixedar.exceptions import MixedARError
from mixedar.fit import Fit
from mixedar.fit.boundary import boundary_notes, plain_smooths
from mixedar.inference.df import covariance
from mixedar.inference.information import estimate_correlations, inflation
from mixedar.inference.intervals import conf_int_re
from mixedar.residual import ResidualStructure, resolve

# Compressed rows up to which profiles and other models cost next to nothing.
_CHEAP = 20_000
# Expected gains of the log-likelihood that are no rounding, and such that are.
_GAIN, _ROUNDING = 1e-4, 1e-9
# Maxima whose log-likelihoods differ by less are as good as one another.
_CLOSE = 2.0
# An interval this many times as wide as with the other parameters known.
_INFLATED = 4.0
# Widths, on the scale of correlations, of an interval that says little, nothing.
_WIDE, _VERY_WIDE = 0.6, 1.0


def convergence(fit: Fit) -> Finding:
    """Whether the search ended in a maximum."""
    check, gain = Check("convergence", "possible gain in log-likelihood"), _gain(fit)
    if fit.converged and not gain > _GAIN:
        return check.ok(gain, "The search ended in a maximum of the likelihood.")
    if fit.converged:
        return check.warning(
            gain,
            f"The search says that it converged, but the log-likelihood could still "
            f"rise by about {number(gain)}: fit again with other start_params.",
        )
    return check.found(
        "serious",
        gain,
        "The search did not reach a maximum: do not use these numbers. Fit again with "
        "fit(maxiter=1000), other start_params, or fewer random effects.",
    )


def _gain(fit: Fit) -> float:
    """What a Newton step would gain; zero if it is rounding."""
    problem = fit.problem
    if problem.k_theta == 0:
        return 0.0
    point = problem.evaluate(fit.theta, derivatives=True)
    values, vectors = np.linalg.eigh(-point.hessian)
    slope = vectors.T @ point.gradient
    there = np.abs(values) > 1e-10 * np.abs(values).max()
    gain = float(0.5 * (slope[there] ** 2 / np.abs(values[there])).sum())
    return gain if gain > _ROUNDING else 0.0


def boundary(fit: Fit) -> Finding:
    """Whether an estimate lies on the edge of what is possible."""
    check, notes = Check("boundary", "parameters on the boundary"), boundary_notes(fit)
    if not notes:
        return check.ok(0.0, "No variance is zero and no correlation is one.")
    advice = []
    if fit.singular:
        plain = plain_smooths(fit)
        zero = np.flatnonzero(np.diag(fit.effect_cov) < 1e-8 * fit.scale)
        if plain:
            advice.append(
                "where a smooth does not bend the covariate itself says the same with "
                "a coefficient"
            )
        if {*zero.tolist()} - plain.keys():
            advice.append(
                "the data show no such variation beyond that of the residuals: leave "
                "the term out if nothing in the design asks for it"
            )
        elif fit.layout.compound and not plain:
            advice.append(
                "where the random effects of a group are one and the same a random "
                "intercept says so (re_formula='1'), and where they add up to zero "
                "the groups do not differ in the mean"
            )
        elif not plain:
            advice.append(
                "the random effects move together: centre the covariate of the slope, "
                "take uncorrelated ones (re_cov='diagonal', or || for | in the "
                "formula), or leave a random effect out"
            )
        advice.append(
            "standard errors of variances do not exist there; conf_int_re(method="
            "'profile') gives intervals"
        )
    if fit.estimate.residual_at_boundary:
        advice.append(
            "a residual parameter at its limit hints at a missing random effect, a "
            "trend that is not in the fixed effects, or a unit of time that does not "
            "suit the data"
        )
    return check.found(
        "warning" if fit.estimate.residual_at_boundary else "note",
        float(len(notes)),
        f"{'; '.join(notes)}. That is a legitimate estimate, but: {'; '.join(advice)}.",
    )


def other_maxima(fit: Fit) -> Finding:
    """Whether the likelihood has other maxima, and how far they are."""
    check = Check("other maxima", "log-likelihood above the next maximum")
    maxima = [mode.estimate for mode in fit.modes if mode.search.converged]
    if len(maxima) < 2:
        return check.ok(np.nan, "One maximum was found from all starts.")
    best, next_best = maxima[:2]
    gap = best.llf - next_best.llf
    here, there = _covariance_values(best), _covariance_values(next_best)
    size = np.abs(here) + np.abs(there)
    most = int(np.argmax(np.abs(here - there) / np.where(size > 0.0, size, 1.0)))
    name = [*fit.names[fit.k_fe :], "scale"][most]
    errors = np.sqrt(np.diag(covariance(fit)))[: fit.k_fe]
    moved = np.abs(best.beta - next_best.beta) / errors
    text = (
        f"The likelihood has {len(maxima)} maxima; at the next one {name!r} is "
        f"{number(there[most])} instead of {number(here[most])}, and the fixed effects "
        f"differ by up to {number(float(moved.max(initial=0.0)), 2)} standard errors."
    )
    if gap >= _CLOSE:
        return check.note(
            gap,
            f"{text} The best is higher by {number(gap)} and the data prefer it "
            "clearly; other programs may stop at a lower one (see fit.modes).",
        )
    return check.warning(
        gap,
        f"{text} They differ by {number(gap)} in log-likelihood, too little to choose "
        "by: report both (see fit.modes), or simplify the covariance.",
    )


def _covariance_values(estimate: Estimate) -> FloatArray:
    found = (estimate.cov_values, estimate.residual_params, [estimate.scale])
    return np.concatenate(found)


def highest_maximum(
    fit: Fit,
    rows: ClusterRows,
    structure: ResidualStructure,
    layout: RandomCovariance,
    starts: Sequence[FloatArray] = (),
) -> Estimate | None:
    """
    The highest maximum of another model, or None if it would take long.

    Searches begin at `starts`, maxima of a model that is nearly the same, if given.
    """
    if len(rows.w) > _CHEAP:
        return None
    problem = LikelihoodProblem(
        rows, fit.nobs, structure, layout, reml=fit.reml, scale=fit.problem.scale
    )
    found = [
        find_modes(problem, start=start_beside(problem, theta), alone=True)[0]
        for theta in starts
    ]
    best = max(found or find_modes(problem)[:1], key=lambda mode: mode.search.llf)
    return best.estimate


def identifiability(fit: Fit) -> Finding:
    """Whether the data tell the covariance parameters apart."""
    check = Check("identifiability", "condition number of the estimates")
    if fit.k_estimated - fit.k_fe < 2:
        return check.ok(1.0, "There is one variance only, nothing to confuse it with.")
    widened, condition = inflation(fit)
    condition = condition if widened else np.nan
    first, second, r = most_correlated(fit)
    correlated = (
        f"the estimates of {first!r} and {second!r} are correlated by {r:+.2f}, which "
        "their standard errors take account of"
    )
    problems = [_residual_parameter(fit, widened), _replaceable(falls_without(fit))]
    found = [problem for problem in problems if problem is not None]
    if not found:
        text = "The likelihood is curved enough in every direction"
        return check.ok(
            condition, f"{text}; {correlated}." if abs(r) >= 0.9 else f"{text}."
        )
    severities = {severity for severity, _ in found}
    sentences = [correlated] if abs(r) >= 0.9 else []
    sentences += [text for _, text in found]
    text = " ".join(f"{sentence_case(part)}." for part in sentences)
    return check.found(
        "warning" if "warning" in severities else "note",
        condition,
        f"{text} Groups followed for longer would tell more; until then report the "
        "profile intervals (conf_int_re), or choose the covariance on grounds of "
        "design.",
    )


def most_correlated(fit: Fit) -> tuple[str, str, float]:
    """The two covariance parameters whose estimates are correlated most, and how."""
    names, r = estimate_correlations(fit)
    if len(names) < 2:
        return "", "", 0.0
    r = np.tril(r, -1)
    i, j = np.unravel_index(int(np.argmax(np.abs(r))), r.shape)
    return names[j], names[i], float(r[i, j])


def _residual_parameter(fit: Fit, widened: dict[str, float]) -> tuple[str, str] | None:
    """Severity and text if little is known of the correlation of neighbours."""
    structure, gaps = fit.structure, fit.data.grouped.gaps
    gaps = gaps[gaps > 0.0]
    only = structure.k_free == structure.k_params == 1 and not structure.marks
    if not only or not structure.uses_time or len(gaps) == 0:
        return None
    (name,) = fit.residual_names
    method = "profile" if len(fit.data.compressed.w) <= _CHEAP else "wald"
    interval = conf_int_re(fit, method, parameters=[name]).iloc[0]
    lower, upper = float(interval["lower"]), float(interval["upper"])
    times = np.array([0.0, float(np.median(gaps))])
    low, high = (
        structure.correlation(times, np.array([value]))[0, 1]
        if np.isfinite(value)
        else np.nan
        for value in (lower, upper)
    )
    width = abs(float(high - low))
    if not width > _WIDE:
        return None
    text = (
        f"the data allow {name!r} anything from {number(lower, 2)} to "
        f"{number(upper, 2)} (95% profile interval)"
    )
    times_as_wide = widened.get(name, np.inf)
    if _INFLATED < times_as_wide < np.inf:
        text += (
            f", {times_as_wide:.0f} times the range if the variances were known: the "
            "likelihood is flat between them"
        )
        return "warning", text
    return "warning" if width > _VERY_WIDE else "note", text


def falls_without(fit: Fit) -> dict[str, float]:
    """Falls of the log-likelihood without serial correlation, effects, or both."""
    structure, layout, rows = fit.structure, fit.layout, fit.data.compressed
    # variances of strata have nothing simpler to compare with
    if not structure.k_free or not fit.k_re or structure.marks:
        return {}
    # of several random effects the first stays: it is the intercept as a rule; those
    # that share a variance go together
    keep = 0 if layout.compound else min(fit.k_re - 1, 1)
    names = [repr(name) for name in fit.data.random_names[keep:]]
    serial = f"{structure.label} correlation"
    effects = f"the random effect{'s' * (len(names) > 1)} {' and '.join(names)}"
    count = len(layout.tril[0])
    stays = (layout.tril[0] < keep) & (layout.tril[1] < keep)
    fixed = np.concatenate([layout.fixed[:count][stays], layout.fixed[count:]])
    fewer = replace(layout, k_re=keep, fixed=fixed, compound=False)
    columns = np.r_[0:keep, layout.k_re : layout.order]
    small = replace(rows, z=rows.z[:, columns], marks=None)
    plain = resolve("independent")
    models = {
        serial: (rows, plain, layout),
        effects: (small, structure, fewer),
        f"{serial} and {effects}": (small, plain, fewer),
    }
    out = {}
    for name, model in models.items():
        try:
            best = highest_maximum(fit, *model)
        except (np.linalg.LinAlgError, MixedARError):
            continue
        if best is not None:
            out[name] = max(fit.llf - best.llf, 0.0)
    return out


def _replaceable(falls: dict[str, float]) -> tuple[str, str] | None:
    """The same if serial correlation and random effects can replace one another."""
    if len(falls) < 3:
        return None
    names = list(falls)
    serial, effects, both = falls.values()
    if serial < _CLOSE and effects < _CLOSE and both > _CLOSE + 1.0:
        return (
            "warning",
            f"Without the {names[0]} the log-likelihood falls by {number(serial, 2)} "
            f"only, without {names[1]} by {number(effects, 2)}, without both by "
            f"{number(both, 2)}: one can stand in for the other",
        )
    if both < _CLOSE:
        return (
            "note",
            f"Without {joined(['the ' + names[0], names[1]])} together the "
            f"log-likelihood falls by {number(both, 2)} only: a simpler covariance "
            "fits as well",
        )
    return None
