"""glmm (a Rust core): independent residuals only."""

from __future__ import annotations

import importlib
from typing import Any

import pandas as pd

from benchmarks.peers.base import Estimate, PythonPeer
from benchmarks.problems import ModelSpec


class Glmm(PythonPeer):
    """``glmm.fit`` of a formula with bars, Satterthwaite's t tests included."""

    name = "glmm"
    distribution = "glmm"
    module = "glmm"

    def fit(self, data: pd.DataFrame, model: ModelSpec) -> Estimate:
        """Formula fit without residual correlation."""
        package: Any = importlib.import_module(self.module)
        result = package.fit(data, model.lme4_formula)
        return Estimate(
            float(result.loglik),
            result.beta.tolist(),
            result.se.tolist(),
            None,
            bool(result.diagnostics["converged"]),
        )


PEER = Glmm()
