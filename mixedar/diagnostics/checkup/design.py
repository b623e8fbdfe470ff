"""
Checks of the data: collinear columns, groups that are few, uneven, outlying or
influential, odd units of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats

from mixedar._types import FloatArray
from mixedar.diagnostics.checkup.finding import (
    Check,
    Finding,
    joined,
    number,
    sentence_case,
)
from mixedar.diagnostics.influence.results import GroupInfluence
from mixedar.exceptions import MixedARError, shown
from mixedar.fit import Fit
from mixedar.inference.df import contrast_method, covariance
from mixedar.numeric.linalg import r_factor

# Belsley, Kuh and Welsch (1980), section 3.2: from 30 on, moderate to strong.
_COLLINEAR, _LOST = 30.0, 1e6
# Shares of groups with one observation.
_MANY_SINGLE, _MOST_SINGLE = 0.3, 0.7
# Groups.
_FEW, _VERY_FEW = 30, 10
# An interval that is too narrow by this share.
_NARROW = 0.05
# Gaps of less than this share of the median, and share of gaps that may be such.
_NEAR, _MANY_NEAR = 1e-3, 0.01
_EXACT = ("satterthwaite", "kenward-roger")
# Changes by one group, in standard errors, that matter: of fixed effects (worth
# a note, a warning) and of covariance parameters.  With few groups each of them
# matters more even if all is well: the other limit falls with the root of their
# number, and is passed by one correct model in about a hundred.
_NOTED, _FIXED, _THETA = 0.5, 1.0, 2.0
_CHANCE, _CHANCE_THETA = 6.0, 12.0
# Groups that are named.
_NAMED = 3


def fixed_design(fit: Fit) -> Finding:
    """Whether columns of the fixed-effects design nearly depend on others."""
    columns = fit.data.compressed.w[:, : fit.k_fe]
    advice = (
        "If one of them is a covariate far from zero, such as a year, centre it: "
        "the intercept then is the mean at a value within the data; otherwise the "
        "single coefficients mean little, their sums and fitted values are sound"
    )
    return _conditioning("fixed design", columns, fit.exog_names, advice)


def random_design(fit: Fit) -> Finding:
    """The same for the random-effects design."""
    rows = fit.data.compressed
    weights = np.sqrt(np.repeat(rows.weights, np.diff(rows.offsets)))
    columns = rows.z[:, : fit.k_re] * weights[:, None]
    advice = (
        "Centre the covariate: the variance of the first effect and its "
        "correlation with the second are those at zero, far from the data"
    )
    return _conditioning("random design", columns, fit.data.random_names, advice)


def _conditioning(
    name: str, columns: FloatArray, names: Sequence[str], advice: str
) -> Finding:
    """Scaled condition number, and the columns behind it."""
    check = Check(name, "condition number")
    if columns.shape[1] < 2:
        return check.ok(1.0, "It has no two columns to be collinear.")
    lengths = np.sqrt((columns**2).sum(axis=0))
    _, sizes, right = np.linalg.svd(r_factor(columns / lengths))
    condition = float(sizes[0] / sizes[-1]) if sizes[-1] > 0.0 else np.inf
    if condition < _COLLINEAR:
        return check.ok(condition, "Its columns are distinct.")
    share = np.abs(right[-1])
    involved = [repr(names[k]) for k in np.argsort(-share)[:4] if share[k] > 0.3]
    text = f"{joined(involved)} nearly depend on one another"
    if condition < _LOST:
        sound = "Estimation is not harmed: it works in rotated columns."
        return check.note(condition, f"{text}. {advice}. {sound}")
    return check.warning(condition, f"{text}, so much that digits are lost. {advice}.")


def _scarcest(fit: Fit) -> tuple[int, str]:
    """Levels of the factor of random effects that has the fewest, and what they are."""
    terms = [term for term in fit.data.factor_terms if term.smooth is None]
    found = [(len(term.levels), f"levels of {term.factor}") for term in terms]
    if fit.k_re + fit.k_vc > 0 or not found:
        found.append((fit.n_groups, "groups"))
    return min(found)


def number_of_groups(fit: Fit) -> Finding:
    """Whether there are so few groups that degrees of freedom matter."""
    m, what = _scarcest(fit)
    check = Check("number of groups", what)
    random = fit.k_re + fit.k_vc > 0 or what != "groups"
    if m < _VERY_FEW and random:
        return check.warning(
            float(m),
            f"Variances between {what} are estimated from {m} of them, which is next "
            "to nothing. Treat them as unknown rather than as estimated: use "
            "df='kenward-roger', or make fixed effects of them.",
        )
    method = fit.df_method.name
    if method in _EXACT:
        return check.ok(float(m), "Degrees of freedom come from the data.")
    each = np.eye(fit.k_fe)
    try:
        exact = contrast_method(fit, "satterthwaite").single(each)
    except MixedARError as error:
        if m >= _FEW or not random:
            return check.ok(float(m), f"There are {m} {what}.")
        return check.note(
            float(m), f"With {m} {what} degrees of freedom matter, but {error}."
        )
    used = contrast_method(fit).single(each)
    ratio = stats.t.isf(0.025, np.maximum(exact, 1.0)) / stats.t.isf(0.025, used)
    k = int(np.argmax(ratio))
    excess = float(ratio[k]) - 1.0
    if excess < _NARROW:
        return check.ok(float(m), f"There are {m} {what}, enough for the tests.")
    count = f"{m} {what}" if m > 1 or what != "groups" else "one group"
    advice = "'kenward-roger'" if fit.reml else "'satterthwaite'"
    return check.note(
        float(m),
        f"{method} gives {fit.names[k]!r} {number(float(used[k]))} degrees of "
        f"freedom, Satterthwaite's method {number(float(exact[k]))}: with {count} "
        f"the 95% interval is {100 * excess:.0f}% too narrow. Use "
        f"fit.with_df({advice}).",
    )


def group_sizes(fit: Fit) -> Finding:
    """Whether groups are of very unequal use."""
    check = Check("group sizes", "share of groups with one row")
    sizes = fit.data.group_sizes
    single = float((sizes == 1).mean())
    largest = float(sizes.max() / sizes.sum())
    if single > _MANY_SINGLE:
        return check.found(
            "warning" if single > _MOST_SINGLE else "note",
            single,
            f"{100 * single:.0f}% of the groups have one observation. They help to "
            "estimate the fixed effects, but say nothing of the variation and the "
            "correlation within groups, which rest on the others: ask whether groups "
            "with one observation are like them.",
        )
    if largest > 0.5 and len(sizes) > 2:
        label = shown(fit.data.group_labels[int(np.argmax(sizes))])
        return check.note(
            single,
            f"Group {label} has {100 * largest:.0f}% of all observations: what is "
            "estimated within groups is mostly its own. See its influence.",
        )
    few = float((sizes <= fit.k_re).mean()) if fit.k_re > 1 else 0.0
    if few > 0.5:
        return check.note(
            single,
            f"{100 * few:.0f}% of the groups have no more observations than there are "
            f"random effects ({fit.k_re}): their effects are mostly shrinkage, and the "
            "residual variance rests on the other groups.",
        )
    text = f"Groups have {sizes.min()} to {sizes.max()} observations."
    if sizes.min() == sizes.max():
        text = f"Every group has {sizes[0]} observations."
    return check.ok(single, text)


def unit_of_time(fit: Fit) -> Finding:
    """Whether times are what the residual structure takes them for."""
    check = Check("time", "median gap, in units of time")
    data, structure = fit.data, fit.structure
    if not (structure.uses_time or data.takes_row_order):
        label = structure.label.capitalize()
        return check.ok(np.nan, f"{label} residuals make no use of time.")
    gaps = data.grouped.gaps
    gaps = gaps[gaps > 0.0]
    if len(gaps) == 0:
        return check.note(np.nan, "No two observations belong to the same series.")
    median = float(np.median(gaps))
    if data.time is None:
        text = (
            "No time= was given: the order of the rows counts as time, one unit a "
            "row. Name the column with the times, time="
        )
        if data.group_sizes.min() != data.group_sizes.max():
            text += (
                "; groups differ in size, and if observations are missing in between, "
                "neighbours are taken to be closer than they are"
            )
        return check.note(median, f"{text}.")
    if (median >= 10.0 or median <= 0.1) and not structure.marks:
        return check.note(median, _far_from_the_unit(fit, median))
    if float((gaps < _NEAR * median).mean()) > _MANY_NEAR:
        return check.note(
            median,
            f"Some observations of a group are only {number(float(gaps.min()))} apart, "
            f"where {number(median)} is typical. The model takes them to be nearly the "
            "same measurement; if they are repeats with errors of their own, average "
            "them.",
        )
    irregular = float((gaps > 1.5 * gaps.min()).mean())
    text = f"Observations are typically {number(median)} apart"
    if irregular > 0.0:
        text += f"; {100 * irregular:.0f}% of the gaps are longer, which is respected"
    return check.ok(median, f"{text}.")


def _far_from_the_unit(fit: Fit, gap: float) -> str:
    structure, params, unit = fit.structure, fit.residual_params, fit.data.time_unit
    unit = "one unit of time" if unit == "1" else f"1 {unit}"
    pairs = zip(structure.param_names, params, strict=True)
    values = [f"{name} = {value:.6g}" for name, value in pairs]
    across = structure.correlation(np.array([0.0, gap]), params)[0, 1]
    return (
        f"Observations are typically {number(gap)} units apart, while "
        f"{joined(values)} is for {unit}. Across a typical gap the correlation of "
        f"residuals is {number(float(across))}: report that, or count time in a "
        "unit like the gaps."
    )


def outlying_groups(influence: GroupInfluence, alpha: float) -> Finding:
    """Whether groups are too far out to belong to the model."""
    check = Check("outlying groups", "smallest p-value, adjusted")
    table = influence.outlier_test(external=True)
    # two tests a group
    p = (2.0 * table[["p_adj_re", "p_adj_within"]].min(axis=1)).clip(upper=1.0)
    smallest = float(p.min()) if p.notna().any() else np.nan
    far = p[p < alpha].sort_values(kind="stable").index
    if len(far) == 0:
        text = "No group lies farther out than chance would have it."
        return check.ok(smallest, text)
    named = []
    for label in far[:_NAMED]:
        effects, within = table.loc[label, ["p_adj_re", "p_adj_within"]].fillna(1.0)
        how = "its scatter around its own level"
        if effects <= within:
            how = "its level" if influence.fit.k_re < 2 else "its level or slope"
        named.append(f"{shown(label)} ({how})")
    more = f" and {len(far) - _NAMED} more" if len(far) > _NAMED else ""
    which, data, them = f"Groups {joined(named)}{more} lie", "their data", "them"
    if len(far) == 1:
        which, data, them = f"Group {joined(named)} lies", "its data", "it"
    return check.warning(
        smallest,
        f"{which} farther out "
        f"than the normal distribution allows. Look at {data}: an error of recording, "
        "another population, or heavy tails. Outlying groups inflate the variances; "
        f"report the fit without {them} as well.",
    )


def influential_groups(influence: GroupInfluence) -> Finding:
    """Whether an estimate rests on a single group."""
    found, lost = _influential(influence), len(influence.unsettled)
    if not lost:
        return found
    rough = (
        f"Without {lost} of {len(influence.converged)} groups no maximum was found, so "
        "that these changes are rough: fit.influence().converged says which."
    )
    return replace(found, sentence=f"{found.sentence} {rough}")


def _influential(influence: GroupInfluence) -> Finding:
    """The same, wherever the search without a group ended."""
    check = Check("influential groups", "largest change, in standard errors")
    # with the errors of the fit: those without the group vary too
    errors = np.sqrt(np.diag(covariance(influence.fit)))[: influence.fit.k_fe]
    fixed = influence.dfbeta.div(errors, axis=1)
    lost = influence.params[list(fixed.columns)].isna().any(axis=1)
    if lost.any():
        labels = [shown(label) for label in lost.index[lost][:_NAMED]]
        return check.warning(
            np.inf,
            f"Without group {joined(labels, 'or')} a fixed effect could not be "
            "estimated: it rests on that group alone. Drop the coefficient, or say so.",
        )
    root = np.sqrt(len(fixed))
    of_fixed, of_theta = _largest(fixed), _largest(influence.dftheta)
    value, theta = abs(of_fixed[2]), abs(of_theta[2])
    moved = []
    if value > max(_NOTED, _CHANCE / root):
        moved.append(_without(influence, *of_fixed))
    severity = "warning" if value > max(_FIXED, _CHANCE / root) else "note"
    if theta > max(_THETA, _CHANCE_THETA / root):
        moved.append(_without(influence, *of_theta))
        value = max(value, theta)
    if not moved:
        return check.ok(
            value,
            "No single group moves a fixed effect by more than "
            f"{number(value, 2)} standard errors.",
        )
    return check.found(
        severity,
        value,
        f"{sentence_case(joined(moved))}. Look at that group, and report the estimates "
        "with and without it; fit.influence().plot_index() shows all groups.",
    )


def _without(influence: GroupInfluence, group: int, name: str, change: float) -> str:
    """What an estimate would be without a group, in words."""
    fit, params = influence.fit, influence.params
    whole = np.append(fit.params, fit.scale)[list(params.columns).index(name)]
    return (
        f"without group {shown(params.index[group])} {name!r} would be "
        f"{number(float(params[name].iloc[group]))} instead of {number(float(whole))} "
        f"({abs(change):.1f} standard errors)"
    )


def _largest(frame: pd.DataFrame) -> tuple[int, str, float]:
    """Group, column and value of the largest change."""
    values = np.nan_to_num(frame.to_numpy(dtype=float))
    if values.size == 0:
        return 0, "", 0.0
    i, k = divmod(int(np.argmax(np.abs(values))), values.shape[1])
    return i, str(frame.columns[k]), float(values[i, k])
