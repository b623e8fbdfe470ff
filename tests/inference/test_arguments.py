"""Arguments under their names and their former names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar.datasets import load_orthodont
from mixedar.exceptions import UnsupportedError
from mixedar.inference.arguments import generator, understands


@understands(seed="rng", reps="n_sim")
def drawn(n_sim: int = 3, *, rng: Any = None) -> tuple[int, Any]:
    return n_sim, rng


def test_former_names_are_understood() -> None:
    assert drawn(5, rng=1) == drawn(reps=5, seed=1) == (5, 1)  # type: ignore[call-arg]
    with pytest.raises(UnsupportedError, match="one argument: pass rng="):
        drawn(rng=1, seed=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="other"):
        drawn(other=1)  # type: ignore[call-arg]


def test_generators_are_made_of_what_numpy_takes() -> None:
    one = np.random.default_rng(3)
    assert generator(one) is one
    assert generator(3).normal() == np.random.default_rng(3).normal()
    with pytest.raises(UnsupportedError, match="rng="):
        generator("three")  # type: ignore[arg-type]


def test_draws_have_one_name_everywhere() -> None:
    data = load_orthodont()
    fit = mar.mixedlm(
        "distance ~ age", data, groups="subject", residual="independent"
    ).fit()
    pairs = [
        (fit.simulate(2, rng=1), fit.simulate(2, seed=1)),
        (
            fit.bootstrap(n_sim=4, rng=1).to_frame(),
            fit.bootstrap(n_boot=4, seed=1).to_frame(),
        ),
        (
            fit.conf_int_re(method="bootstrap", n_sim=5, rng=1),
            fit.conf_int_re(method="bootstrap", n_boot=5, seed=1),
        ),
    ]
    for one, other in pairs:
        pd.testing.assert_frame_equal(one, other)
    panel = mar.fixed_effects("distance ~ age", data, "subject", "occ")
    clustered = panel.fit("clustered")
    one = clustered.wild_bootstrap("age = 0.6", n_sim=20, rng=1)
    assert one.pvalue == clustered.wild_bootstrap("age = 0.6", reps=20, seed=1).pvalue
    with pytest.raises(UnsupportedError, match="one argument"):
        fit.simulate(2, rng=1, seed=2)


def test_draws_have_one_name_and_seeds_two() -> None:
    model = mar.mixedlm("distance ~ age", load_orthodont(), groups="subject")
    fit = model.fit()
    first, second = fit.posterior(200, seed=3), fit.posterior(n_sim=200, rng=3)
    pd.testing.assert_frame_equal(first.draws, second.draws)
    drawn = first.replicate(3, rng=1)
    pd.testing.assert_frame_equal(first.replicate(draws=3, seed=1), drawn)
    pd.testing.assert_frame_equal(first.replicate(n_sim=3, rng=1), drawn)
    folds = [
        mar.cross_validate(model, folds=3, **word).frame
        for word in ({"rng": 1}, {"seed": 1})
    ]
    pd.testing.assert_frame_equal(*folds)
