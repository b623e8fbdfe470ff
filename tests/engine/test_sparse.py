"""Sparse precisions: the same likelihood as with dense matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar.api import Relationship
from mixedar.engine.problem import LikelihoodProblem
from mixedar.engine.sparse import SparseBlock
from mixedar.exceptions import UnsupportedError

N = 120


def pedigree() -> Relationship:
    rng = np.random.default_rng(5)
    names = [f"a{k}" for k in range(N)]
    sire = [None] * 30 + rng.choice(names[:15], N - 30).tolist()
    dam = [None] * 30 + rng.choice(names[15:30], N - 30).tolist()
    return Relationship.from_pedigree(names, sire, dam)


def records() -> pd.DataFrame:
    rng = np.random.default_rng(6)
    levels = [f"a{k}" for k in range(N - 7)]  # some have no records
    frame = pd.DataFrame({"animal": np.repeat(levels, 4)})
    frame["time"] = np.tile(np.arange(4), len(levels))
    frame["x"] = rng.normal(size=len(frame))
    effects = rng.normal(size=len(levels)) + rng.normal(size=len(levels)) * 0.7
    noise = rng.normal(size=(len(levels), 4))
    for t in range(1, 4):
        noise[:, t] += 0.5 * noise[:, t - 1]
    frame["y"] = 0.5 * frame["x"] + np.repeat(effects, 4) + noise.ravel()
    return frame


SERIAL: dict[str, Any] = {"groups": "animal", "time": "time", "residual": "ar1"}


@pytest.mark.parametrize(
    ("effects", "options", "reml"),
    [
        ("(1 | gr(animal, cov=A))", {}, True),
        ("(1 | gr(animal, cov=A)) + (1 | animal)", {}, False),
        ("(1 | animal) + (1 | gr(animal, cov=A))", {}, True),
        ("(1 | gr(animal, cov=A))", SERIAL, True),
        ("(1 | gr(animal, cov=A)) + (1 | animal)", SERIAL, True),
    ],
)
def test_sparse_and_dense_fits_agree(
    monkeypatch: pytest.MonkeyPatch, effects: str, options: dict[str, Any], reml: bool
) -> None:
    A = pedigree()  # noqa: F841  the formula reads it
    found = []
    for limit in (10, 10**6):
        monkeypatch.setattr("mixedar.relations.relationship._SPARSE", limit)
        model = mar.mixedlm(f"y ~ x + {effects}", records(), **options)
        found.append(model.fit(reml=reml))
    sparse, dense = found
    assert isinstance(sparse.fit.problem.blocks[0], SparseBlock)
    assert not isinstance(dense.fit.problem.blocks[0], SparseBlock)
    assert abs(sparse.llf - dense.llf) < 1e-8
    np.testing.assert_allclose(sparse.params, dense.params, 3e-6, 1e-7)
    np.testing.assert_allclose(sparse.bse, dense.bse, 2e-5)
    np.testing.assert_allclose(sparse.fittedvalues, dense.fittedvalues, 1e-6, 1e-6)
    theta = dense.fit.theta
    for at in (theta, theta + 0.1, *np.where(np.eye(len(theta)) > 0, 0.0, theta)):
        one, other = (
            fit.fit.problem.sums(at, derivatives=True) for fit in (sparse, dense)
        )
        for a, b, near in (
            (one.d, other.d, 1e-12),
            (one.s, other.s, 1e-12),
            (one.s1, other.s1, 1e-12),
            (one.s2, other.s2, 1e-12),
            (one.d1, other.d1, 1e-7),
            (one.d2, other.d2, 2e-5),
        ):
            np.testing.assert_allclose(a, b, near, near * np.abs(b).max())


@pytest.mark.parametrize("rows", [4, 1])  # with one row unrelated levels tell nothing
def test_starts_from_unrelated_levels(
    monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    A = pedigree()  # noqa: F841  the formula reads it
    frame = records().groupby("animal").head(rows)
    usual = mar.mixedlm("y ~ x + (1 | gr(animal, cov=A))", frame).fit()
    monkeypatch.setattr("mixedar.relations.relationship._SPARSE", 10)
    monkeypatch.setattr("mixedar.engine.starts.MANY_LINKED", 10)
    monkeypatch.setattr("mixedar.engine.sparse._MANY_FILLED", 0)
    asked, unrelated = [], LikelihoodProblem.unrelated

    def ask(problem: LikelihoodProblem) -> LikelihoodProblem | None:
        asked.append(problem)
        return unrelated(problem)

    monkeypatch.setattr(LikelihoodProblem, "unrelated", ask)
    near = mar.mixedlm("y ~ x + (1 | gr(animal, cov=A))", frame).fit()
    assert asked
    assert abs(near.llf - usual.llf) < 1e-8
    np.testing.assert_allclose(near.params, usual.params, 1e-5, 1e-7)


def test_what_is_too_large_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    A = pedigree()  # noqa: F841  the formula reads it
    monkeypatch.setattr("mixedar.relations.relationship._SPARSE", 10)
    frame = records()
    fit = mar.mixedlm("y ~ x + (1 | gr(animal, cov=A))", frame).fit()
    dense = fit.ranef("animal")
    fitted = fit.fittedvalues.copy()
    monkeypatch.setattr("mixedar.engine.terms.LARGEST", 10)
    fit = mar.mixedlm("y ~ x + (1 | gr(animal, cov=A))", frame).fit()
    np.testing.assert_allclose(fit.ranef("animal"), dense, 1e-7, 1e-7)
    np.testing.assert_allclose(fit.fittedvalues, fitted, 1e-7, 1e-7)
    assert fit.icc(ci=0.95)["se"].notna().all()
    assert len(str(fit.summary()))
    for ask in (
        lambda: fit.ranef("animal", se=True),
        lambda: fit.get_prediction(frame.head(2), level="group"),
    ):
        with pytest.raises(UnsupportedError, match=r"standard errors of predicted"):
            ask()
