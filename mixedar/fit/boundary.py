"""
What lies on the boundary of a fit, or is not determined by its data, in words.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import compress

import numpy as np

from mixedar.fit.fit import Fit

_LISTED = 4  # fixed effects that a note names


def boundary_notes(fit: Fit) -> list[str]:
    """
    What exactly lies on the boundary.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    list of str
        Empty if nothing does.
    """
    if fit.unbounded:
        return [
            "The likelihood has no maximum, it rises for ever as residual variation "
            f"vanishes, {fit.unbounded}. Do not use these numbers, which have no "
            "standard errors: leave such rows out, or take a simpler residual "
            "structure or variance function"
        ]
    notes, plain = unseen_notes(fit), plain_smooths(fit)
    notes += [
        f"{label} is {what}: the variance of its coefficients is zero"
        for label, what in plain.values()
    ]
    singular = _singular_part(fit, plain) if fit.singular else ""
    if singular:
        notes.append(f"The random effects covariance is singular: {singular}")
    if fit.estimate.residual_at_boundary:
        at_end = at_end_values(fit)
        values = ", ".join(f"{name} = {value:.6g}" for name, value in at_end.items())
        residual = set(at_end) <= set(fit.residual_names)
        whose = "The residual parameters" if residual else "Parameters"
        note = f"{whose} lie at the end of their range: {values}"
        rho = dict(zip(fit.structure.param_names, fit.residual_names, strict=True))
        if rho.get("rho") in at_end and fit.structure.uses_time:
            note += (
                " for one unit of time (if that is much longer or shorter than "
                "the gaps, count time in another)"
            )
        note += _meanings(fit)
        notes.append(note)
    return notes


def _meanings(fit: Fit) -> str:
    """What it means that parameters of relations are at an end."""
    first, out = fit.structure.k_params, ""
    for one in fit.between:
        if one is not None:
            own = slice(first, first + one.k_params)
            if fit.estimate.at_end[own].any():
                out += one.end_note(fit.estimate.residual_params[own])
            first = own.stop
    return out


def plain_smooths(fit: Fit) -> dict[int, tuple[str, str]]:
    """Smooths whose variance is zero: labels, and what they are, by their effect."""
    if not fit.singular:
        return {}
    smooths = [part.smooth for part in fit.population.parts]
    if fit.has_data:
        smooths = [term.smooth for term in fit.data.terms if term.smooth is not None]
        parts = [part.smooth for part in fit.data.component_parts or ()]
        smooths += [part.smooth for part in parts if part is not None]
    known = {one.label: one.plain for one in smooths}
    return {
        effect: (name, known[name])
        for effect, name in enumerate(fit.effect_names)
        if name in known and fit.estimate.zero[effect] and effect not in fit.unseen
    }


def at_end_values(fit: Fit) -> dict[str, float]:
    """The residual parameters at an end of their range, by name."""
    at_end, values = fit.estimate.at_end, fit.estimate.residual_params
    names = compress(fit.names[len(fit.names) - len(values) :], at_end)
    return dict(zip(names, values[at_end].tolist(), strict=True))


def unseen_notes(fit: Fit) -> list[str]:
    """What the likelihood does not depend on."""
    notes = [_unseen_note(fit, effect) for effect in fit.unseen]
    names = list(compress(fit.residual_names, fit.unseen_correlations))
    if names:
        notes.append(
            f"No group has both occasions of {', '.join(map(repr, names))}: the "
            "likelihood does not depend on such a correlation, and its value means "
            "nothing"
        )
    if fit.flat.dimension:
        notes.append(_flat_note(fit))
    return notes


def _flat_note(fit: Fit) -> str:
    """That the restricted likelihood is constant along parameters, and why."""
    names = [*fit.names[fit.k_fe :], "scale"]
    moving = ", ".join(map(repr, compress(names, fit.flat.params)))
    return (
        f"The restricted likelihood is the same along values of {moving} that change "
        f"together (in {fit.flat.dimension} direction"
        f"{'s' if fit.flat.dimension > 1 else ''}): the fixed effects"
        f"{_listed(fit.flat.columns)} take up what changes. These estimates, and "
        "standard errors of these fixed effects, mean nothing by themselves; leave "
        "out one or the other"
    )


def _listed(columns: tuple[str, ...]) -> str:
    """Fixed effects in brackets, the first few."""
    listed = ", ".join(map(repr, columns[:_LISTED]))
    return f" ({listed}{', ...' if len(columns) > _LISTED else ''})" if columns else ""


def _unseen_note(fit: Fit, effect: int) -> str:
    """That the restricted likelihood cannot see a variance, and why."""
    columns, variance = fit.unseen[effect], fit.layout.entry(effect, effect)
    return (
        "The restricted likelihood is the same for every value of the variance "
        f"{fit.names[fit.k_fe + variance]!r}: in each group the columns of that random "
        f"effect are sums of columns of the fixed effects{_listed(columns)}. It is "
        "taken as zero, and tests of these fixed effects do not count it; leave out "
        "one or the other"
    )


def _singular_part(fit: Fit, known: Collection[int]) -> str:
    """What else is singular than the variances of some effects."""
    names, cov, zero = fit.names[fit.k_fe :], fit.effect_cov, fit.estimate.zero
    parts = []
    for name, i, j in zip(names, *fit.layout.effects, strict=False):
        if {int(i), int(j)} & {*known, *fit.unseen}:
            continue
        if i == j and zero[i]:
            parts.append(f"the variance {name!r} is zero")
        if i == j or zero[i] or zero[j]:
            continue
        correlation = cov[i, j] / np.sqrt(cov[i, i] * cov[j, j])
        least = -1.0 / (fit.k_re - 1.0) if fit.layout.compound and i < fit.k_re else -1
        if least > -1.0 and correlation < least + 1e-6:
            parts.append(
                f"the correlation in {name!r} is {least:.6g}, the least that "
                f"{fit.k_re} effects can share"
            )
        if abs(correlation) > 1.0 - 1e-6:
            parts.append(f"the correlation in {name!r} is {correlation:+.0f}")
    if not parts and not fit.unseen and not known:
        inner = fit.factor @ fit.factor.T
        block = inner[: fit.k_re, : fit.k_re]
        rank = int((np.linalg.eigvalsh(block) > 1e-8).sum())
        parts.append(f"it has rank {rank} of {fit.k_re}")
    return ", ".join(parts)
