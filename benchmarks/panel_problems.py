"""The panel workloads: one set of data, several things to compute from it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.specs import PanelSpec

__all__ = ["PANEL_WORKLOADS", "REPLICATES", "TASKS", "panel_frame"]

#: Entities and periods at scale 1.
ENTITIES, PERIODS = 100_000, 5

#: Replicates of the bootstrap.
REPLICATES = 999

#: Task -> what is computed, from the data frame on.
TASKS = {
    "fe": "fixed effects, classical standard errors",
    "re": "random effects (Swamy-Arora), classical standard errors",
    "hausman": "Hausman test by auxiliary regression, clustered by entity",
    "hausman_mundlak": "Hausman test in Mundlak's form, clustered by entity",
    "mundlak": "Mundlak regression, clustered by entity, and Wald test of the means",
    "bootstrap": f"Hausman test by {REPLICATES} bootstrap replicates of entities",
}

_REGRESSORS = ("x1", "x2", "x3", "x4")

#: Workload -> its model and task.
PANEL_WORKLOADS = {
    f"panel_{task}": PanelSpec("y", _REGRESSORS, "id", (), "time", "independent", task)
    for task in TASKS
}


def panel_frame(entities: int) -> pd.DataFrame:
    """A balanced panel, sorted by entity and time.

    Regressors vary between and within entities, and are slightly related to the
    effects, so that the Hausman tests have something to find.  A slope that
    differs between entities correlates the errors within them, so that clustered
    and classical standard errors differ.

    Parameters
    ----------
    entities : int
        Number of entities.

    Returns
    -------
    DataFrame
        Columns ``y``, ``x1`` to ``x4``, ``id`` (from 1) and ``time`` (from 0).
    """
    rng = np.random.default_rng(8)
    entity = np.repeat(np.arange(entities), PERIODS)
    between = rng.standard_normal((entities, len(_REGRESSORS)))
    x = between[entity] + rng.standard_normal((entity.size, len(_REGRESSORS)))
    effect = rng.standard_normal(entities) + 0.02 * between[:, 0]
    slope = 0.3 * rng.standard_normal(entities)
    y = 1.0 + x @ np.array([0.5, -0.4, 0.3, 0.0]) + effect[entity]
    y += slope[entity] * x[:, 0] + rng.standard_normal(entity.size)
    frame = pd.DataFrame(x, columns=list(_REGRESSORS))
    frame.insert(0, "y", y)
    return frame.assign(id=entity + 1, time=np.tile(np.arange(PERIODS), entities))
