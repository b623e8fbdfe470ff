"""
Checks of single groups: outlying ones, and influential ones.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixedar.diagnostics.diagnosis_finding import Finding, joined, number
from mixedar.diagnostics.influence import GroupInfluence
from mixedar.exceptions import shown

__all__ = ["influential", "outlying"]

# Changes by one group, in standard errors, that matter: of fixed effects (worth
# a note, a warning) and of covariance parameters.  With few groups each of them
# matters more even if all is well: the other limit falls with the root of their
# number, and is passed by one correct model in about a hundred.
_NOTED, _FIXED, _THETA = 0.5, 1.0, 2.0
_CHANCE, _CHANCE_THETA = 6.0, 12.0
# Groups that are named.
_NAMED = 3


def outlying(influence: GroupInfluence, alpha: float) -> Finding:
    """
    Whether groups are too far out to belong to the model.

    Parameters
    ----------
    influence : GroupInfluence
    alpha : float
        Level of all tests together.

    Returns
    -------
    Finding
    """
    name, measure = "outlying groups", "smallest p-value, adjusted"
    table = influence.outlier_test(external=True)
    parts = table[["p_adj_re", "p_adj_within"]]
    # two tests a group
    p = (2.0 * parts.min(axis=1)).clip(upper=1.0)
    smallest = float(p.min()) if p.notna().any() else np.nan
    far = table[p < alpha]
    if len(far) == 0:
        text = "No group lies farther out than chance would have it."
        return Finding(name, "ok", smallest, measure, text)
    order = p[far.index].sort_values(kind="stable").index
    told = []
    for label in order[:_NAMED]:
        effects = float(table.loc[label, "p_adj_re"])
        within = float(table.loc[label, "p_adj_within"])
        if np.nan_to_num(effects, nan=1.0) <= np.nan_to_num(within, nan=1.0):
            how = "its level" if influence.fit.k_re < 2 else "its level or slope"
        else:
            how = "its scatter around its own level"
        told.append(f"{shown(label)} ({how})")
    more = f" and {len(order) - _NAMED} more" if len(order) > _NAMED else ""
    one = len(order) == 1
    are, data, them = (
        ("lies", "its data", "it") if one else ("lie", "their data", "them")
    )
    return Finding(
        name,
        "warning",
        smallest,
        measure,
        f"Group{'' if one else 's'} {joined(told)}{more} {are} farther out "
        f"than the normal distribution allows. Look at {data}: an error of recording, "
        "another population, or heavy tails. Outlying groups inflate the variances; "
        f"report the fit without {them} as well.",
    )


def influential(influence: GroupInfluence) -> Finding:
    """
    Whether an estimate rests on a single group.

    Parameters
    ----------
    influence : GroupInfluence

    Returns
    -------
    Finding
    """
    name, measure = "influential groups", "largest change, in standard errors"
    fit = influence.fit
    # with the errors of the fit: those without the group vary too
    fixed = influence.dfbeta.div(np.asarray(fit.bse_fe), axis=1)
    theta = influence.dftheta
    lost = influence.params[list(fixed.columns)].isna().any(axis=1)
    if lost.any():
        labels = [shown(label) for label in lost.index[lost][:_NAMED]]
        return Finding(
            name,
            "warning",
            np.inf,
            measure,
            f"Without group {joined(labels, 'or')} a fixed effect could not be "
            "estimated: it rests on that group alone. Drop the coefficient, or say so.",
        )
    root = np.sqrt(len(fixed))
    of_fixed, of_theta = _largest(fixed), _largest(theta)
    value = abs(of_fixed[2])
    told = []
    if abs(of_fixed[2]) > max(_NOTED, _CHANCE / root):
        told.append(_without(influence, *of_fixed))
    if abs(of_theta[2]) > max(_THETA, _CHANCE_THETA / root):
        told.append(_without(influence, *of_theta))
        value = max(value, abs(of_theta[2]))
    if not told:
        text = (
            "No single group moves a fixed effect by more than "
            f"{number(abs(of_fixed[2]), 2)} standard errors."
        )
        return Finding(name, "ok", value, measure, text)
    text = joined(told)
    moves = abs(of_fixed[2]) > max(_FIXED, _CHANCE / root)
    return Finding(
        name,
        "warning" if moves else "note",
        value,
        measure,
        f"{text[0].upper() + text[1:]}. Look at that group, and report the estimates "
        "with and without it; fit.influence().plot_index() shows all groups.",
    )


def _without(influence: GroupInfluence, group: int, name: str, change: float) -> str:
    """What an estimate would be without a group, in words."""
    fit, params = influence.fit, influence.params
    k = list(params.columns).index(name)
    whole = float(np.append(np.asarray(fit.params), fit.scale)[k])
    return (
        f"without group {shown(params.index[group])} {name!r} would be "
        f"{number(float(params[name].iloc[group]))} instead of {number(whole)} "
        f"({abs(change):.1f} standard errors)"
    )


def _largest(frame: pd.DataFrame) -> tuple[int, str, float]:
    """Group, column and value of the largest change."""
    values = np.nan_to_num(frame.to_numpy(dtype=float))
    if values.size == 0:
        return 0, "", 0.0
    i, k = divmod(int(np.argmax(np.abs(values))), values.shape[1])
    return i, str(frame.columns[k]), float(values[i, k])
