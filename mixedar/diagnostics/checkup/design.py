"""
Checks of the design: collinear columns, few or uneven groups, odd units of time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from mixedar._types import FloatArray
from mixedar.diagnostics.checkup.finding import Finding, joined, number
from mixedar.exceptions import MixedARError, shown
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


def fixed_design(fit: Any) -> Finding:
    """
    Whether columns of the fixed-effects design nearly depend on others.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    Finding
    """
    columns = fit.model._rows.w[:, : fit.k_fe]
    return _conditioning("fixed design", columns, fit._names[: fit.k_fe])


def random_design(fit: Any) -> Finding:
    """
    The same for the random-effects design.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    Finding
    """
    model = fit.model
    rows = model._rows
    weights = np.sqrt(np.repeat(rows.weights, np.diff(rows.offsets)))
    columns = rows.z[:, : fit.k_re] * weights[:, None]
    names = list(model.data.exog_re_names)
    return _conditioning("random design", columns, names)


def _conditioning(name: str, columns: FloatArray, names: list[str]) -> Finding:
    """Scaled condition number, and the columns behind it."""
    measure = "condition number"
    if columns.shape[1] < 2:
        return Finding(
            name, "ok", 1.0, measure, "It has no two columns to be collinear."
        )
    lengths = np.sqrt((columns**2).sum(axis=0))
    _, sizes, right = np.linalg.svd(r_factor(columns / lengths))
    condition = float(sizes[0] / sizes[-1]) if sizes[-1] > 0.0 else np.inf
    if condition < _COLLINEAR:
        return Finding(name, "ok", condition, measure, "Its columns are distinct.")
    share = np.abs(right[-1])
    involved = [repr(names[k]) for k in np.argsort(-share)[:4] if share[k] > 0.3]
    text = f"{joined(involved)} nearly depend on one another"
    if name.startswith("random"):
        advice = (
            "Centre the covariate: the variance of the first effect and its "
            "correlation with the second are those at zero, far from the data"
        )
    else:
        advice = (
            "If one of them is a covariate far from zero, such as a year, centre it: "
            "the intercept then is the mean at a value within the data; otherwise the "
            "single coefficients mean little, their sums and fitted values are sound"
        )
    if condition < _LOST:
        return Finding(
            name,
            "note",
            condition,
            measure,
            f"{text}. {advice}. Estimation is not harmed: it works in rotated columns.",
        )
    return Finding(
        name,
        "warning",
        condition,
        measure,
        f"{text}, so much that digits are lost. {advice}.",
    )


def number_of_groups(fit: Any) -> Finding:
    """
    Whether there are so few groups that degrees of freedom matter.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    Finding
    """
    name, measure, m = "number of groups", "groups", int(fit.n_groups)
    random = fit.k_re + fit.k_vc > 0
    if m < _VERY_FEW and random:
        text = (
            f"Variances between groups are estimated from {m} groups, which is next to "
            "nothing. Treat them as unknown rather than as estimated: use "
            "df='kenward-roger', or make the groups fixed effects."
        )
        return Finding(name, "warning", float(m), measure, text)
    if fit.df_method in _EXACT:
        return Finding(
            name, "ok", float(m), measure, "Degrees of freedom come from the data."
        )
    try:
        exact = np.asarray(fit.with_df("satterthwaite").df_resid, dtype=float)
    except MixedARError as error:
        if m >= _FEW or not random:
            return Finding(name, "ok", float(m), measure, f"There are {m} groups.")
        text = f"With {m} groups degrees of freedom matter, but {error}."
        return Finding(name, "note", float(m), measure, text)
    used = np.asarray(fit.df_resid, dtype=float)
    ratio = stats.t.isf(0.025, np.maximum(exact, 1.0)) / stats.t.isf(0.025, used)
    k = int(np.argmax(ratio))
    excess = float(ratio[k]) - 1.0
    if excess < _NARROW:
        return Finding(
            name,
            "ok",
            float(m),
            measure,
            f"There are {m} groups, enough for the tests.",
        )
    count = f"{m} groups" if m > 1 else "one group"
    advice = "'kenward-roger'" if fit.reml else "'satterthwaite'"
    return Finding(
        name,
        "note",
        float(m),
        measure,
        f"{fit.df_method} gives {fit._names[k]!r} {number(float(used[k]))} degrees of "
        f"freedom, Satterthwaite's method {number(float(exact[k]))}: with {count} "
        f"the 95% interval is {100 * excess:.0f}% too narrow. Use "
        f"fit.with_df({advice}).",
    )


def balance(fit: Any) -> Finding:
    """
    Whether groups are of very unequal use.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    Finding
    """
    name, measure = "group sizes", "share of groups with one row"
    sizes = np.asarray(fit.model._grouped.sizes)
    single = float((sizes == 1).mean())
    largest = float(sizes.max() / sizes.sum())
    label = shown(fit.model.group_labels[int(np.argmax(sizes))])
    if single > _MANY_SINGLE:
        text = (
            f"{100 * single:.0f}% of the groups have one observation. They help to "
            "estimate the fixed effects, but say nothing of the variation and the "
            "correlation within groups, which rest on the others"
        )
        severity = "warning" if single > _MOST_SINGLE else "note"
        return Finding(
            name,
            severity,
            single,
            measure,
            f"{text}: ask whether groups with one observation are like them.",
        )
    if largest > 0.5 and len(sizes) > 2:
        return Finding(
            name,
            "note",
            single,
            measure,
            f"Group {label} has {100 * largest:.0f}% of all observations: what is "
            "estimated within groups is mostly its own. See its influence.",
        )
    few = float((sizes <= fit.k_re).mean()) if fit.k_re > 1 else 0.0
    if few > 0.5:
        return Finding(
            name,
            "note",
            single,
            measure,
            f"{100 * few:.0f}% of the groups have no more observations than there are "
            f"random effects ({fit.k_re}): their effects are mostly shrinkage, and the "
            "residual variance rests on the other groups.",
        )
    text = f"Groups have {sizes.min()} to {sizes.max()} observations."
    if sizes.min() == sizes.max():
        text = f"Every group has {sizes[0]} observations."
    return Finding(name, "ok", single, measure, text)


def unit_of_time(fit: Any) -> Finding:
    """
    Whether times are what the residual structure takes them for.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    Finding
    """
    name, measure = "time", "median gap, in units of time"
    model, structure = fit.model, fit.structure
    if structure.k_params == 0 or not structure.uses_time:
        text = f"{structure.label.capitalize()} residuals make no use of time."
        return Finding(name, "ok", np.nan, measure, text)
    gaps = model._grouped.gaps
    gaps = gaps[gaps > 0.0]
    if len(gaps) == 0:
        text = "No two observations belong to the same series."
        return Finding(name, "note", np.nan, measure, text)
    median = float(np.median(gaps))
    if model.time is None:
        sizes = model._grouped.sizes
        if sizes.min() == sizes.max():
            text = "The order of the rows counts as time, one unit a row."
            return Finding(name, "ok", median, measure, text)
        return Finding(
            name,
            "note",
            median,
            measure,
            "The order of the rows counts as time, and groups differ in size: if "
            "observations are missing in between, neighbours are taken to be closer "
            "than they are. Name the column with the times, time=.",
        )
    unit = "one unit of time" if model.time_unit == "1" else f"1 {model.time_unit}"
    values = [
        f"{k} = {v:.6g}" for k, v in zip(structure.param_names, fit._residual_values,
                                        strict=True)
    ]  # fmt: skip
    if (median >= 10.0 or median <= 0.1) and not structure.marks:
        across = structure.correlation(
            np.array([0.0, median]), np.asarray(fit._residual_values)
        )[0, 1]
        return Finding(
            name,
            "note",
            median,
            measure,
            f"Observations are typically {number(median)} units apart, while "
            f"{joined(values)} is for {unit}. Across a typical gap the correlation of "
            f"residuals is {number(float(across))}: report that, or count time in a "
            "unit like the gaps.",
        )
    if float((gaps < _NEAR * median).mean()) > _MANY_NEAR:
        return Finding(
            name,
            "note",
            median,
            measure,
            f"Some observations of a group are only {number(float(gaps.min()))} apart, "
            f"where {number(median)} is typical. The model takes them to be nearly the "
            "same measurement; if they are repeats with errors of their own, average "
            "them.",
        )
    irregular = float((gaps > 1.5 * gaps.min()).mean())
    text = f"Observations are typically {number(median)} apart"
    if irregular > 0.0:
        text += f"; {100 * irregular:.0f}% of the gaps are longer, which is respected"
    return Finding(name, "ok", median, measure, f"{text}.")
