"""interlace-lme: AR(1) and continuous AR(1) by whitening, in pure Python."""

from __future__ import annotations

import importlib
from typing import Any

import pandas as pd

from benchmarks.peers.base import Estimate, PythonPeer
from benchmarks.problems import ModelSpec


class Interlace(PythonPeer):
    """``interlace.fit`` with its ``AR1`` correlation (rho to the time gap)."""

    name = "interlace"
    distribution = "interlace-lme"
    module = "interlace"
    residuals = ("ar1", "car1")

    def fit(self, data: pd.DataFrame, model: ModelSpec) -> Estimate:
        """Formula fit with the residual structure of the model."""
        package: Any = importlib.import_module(self.module)
        correlated = model.residual in self.residuals
        result = package.fit(
            model.formula,
            data,
            random=[f"({model.re_formula} | {model.groups})"],
            correlation=package.AR1(time=model.time) if correlated else None,
        )
        return Estimate(
            float(result.llf),
            [float(v) for v in result.fe_params],
            [float(v) for v in result.fe_bse],
            float(result.correlation_params["rho"]) if correlated else None,
            bool(result.converged),
        )


PEER = Interlace()
