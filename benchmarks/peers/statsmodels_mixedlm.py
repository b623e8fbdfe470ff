"""statsmodels' MixedLM: independent residuals only."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.peers.base import Estimate, Floats, PythonPeer, Refit, dense_design
from benchmarks.problems import ModelSpec, Problem
from benchmarks.specs import LevelsSpec


class StatsmodelsMixedLM(PythonPeer):
    """The parent class of mixedar's model."""

    name = "statsmodels"
    distribution = "statsmodels"
    module = "statsmodels"

    def load(self) -> None:
        """Import the formula interface."""
        importlib.import_module("statsmodels.formula.api")

    def fit(self, data: pd.DataFrame, model: ModelSpec) -> Estimate:
        """Formula fit without residual correlation."""
        api: Any = importlib.import_module("statsmodels.formula.api")
        groups, options = data[model.groups], {"re_formula": f"~{model.re_formula}"}
        if isinstance(model, LevelsSpec):  # variance components of one group
            groups = np.ones(len(data))
            factors = (model.groups, *model.others)
            parts = {factor: f"0 + C({factor})" for factor in factors}
            options = {"re_formula": "0", "vc_formula": parts}
        fit = api.mixedlm(model.formula, data, groups=groups, **options).fit()
        return _estimate(fit)

    def refitter(self, problem: Problem) -> Refit:
        """The array constructor each time, without a formula."""
        lme: Any = importlib.import_module("statsmodels.regression.mixed_linear_model")
        exog, exog_re, groups, _ = dense_design(problem)

        def refit(response: Floats) -> Estimate:
            model = lme.MixedLM(response, exog, groups, exog_re=exog_re)
            return _estimate(model.fit())

        return refit


def _estimate(result: Any) -> Estimate:
    _ = result.pvalues  # R's summary computes them as well
    return Estimate(
        float(result.llf),
        [float(v) for v in result.fe_params],
        [float(v) for v in result.bse_fe],
        None,
        bool(result.converged),
    )


PEER = StatsmodelsMixedLM()
