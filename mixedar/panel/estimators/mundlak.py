"""
Correlated random effects: means of the entities among the regressors.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.data.formula import capture_namespace
from mixedar.exceptions import IdentificationError
from mixedar.numeric.linalg import r_factor
from mixedar.panel.algebra import RANK_TOLERANCE, column_sizes, independent_columns
from mixedar.panel.checks import check_choice, listing
from mixedar.panel.data import PanelData
from mixedar.panel.estimators.base import PanelModel
from mixedar.panel.estimators.random_effects import RandomEffects
from mixedar.panel.estimators.simple import PooledOLS

if TYPE_CHECKING:
    pass

if TYPE_CHECKING:
    from mixedar.mixed import MixedLMAR


class MundlakDesign(NamedTuple):
    """Columns with the means of the entities after them, and names of the means."""

    x: FloatArray
    names: tuple[str, ...]
    means: tuple[str, ...]


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
    spread = panel.spread_out(panel.entity_means(x))
    sizes = column_sizes(x)
    varies = column_sizes(x - spread) > RANK_TOLERANCE * sizes
    varies &= np.any(x != spread, axis=0)
    candidates = np.flatnonzero(varies)
    joint = np.column_stack([x / sizes, spread[:, candidates] / sizes[candidates]])
    columns = candidates[independent_columns(r_factor(joint))[x.shape[1] :]]
    if panel.constant is not None:
        spread = spread + grand
    return spread[:, columns], columns


def mundlak_design(panel: PanelData, within: bool = False) -> MundlakDesign:
    """
    Add the means of the entities to a design.

    Parameters
    ----------
    panel : PanelData
        Rows with missing values are gone: means are those of the rows used.
    within : bool
        Replace the regressors themselves by their deviations from these means.

    Returns
    -------
    MundlakDesign

    Raises
    ------
    IdentificationError
        If no mean can be added.

    References
    ----------
    Mundlak, Y. (1978), On the pooling of time series and cross section data,
    Econometrica 46, 69-85.
    """
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
    labels = tuple(f"mean({panel.names[j]})" for j in columns)
    return MundlakDesign(np.column_stack([x, means]), (*panel.names, *labels), labels)


def mundlak(
    formula: str,
    data: Any,
    entity: Any = None,
    time: Any = None,
    *,
    model: str = "re",
    subset: Any = None,
    missing: str = "none",
    eval_env: Any = None,
    **options: Any,
) -> PanelModel | MixedLMAR:
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
    return _augmented(
        False, formula, data, entity, time, model, subset, missing, eval_env, options
    )


def within_between(
    formula: str,
    data: Any,
    entity: Any = None,
    time: Any = None,
    *,
    model: str = "re",
    subset: Any = None,
    missing: str = "none",
    eval_env: Any = None,
    **options: Any,
) -> PanelModel | MixedLMAR:
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
    return _augmented(
        True, formula, data, entity, time, model, subset, missing, eval_env, options
    )


def _augmented(
    within: bool,
    formula: str,
    data: Any,
    entity: Any,
    time: Any,
    model: str,
    subset: Any,
    missing: str,
    eval_env: Any,
    options: dict[str, Any],
) -> PanelModel | MixedLMAR:
    check_choice("model", model, ("re", "pooled", "mixed"))
    if eval_env is None:
        eval_env = capture_namespace()
    elif isinstance(eval_env, int) and eval_env >= 0:
        eval_env = capture_namespace(eval_env + 2)
    cls: type[PanelModel] = PooledOLS if model == "pooled" else RandomEffects
    base = cls.from_formula(
        formula,
        data,
        entity,
        time,
        subset=subset,
        missing=missing,
        eval_env=eval_env,
        **({} if model == "mixed" else options),
    )
    design = mundlak_design(base.panel, within)
    if model == "mixed":
        return _mixed(base, design, options)
    base.panel = dataclasses.replace(base.panel, x=design.x, names=design.names)
    # new rows come with their means: the formula alone does not give the design
    base.formula_spec = None
    base.means = design.means
    return base


def _mixed(
    base: PanelModel, design: MundlakDesign, options: dict[str, Any]
) -> MixedLMAR:
    """The augmented design as a mixed model, rows in the caller's order."""
    from mixedar.mixed import MixedLMAR

    panel = base.panel
    exog = pd.DataFrame(
        panel.unsort(design.x), index=panel.index, columns=list(design.names)
    )
    arguments = {"time": panel.unsort(panel.times) if panel.has_time else None}
    groups = panel.entity_labels[panel.unsort(panel.entity)]
    model = MixedLMAR(
        panel.series(panel.y, panel.endog_name),
        exog,
        groups=pd.Series(groups, index=panel.index, name=panel.entity_name),
        **{**arguments, **options},
    )
    model.means = design.means
    return model
