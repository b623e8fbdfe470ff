"""linearmodels: the estimators that mixedar's stand on."""

from __future__ import annotations

import importlib
import time
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from benchmarks.panel_problems import REPLICATES
from benchmarks.peers.panel import PanelEstimate, PanelProgram, wald
from benchmarks.specs import PanelSpec

#: Replicates of the bootstrap that are done; 999 would take half an hour.
_DONE = 2
_CLUSTERED = {"cov_type": "clustered", "cluster_entity": True, "group_debias": True}
_AUGMENTED = "RandomEffects with entity means added, clustered; Wald test by hand"


class LinearModels(PanelProgram):
    """Its classes from data frames, without formulas."""

    name = "linearmodels"
    distribution = "linearmodels"
    module = "linearmodels"
    computes: ClassVar[dict[str, str]] = {
        "fe": "PanelOLS(entity_effects=True) from data frames, p-values",
        "re": "RandomEffects from data frames, p-values",
        "hausman": "RandomEffects; by hand: data quasi-demeaned, PooledOLS with "
        "deviations added, clustered, Wald test",
        "hausman_mundlak": _AUGMENTED,
        "mundlak": _AUGMENTED,
        "bootstrap": "by hand: a loop that draws entities and fits PanelOLS and "
        f"RandomEffects; {_DONE} of {REPLICATES} turns done, times scaled up",
    }

    def load(self) -> None:
        """Import the panel estimators."""
        importlib.import_module("linearmodels.panel")

    def fit(self, data: pd.DataFrame, model: PanelSpec) -> PanelEstimate:
        """From the plain frame: index, constant, fit."""
        if model.task == "bootstrap":
            return _bootstrap(data, model)
        y, x = _frames(data, model)
        if model.task == "fe":
            return _estimate(_panel().PanelOLS(y, x, entity_effects=True).fit())
        if model.task == "re":
            return _estimate(_panel().RandomEffects(y, x).fit())
        if model.task == "hausman":
            return _auxiliary(y, x)
        return _augmented(y, x)


def _panel() -> Any:
    return importlib.import_module("linearmodels.panel")


def _frames(data: pd.DataFrame, model: PanelSpec) -> tuple[Any, pd.DataFrame]:
    """Response and regressors with a constant, by entity and time."""
    panel = data.set_index([model.groups, model.time])
    x = panel[list(model.fixed)].copy()
    x.insert(0, "Intercept", 1.0)
    return panel[model.response], x


def _estimate(fit: Any) -> PanelEstimate:
    _ = fit.pvalues
    params, errors = fit.params.drop("Intercept"), fit.std_errors.drop("Intercept")
    return PanelEstimate(params.tolist(), errors.tolist())


def _test(fit: Any, added: pd.DataFrame) -> float:
    names = list(added)
    cov = fit.cov.loc[names, names]
    return wald(fit.params[names].to_numpy(), cov.to_numpy())


def _augmented(y: Any, x: pd.DataFrame) -> PanelEstimate:
    """Mundlak's regression: means of the entities added."""
    means = x.iloc[:, 1:].groupby(level=0).transform("mean").add_prefix("mean_")
    design = pd.concat([x, means], axis=1)
    fit = _panel().RandomEffects(y, design).fit(**_CLUSTERED)
    estimate = _estimate(fit)
    return PanelEstimate(
        estimate.params, estimate.bse, _test(fit, means), means.shape[1]
    )


def _auxiliary(y: Any, x: pd.DataFrame) -> PanelEstimate:
    """Quasi-demeaned data, deviations from the entities' means added."""
    fit = _panel().RandomEffects(y, x).fit()
    start = time.perf_counter()
    both = pd.concat([y, x], axis=1)
    means = both.groupby(level=0).transform("mean")
    entity = x.index.get_level_values(0)
    theta = fit.theta.iloc[:, 0].reindex(entity).to_numpy()[:, None]
    quasi = both - theta * means
    within = (x - means[list(x)]).iloc[:, 1:].add_prefix("within_")
    design = pd.concat([quasi[list(x)], within], axis=1)
    pooled = _panel().PooledOLS(quasi[y.name], design).fit(**_CLUSTERED)
    statistic = _test(pooled, within)
    seconds = time.perf_counter() - start
    return PanelEstimate([], [], statistic, within.shape[1], seconds)


def _bootstrap(data: pd.DataFrame, model: PanelSpec) -> PanelEstimate:
    """A few turns of the loop that a user would write."""
    rng = np.random.default_rng(1)
    labels, sizes = np.unique(data[model.groups], return_counts=True)
    order = np.argsort(data[model.groups].to_numpy(), kind="stable")
    rows_of = np.split(order, np.cumsum(sizes)[:-1])
    for _ in range(_DONE):
        drawn = rng.integers(0, len(labels), len(labels))
        rows = np.concatenate([rows_of[k] for k in drawn])
        replicate = data.iloc[rows].assign(
            **{model.groups: np.repeat(np.arange(len(drawn)), sizes[drawn])}
        )
        y, x = _frames(replicate, model)
        fe = _panel().PanelOLS(y, x, entity_effects=True).fit()
        re = _panel().RandomEffects(y, x).fit()
        _ = fe.params - re.params
    return PanelEstimate([], [], share=_DONE / REPLICATES)


PEER = LinearModels()
