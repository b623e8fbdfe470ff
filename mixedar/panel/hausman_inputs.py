"""
What two fits must have in common before Hausman's test can compare them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mixedar.exceptions import UnsupportedError
from mixedar.panel.auxiliary import column_sizes, independent_columns, r_factor
from mixedar.panel.data import PanelData
from mixedar.panel.fixed_effects import remove_effects

__all__ = [
    "check_kinds",
    "check_samples",
    "common_names",
    "require_classical",
    "unlike_coefficients",
]

_KINDS = {
    "fe": "fixed effects",
    "re": "random effects",
    "between": "between effects",
    "fd": "first differences",
    "pooled": "pooled least squares",
    "fe_ar1": "fixed effects with AR(1) errors",
    "re_ar1": "random effects with AR(1) errors",
}
_CLASSICAL = ("classical", "observed")


def check_kinds(fe: Any, re: Any) -> None:
    """
    Refuse fits that are not fixed effects first and random effects second.

    Parameters
    ----------
    fe, re : PanelResults

    Raises
    ------
    UnsupportedError
        Naming what was passed and what to pass.
    """
    kinds = [getattr(fit, "kind", None) for fit in (fe, re)]
    shown = [
        _KINDS.get(str(kind), type(fit).__name__)
        for kind, fit in zip(kinds, (fe, re), strict=True)
    ]
    families = [str(kind).removesuffix("_ar1") for kind in kinds]
    if families == ["re", "fe"]:
        raise UnsupportedError(
            "hausman: the arguments are swapped: the first is the fit of "
            f"{shown[0]}, the second that of {shown[1]}; call hausman(fe, re)"
        )
    if families[0] != "fe":
        raise UnsupportedError(
            f"hausman: the first argument is {shown[0]}; it must be a fit of "
            "fixed_effects(...), which is consistent either way"
        )
    if families[1] != "re":
        raise UnsupportedError(
            f"hausman: the second argument is {shown[1]}; it must be a fit of "
            "random_effects(...) or of mixedlm(...). To test pooled least squares "
            "against fixed effects use f_test_effects(fe)"
        )
    if len({str(kind).endswith("_ar1") for kind in kinds}) > 1:
        raise UnsupportedError(
            f"hausman: {shown[0]} cannot be compared with {shown[1]}: both or neither "
            "must have AR(1) errors"
        )
    effects = [set(fit.estimate.effects) for fit in (fe, re)]
    if "entity" not in effects[0]:
        raise UnsupportedError(
            "hausman: the fixed effects are those of periods only; the test is about "
            "effects of entities: fit fixed_effects with entity effects"
        )
    if "time" in effects[0] and "time" not in effects[1]:
        raise UnsupportedError(
            "hausman: fixed effects has period effects and random effects has none, so "
            "that they differ for other reasons; put period dummies, C(time), into "
            "both formulas instead"
        )


def check_samples(a: PanelData, b: PanelData, names: tuple[str, str]) -> None:
    """
    Refuse fits to different rows or responses.

    Parameters
    ----------
    a, b : PanelData
    names : tuple of str
        What to call them.

    Raises
    ------
    UnsupportedError
        Naming an entity and time that one of them lacks, or where responses
        differ.
    """
    if a is b:
        return
    if not _same_rows(a, b):
        _refuse_rows(a, b, names)
    # both are sorted by entity and time, so that rows correspond
    apart = np.flatnonzero(~np.isclose(a.y, b.y, rtol=1e-12, atol=0.0))
    if len(apart):
        entity, time = _row_keys(a)[apart[0]]
        raise UnsupportedError(
            f"hausman: the responses differ ({a.endog_name!r} and {b.endog_name!r}), "
            f"first for {a.entity_name} {entity!r} at {a.time_name} {time!r}; compare "
            "fits of the same response"
        )


def _same_rows(a: PanelData, b: PanelData) -> bool:
    pairs = (
        (a.entity, b.entity),
        (a.time, b.time),
        (a.entity_labels, b.entity_labels),
        (a.time_labels, b.time_labels),
    )
    return all(np.array_equal(left, right) for left, right in pairs)


def _refuse_rows(a: PanelData, b: PanelData, names: tuple[str, str]) -> None:
    keys = [_row_keys(panel) for panel in (a, b)]
    sets = [set(key) for key in keys]
    for k in (0, 1):
        only = [key for key in keys[k] if key not in sets[1 - k]]
        if only:
            entity, time = only[0]
            raise UnsupportedError(
                f"hausman: the fits use different rows: {len(only)} of the "
                f"{len(keys[k])} rows of {names[k]} are not in {names[1 - k]}, "
                f"first {a.entity_name} {entity!r} at {a.time_name} {time!r}; fit "
                "both to the same rows (missing values in a regressor of one "
                "model drop rows from that model only)"
            )


def _row_keys(panel: PanelData) -> list[tuple[Any, Any]]:
    entities = panel.entity_labels[panel.entity].tolist()
    times = panel.time_labels[panel.time].tolist()
    return list(zip(entities, times, strict=True))


def common_names(fe: Any, re: Any) -> list[str]:
    """
    Coefficients to compare.

    Parameters
    ----------
    fe, re : PanelResults

    Returns
    -------
    list of str
        Those of both fits without the constant, in the order of `re`.

    Raises
    ------
    UnsupportedError
        If one model has a regressor that the other lacks, unless fixed effects
        absorb it.
    """
    panel: PanelData = re.panel
    constants = {
        fit.panel.names[fit.panel.constant]
        for fit in (fe, re)
        if fit.panel.constant is not None
    }
    names_fe = [name for name in fe.params.index if name not in constants]
    names_re = [name for name in re.params.index if name not in constants]
    missing = [name for name in names_fe if name not in names_re]
    extra = [name for name in names_re if name not in names_fe]
    extra = [name for name in extra if name not in fe.absorbed]
    if extra:
        extra = _not_absorbed(panel, [n for n in names_re if n in names_fe], extra)
    if missing or extra:
        lacking = "random" if missing else "fixed"
        raise UnsupportedError(
            f"hausman: {missing or extra} is not among the regressors of {lacking} "
            "effects; compare models with the same regressors"
        )
    return [name for name in names_re if name in names_fe]


def _not_absorbed(panel: PanelData, base: list[str], extra: list[str]) -> list[str]:
    """Extra regressors that vary within entities beyond what `base` does."""
    columns = [panel.names.index(name) for name in [*base, *extra]]
    x = panel.x[:, columns] - panel.x[:, columns].mean(axis=0)
    triangle = r_factor(panel.demean(x) / column_sizes(x))
    kept = independent_columns(triangle)
    return [n for n, k in zip(extra, kept[len(base) :], strict=True) if k]


def require_classical(fe: Any, re: Any, method: str) -> str | None:
    """
    Say what is wrong with covariances that are not classical.

    Parameters
    ----------
    fe, re : PanelResults
    method : str
        Name of the form that needs classical covariances.

    Returns
    -------
    str or None
        None if both are classical.
    """
    wrong = [
        f"{name} has cov_type={fit.cov_type!r}"
        for name, fit in (("fe", fe), ("re", re))
        if fit.cov_type not in _CLASSICAL
    ]
    if not wrong:
        return None
    return (
        f"the {method} form needs classical covariances, and {' and '.join(wrong)}: "
        "the difference of robust covariances is not that of the difference; refit "
        "with the classical one, or use method='mundlak-robust'"
    )


def unlike_coefficients(fe: Any, re: Any) -> str | None:
    """
    Say why coefficients of the same name do not mean the same.

    Fixed effects leave out a regressor that varies within entities but is a
    combination of others there; random effects keep it, and with it the others
    get another meaning.

    Parameters
    ----------
    fe, re : PanelResults

    Returns
    -------
    str or None
        None if the comparison is one of like with like.
    """
    panel = fe.panel
    kept = {re.panel.names[j] for j in re.estimate.columns}
    names = [name for name in fe.absorbed if name in kept]
    if not names:
        return None
    columns = panel.x[:, [panel.names.index(name) for name in names]]
    columns = columns - columns.mean(axis=0)
    within = remove_effects(panel, columns, fe.estimate.effects)
    left = np.sqrt((within**2).sum(axis=0)) > 1e-7 * np.sqrt((columns**2).sum(axis=0))
    moved = [name for name, varies in zip(names, left, strict=True) if varies]
    if not moved:
        return None
    return (
        f"fixed effects left out {', '.join(moved)} (collinear with other regressors "
        "within entities) and random effects did not, so that coefficients of the same "
        "name differ in meaning; write the model without it, or use method='mundlak'"
    )
