"""mixedar itself, its panel estimators and Hausman tests."""

from __future__ import annotations

import importlib
import time
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from benchmarks.panel_problems import REPLICATES
from benchmarks.peers.panel import PanelEstimate, PanelProgram
from benchmarks.specs import PanelSpec

_METHODS = {
    "hausman": "auxiliary-robust",
    "hausman_mundlak": "mundlak-robust",
    "bootstrap": "bootstrap",
}


class MixedARPanel(PanelProgram):
    """The package under test; every ratio in the report refers to it."""

    name = "mixedar"
    distribution = "mixedar"
    module = "mixedar"
    computes: ClassVar[dict[str, str]] = {
        "fe": "fixed_effects from the formula, p-values",
        "re": "random_effects from the formula, p-values",
        **{
            task: f'fixed_effects, random_effects, hausman(method="{method}")'
            for task, method in _METHODS.items()
        },
        "mundlak": 'mundlak from the formula, fit(cov_type="clustered"), wald_test',
    }

    def load(self) -> None:
        """Import what is loaded on first use too, linearmodels among it."""
        for name in ("mixedar.formula.api", "mixedar.panel.hausman"):
            importlib.import_module(name)

    def fit(self, data: pd.DataFrame, model: PanelSpec) -> PanelEstimate:
        """Formula fits, and the test where the task is one."""
        api: Any = importlib.import_module("mixedar.formula.api")
        place = (model.formula, data, model.groups, model.time)
        if model.task == "fe":
            return _estimate(api.fixed_effects(*place).fit())
        if model.task == "re":
            return _estimate(api.random_effects(*place).fit())
        if model.task == "mundlak":
            return _mundlak(api.mundlak(*place))
        fe = api.fixed_effects(*place).fit()
        re = api.random_effects(*place).fit()
        start = time.perf_counter()
        test = api.hausman(
            fe,
            re,
            method=_METHODS[model.task],
            use_f=False,
            reps=REPLICATES,
            seed=1,
            progress=False,
        )
        seconds = time.perf_counter() - start
        return PanelEstimate([], [], float(test.statistic), int(test.df), seconds)


def _estimate(fit: Any) -> PanelEstimate:
    _ = fit.pvalues  # R's summary computes them as well
    params, errors = fit.params.drop("Intercept"), fit.bse.drop("Intercept")
    return PanelEstimate(params.tolist(), errors.tolist())


def _mundlak(model: Any) -> PanelEstimate:
    fit = model.fit(cov_type="clustered")
    estimate, means = _estimate(fit), len(model.means)
    restrictions = np.eye(len(fit.params))[-means:]  # the means come last
    test = fit.wald_test(restrictions, use_f=False)
    return PanelEstimate(estimate.params, estimate.bse, float(test.statistic), means)


PEER = MixedARPanel()
