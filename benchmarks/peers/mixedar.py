"""mixedar itself."""

from __future__ import annotations

import importlib
from typing import Any

import pandas as pd

from benchmarks.peers.base import (
    Estimate,
    Floats,
    ManyRefits,
    PythonPeer,
    Refit,
    dense_design,
)
from benchmarks.problems import ModelSpec, Problem
from benchmarks.specs import LevelsSpec, RelatedSpec, SmoothSpec


class MixedAR(PythonPeer):
    """The package under test; every ratio in the report refers to it."""

    name = "mixedar"
    distribution = "mixedar"
    module = "mixedar"
    residuals = ("ar1", "car1", "un", "arma11")

    def load(self) -> None:
        """Import the formula interface too, as a user's script does."""
        importlib.import_module("mixedar.formula.api")

    def fit(self, data: pd.DataFrame, model: ModelSpec) -> Estimate:
        """Formula fit with the residual structure of the model."""
        api: Any = importlib.import_module("mixedar.formula.api")
        names: Any = importlib.import_module("mixedar.api")
        several = isinstance(model, (LevelsSpec, RelatedSpec, SmoothSpec))
        Field = names.Field  # noqa: F841  formulas read it
        if "sire" in data:
            herd = data.drop_duplicates("animal")
            A = names.Relationship.from_pedigree(  # noqa: F841  and this
                herd["animal"], herd["sire"], herd["dam"]
            )
        result = api.mixedlm(
            model.lme4_formula if several else model.formula,
            data,
            groups=model.groups,
            re_formula=None if several else f"~{model.re_formula}",
            time=model.time,
            residual=model.residual,
        ).fit()
        return _estimate(result)

    def refitter(self, problem: Problem) -> Refit:
        """The model's ``refit`` when there is one, else a new model each time."""
        model_class: Any = importlib.import_module("mixedar").MixedLMAR
        exog, exog_re, groups, time = dense_design(problem)
        kwargs = {
            "exog_re": exog_re,
            "time": time,
            "residual": problem.model.residual,
        }
        if hasattr(model_class, "refit"):
            first = model_class(problem.responses[0], exog, groups, **kwargs)
            return lambda response: _estimate(first.refit(response))

        def refit(response: Floats) -> Estimate:
            return _estimate(model_class(response, exog, groups, **kwargs).fit())

        return refit

    def many_refitter(self, problem: Problem) -> ManyRefits | None:
        """The model's ``refit_many``."""
        model_class: Any = importlib.import_module("mixedar").MixedLMAR
        if not hasattr(model_class, "refit_many"):
            return None
        exog, exog_re, groups, time = dense_design(problem)
        model = model_class(
            problem.responses[0],
            exog,
            groups,
            exog_re=exog_re,
            time=time,
            residual=problem.model.residual,
        )

        def refit(responses: Floats) -> list[Estimate]:
            many = model.refit_many(responses.T)
            errors = many.bse_fe.to_numpy()
            _ = many.pvalues
            rho = many.residual_params[:, 0]
            return [
                Estimate(
                    float(many.llf[k]),
                    many.fe_params[k].tolist(),
                    errors[k].tolist(),
                    float(rho[k]),
                    bool(many.converged[k]),
                )
                for k in range(len(responses))
            ]

        return refit


def _estimate(result: Any) -> Estimate:
    _ = result.pvalues  # R's summary computes them as well
    return Estimate(
        float(result.llf),
        [float(v) for v in result.fe_params],
        [float(v) for v in result.bse_fe],
        getattr(result, "rho", None),
        bool(result.converged),
    )


PEER = MixedAR()
