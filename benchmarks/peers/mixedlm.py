"""mixedlm (lme4's design in Python and Rust): independent residuals only."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.peers.base import Estimate, Floats, PythonPeer, Refit
from benchmarks.problems import ModelSpec, Problem


class MixedLM(PythonPeer):
    """``lmer`` of the package mixedlm."""

    name = "mixedlm"
    distribution = "mixedlm"
    module = "mixedlm"

    def fit(self, data: pd.DataFrame, model: ModelSpec) -> Estimate:
        """Formula fit without residual correlation."""
        package: Any = importlib.import_module(self.module)
        return _estimate(package.lmer(model.lme4_formula, data))

    def refitter(self, problem: Problem) -> Refit:
        """The fit's own ``refit``, which keeps the design matrices."""
        package: Any = importlib.import_module(self.module)
        first = package.lmer(problem.model.lme4_formula, problem.data)

        def refit(response: Floats) -> Estimate:
            return _estimate(first.refit(newresp=response))

        return refit


def _estimate(result: Any) -> Estimate:
    return Estimate(
        float(result.logLik()),
        [float(v) for v in result.fixef().values()],
        [float(v) for v in np.sqrt(np.diag(result.vcov()))],
        None,
        bool(result.converged),
    )


PEER = MixedLM()
