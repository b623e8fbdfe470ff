"""lme-python (a Rust core): independent residuals only."""

from __future__ import annotations

import importlib
from typing import Any

import pandas as pd

from benchmarks.peers.base import Estimate, PythonPeer
from benchmarks.problems import ModelSpec


class LmePython(PythonPeer):
    """``lme_python.lmer``."""

    name = "lme_python"
    distribution = "lme-python"
    module = "lme_python"

    def fit(self, data: pd.DataFrame, model: ModelSpec) -> Estimate:
        """Formula fit without residual correlation."""
        package: Any = importlib.import_module(self.module)
        result = package.lmer(model.lme4_formula, data)
        return Estimate(
            float(result.log_likelihood),
            [float(v) for v in result.coefficients],
            [float(v) for v in result.std_errors],
            None,
            bool(result.converged),
        )


PEER = LmePython()
