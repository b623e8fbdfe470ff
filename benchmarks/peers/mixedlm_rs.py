"""mixedlm-rs (a Rust core): independent residuals only."""

from __future__ import annotations

import importlib
from typing import Any

import pandas as pd

from benchmarks.peers.base import Estimate, Floats, PythonPeer, Refit, dense_design
from benchmarks.problems import ModelSpec, Problem


class MixedLMRs(PythonPeer):
    """lme4's profiled likelihood in Rust behind statsmodels' interface."""

    name = "mixedlm_rs"
    distribution = "mixedlm-rs"
    module = "mixedlm_rs"

    def fit(self, data: pd.DataFrame, model: ModelSpec) -> Estimate:
        """Formula fit without residual correlation."""
        package: Any = importlib.import_module(self.module)
        result = package.mixedlm(
            model.formula,
            data,
            groups=model.groups,
            re_formula=f"~{model.re_formula}",
        ).fit()
        return _estimate(result)

    def refitter(self, problem: Problem) -> Refit:
        """The array constructor each time, without a formula."""
        package: Any = importlib.import_module(self.module)
        exog, exog_re, groups, _ = dense_design(problem)

        def refit(response: Floats) -> Estimate:
            model = package.MixedLM(response, exog, groups, exog_re=exog_re)
            return _estimate(model.fit())

        return refit


def _estimate(result: Any) -> Estimate:
    return Estimate(
        float(result.llf),
        [float(v) for v in result.fe_params],
        [float(v) for v in result.bse_fe],
        None,
        bool(result.converged),
    )


PEER = MixedLMRs()
