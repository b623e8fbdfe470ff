"""Bambi (PyMC): the posterior, by the sampler's defaults."""

from __future__ import annotations

import importlib
from typing import Any

import pandas as pd

from benchmarks.peers.base import Estimate, PythonPeer
from benchmarks.problems import ModelSpec


class Bambi(PythonPeer):
    """``bambi.Model(...).fit()`` with its own priors; four chains in turn."""

    name = "bambi"
    distribution = "bambi"
    module = "bambi"

    def fit(self, data: pd.DataFrame, model: ModelSpec) -> Estimate:
        """Means and standard deviations of the draws, and no likelihood."""
        package: Any = importlib.import_module(self.module)
        written = package.Model(model.lme4_formula, data)
        draws = written.fit(
            chains=4, cores=1, random_seed=1, progressbar=False
        ).posterior.stack(draw_of_chain=("chain", "draw"))
        columns = [draws[name] for name in ["Intercept", *model.fixed]]
        return Estimate(
            None,
            [float(column.mean()) for column in columns],
            [float(column.std()) for column in columns],
        )

    def fitted(self, model: ModelSpec) -> str:
        """No maximum of a likelihood."""
        return "posterior, 4,000 draws"


PEER = Bambi()
