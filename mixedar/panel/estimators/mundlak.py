"""
Correlated random effects: means of the entities among the regressors.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.exceptions import IdentificationError, check_choice, listing
from mixedar.mixed import MixedLMAR
from mixedar.numeric.linalg import r_factor
from mixedar.panel.algebra import (
    MEANS_TOLERANCE,
    RANK_TOLERANCE,
    column_sizes,
    independent_columns,
)
from mixedar.panel.data import PanelData
from mixedar.panel.estimators.random_effects import RandomEffects
from mixedar.panel.estimators.simple import PooledOLS


def entity_means(panel: PanelData) -> tuple[FloatArray, IntArray]:
    """
    Means of the entities that add something to the columns of a panel.

    Of regressors that vary within and between entities, unless other columns span
    them; shape (n, m), and the columns they belong to.
    """
    x = panel.x
    grand = x.mean(axis=0)
    if panel.constant is not None:
        grand[panel.constant] = 0.0
        x = x - grand
    between = panel.per_row(panel.entity_means(x))
    sizes = column_sizes(x)
    varies = column_sizes(x - between) > RANK_TOLERANCE * sizes
    varies &= np.any(x != between, axis=0)
    candidates = np.flatnonzero(varies)
    # so much longer that differences of the means by rounding fall below the tolerance
    lengths = sizes[candidates] * (MEANS_TOLERANCE / RANK_TOLERANCE)
    joint = np.column_stack([x / sizes, between[:, candidates] / lengths])
    columns = candidates[independent_columns(r_factor(joint))[x.shape[1] :]]
    if panel.constant is not None:
        between = between + grand
    return between[:, columns], columns


def mundlak(
    formula: str,
    data: object,
    entity: object = None,
    time: object = None,
    *,
    model: str = "re",
    subset: object = None,
    missing: str = "none",
    eval_env: object = None,
    **options: Any,
) -> RandomEffects | PooledOLS | MixedLMAR:
    """
    Random effects with the means of the entities as further regressors.

    The coefficients of the regressors are then those of fixed effects, while
    time-invariant regressors keep a coefficient; that the means have none is what a
    Hausman test tests.

    Parameters
    ----------
    formula : str
        Response and regressors; ``mean(NAME)`` is added for each column of the
        design that varies within and between entities.
    data : DataFrame
    entity, time : str or array_like, optional
        Columns of entities and times, as for the other panel models.
    model : {"re", "pooled", "mixed"}
        Random effects, pooled least squares (to be clustered), or a mixed model
        with AR(1) residuals.
    subset, missing, eval_env
        As for the other panel models.  Means are taken after rows are dropped.
    **options
        For ``model="mixed"`` arguments of ``MixedLMAR`` (``residual``, ``exog_re``,
        ...); its random effect is an intercept by default.

    Returns
    -------
    RandomEffects, PooledOLS or MixedLMAR
        To be fitted; ``means`` holds the names of the means.

    Raises
    ------
    MixedARError
        For data that cannot be used.
    """
    rows = {"subset": subset, "missing": missing, "eval_env": eval_env}
    return _augmented(False, model, (formula, data, entity, time), rows, options)


def within_between(
    formula: str,
    data: object,
    entity: object = None,
    time: object = None,
    *,
    model: str = "re",
    subset: object = None,
    missing: str = "none",
    eval_env: object = None,
    **options: Any,
) -> RandomEffects | PooledOLS | MixedLMAR:
    """
    Random effects with within and between coefficients.

    The model of :func:`mundlak` with ``x - mean(x)`` in place of ``x``: the
    coefficient of ``mean(x)`` is then the between effect itself.

    Parameters
    ----------
    formula, data, entity, time, model, subset, missing, eval_env, **options
        As in :func:`mundlak`.

    Returns
    -------
    RandomEffects, PooledOLS or MixedLMAR
        To be fitted.

    Raises
    ------
    MixedARError
        For data that cannot be used.
    """
    rows = {"subset": subset, "missing": missing, "eval_env": eval_env}
    return _augmented(True, model, (formula, data, entity, time), rows, options)


def _augmented(
    within: bool,
    model: str,
    given: tuple[str, Any, Any, Any],
    rows: dict[str, Any],
    options: dict[str, Any],
) -> RandomEffects | PooledOLS | MixedLMAR:
    """
    The model of `given` formula, data, entity and time with means added.

    If `within` the regressors themselves are replaced by their deviations from the
    means (Mundlak, 1978, Econometrica 46, 69-85).
    """
    check_choice("model", model, ("re", "pooled", "mixed"))
    cls: type[PooledOLS | RandomEffects] = (
        PooledOLS if model == "pooled" else RandomEffects
    )
    rows = rows if model == "mixed" else rows | options
    base = cls.from_formula(*given, **rows)
    panel = base.panel
    means, columns = entity_means(panel)
    if not len(columns):
        names = [panel.names[j] for j in panel.slopes]
        raise IdentificationError(
            "no mean of the entities can be added: no regressor varies both within and "
            f"between {panel.entity_name} ({listing(names)})"
        )
    x = panel.x.copy()
    if within:
        x[:, columns] = panel.demean(x[:, columns])
    added = tuple(f"mean({panel.names[j]})" for j in columns)
    panel = replace(panel, x=np.column_stack([x, means]), names=(*panel.names, *added))
    base.panel, base.means = panel, added
    # new rows come with their means: the formula alone does not give the design
    base.formula_spec = None
    if model != "mixed":
        return base
    groups = panel.entity_labels[panel.unsort(panel.entity)]
    arguments = {"time": panel.given_time, "delta": panel.delta}
    mixed = MixedLMAR(
        panel.series(panel.y, panel.endog_name),
        pd.DataFrame(panel.unsort(panel.x), panel.index, list(panel.names)),
        groups=pd.Series(groups, index=panel.index, name=panel.entity_name),
        **{**arguments, **options},
    )
    mixed.means = added
    return mixed
