"""GPBoost: grouped random effects without correlation, by maximum likelihood."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.peers.base import Estimate, PythonPeer
from benchmarks.problems import ModelSpec


class GPBoost(PythonPeer):
    """``GPModel`` from arrays; it has neither formulas nor REML."""

    name = "gpboost"
    distribution = "gpboost"
    module = "gpboost"

    def fit(self, data: pd.DataFrame, model: ModelSpec) -> Estimate:
        """Fit of the design that the formula stands for."""
        package: Any = importlib.import_module(self.module)
        fixed = pd.get_dummies(data[list(model.fixed)], drop_first=True, dtype=float)
        exog = np.column_stack([np.ones(len(data)), fixed])
        slopes = data[list(model.slopes)].to_numpy(dtype=float)
        effects: dict[str, Any] = {}
        if slopes.size:
            effects["group_rand_coef_data"] = slopes
            effects["ind_effect_group_rand_coef"] = [1] * slopes.shape[1]
        found = package.GPModel(
            group_data=data[model.groups].to_numpy(), likelihood="gaussian", **effects
        )
        found.fit(y=data[model.response].to_numpy(dtype=float), X=exog)
        table = found.get_coef(std_err=True)
        return Estimate(
            -float(found.get_current_neg_log_likelihood()),
            [float(v) for v in table.iloc[0]],
            [float(v) for v in table.iloc[1]],
        )

    def fitted(self, model: ModelSpec) -> str:
        """Which part of the model it fits."""
        return "ML, effects uncorrelated" if model.slopes else "ML"


PEER = GPBoost()
