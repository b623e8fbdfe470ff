"""What cannot be a relation between levels, and what the message says."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import mixedar.formula.api as mar
from mixedar.api import CAR, ICAR, Field, Relationship
from mixedar.exceptions import LengthError, MixedARError, StructureError

NAMES = ["a", "b", "c", "d", "e", "f"]


def rows() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"g": np.repeat(NAMES, 4), "x": rng.normal(size=24)})
    frame["lon"] = np.repeat(np.arange(6.0), 4)
    frame["lat"] = np.repeat(np.arange(6.0) ** 2, 4)
    frame["y"] = frame["x"] + np.repeat(rng.normal(size=6), 4) + rng.normal(size=24)
    return frame


def matrix(values: Any = None) -> pd.DataFrame:
    values = 0.5 * np.eye(6) + 0.5 if values is None else values
    return pd.DataFrame(values, NAMES, NAMES)


def model(K: Any, frame: pd.DataFrame | None = None) -> Any:
    frame = rows() if frame is None else frame
    return mar.mixedlm("y ~ x + (1 | gr(g, cov=K))", frame)


def test_not_symmetric() -> None:
    K = matrix()
    K.loc["a", "b"] = 0.1
    with pytest.raises(StructureError, match=r"not symmetric.*'b'.*0.1|0.1.*0.5"):
        Relationship(K)


def test_masked_and_complex_values() -> None:
    values = np.ma.array(0.5 * np.eye(6) + 0.5)
    values[2, 2] = np.ma.masked
    with pytest.raises(StructureError, match="the row of 'c' has a value that is miss"):
        Relationship(values, labels=NAMES)
    with pytest.raises(StructureError, match="is complex"):
        CAR(np.eye(6) + 0j, labels=NAMES)
    names = np.ma.array(["a", "b"], mask=[False, True])
    with pytest.raises(StructureError, match="id has missing values"):
        Relationship.from_pedigree(names, [None, None], [None, None])


@pytest.mark.parametrize("none", [0, 0.0, np.int64(0), np.nan, None, "0"])
def test_parents_that_are_none(none: Any) -> None:
    family = Relationship.from_pedigree([1, 2, 3], [none, none, 1], [none, none, 2])
    assert family.inbreeding.index.tolist() == [1, 2, 3]


def test_not_semidefinite_names_the_eigenvalue() -> None:
    values = 0.5 * np.eye(6) + 0.5
    values[0, 1] = values[1, 0] = 2.0
    low = np.linalg.eigvalsh(values)[0]
    with pytest.raises(StructureError, match=rf"1 of its 6.*{low:.3g}"):
        model(Relationship(matrix(values)))


def test_a_precision_that_is_none() -> None:
    laplacian = np.diag(np.r_[1, 2, 2, 2, 2, 1.0]) - np.eye(6, k=1) - np.eye(6, k=-1)
    with pytest.raises(StructureError, match=r"positive definite.*ICAR"):
        model(Relationship(precision=matrix(laplacian)))


def test_a_large_precision_that_is_none() -> None:
    n = 1500
    q = sparse.diags_array(
        [np.ones(n), np.full(n - 1, -2.0), np.full(n - 1, -2.0)], offsets=[0, 1, -1]
    )
    labels = [*NAMES, *(f"z{k}" for k in range(n - 6))]
    with pytest.raises(StructureError, match=r"positive definite"):
        model(Relationship(precision=q, labels=labels))


def test_islands() -> None:
    w = matrix(np.zeros((6, 6)))
    w.loc["a", "b"] = w.loc["b", "a"] = 1.0
    for kind in (CAR, ICAR):
        with pytest.raises(StructureError, match=r"4 of 6 levels .* neighbour: c, d"):
            kind(w)


def test_parts_of_a_network_are_noted() -> None:
    graph = ICAR.from_edges(["a", "b", "d", "e"], ["b", "c", "e", "f"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a variance may be zero
        fit = model(graph).fit()
    assert "2 parts" in str(fit.summary())


def test_labels_of_another_type() -> None:
    frame = rows()
    frame["g"] = frame["g"].map({name: k + 1 for k, name in enumerate(NAMES)})
    labels = [str(k + 1) for k in range(6)]
    K = pd.DataFrame(0.5 * np.eye(6) + 0.5, labels, labels)
    with pytest.raises(StructureError, match=r"numbers.*text|text.*numbers"):
        model(K, frame)


def test_labels_that_are_not_there() -> None:
    with pytest.raises(StructureError, match=r"1 of 6 levels of 'g'.*: f"):
        model(matrix().iloc[:5, :5])
    with pytest.raises(StructureError, match=r"stands twice"):
        Relationship(np.eye(2), labels=["a", "a"])
    with pytest.raises(StructureError, match=r"no labels"):
        Relationship(np.eye(2))


def test_places() -> None:
    frame = rows()
    twins = frame.assign(lon=frame["lon"].replace(1.0, 0.0))
    twins["lat"] = twins["lat"].replace(1.0, 0.0)
    with pytest.raises(StructureError, match=r"same coordinates.* a, b"):
        model(Field(("lon", "lat")), twins)
    moved = frame.assign(lon=np.arange(24.0))
    with pytest.raises(StructureError, match=r"'lon' differs.*'a'"):
        model(Field(("lon", "lat")), moved)
    with pytest.raises(MixedARError, match=r"lon"):
        model(Field(("lon", "lat")), frame.drop(columns="lon"))
    gaps = frame.assign(lon=frame["lon"].where(frame.index > 3))
    with pytest.raises(MixedARError, match=r"lon"):
        model(Field(("lon", "lat")), gaps)


@pytest.mark.parametrize("K", [3, "text", [1, 2]])
def test_something_else(K: Any) -> None:
    with pytest.raises(MixedARError):
        model(K)


def test_two_relations_of_one_factor_are_two_terms() -> None:
    one, two = matrix(), matrix(np.eye(6) + 0.2)  # noqa: F841  the formula reads them
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = mar.mixedlm(
            "y ~ x + (1 | gr(g, cov=one)) + (1 | gr(g, cov=two))", rows()
        ).fit()
    names = [name for name in fit.params.index if name.endswith("Var")]
    assert len(set(names)) == 2
    with pytest.raises(MixedARError):
        mar.mixedlm("y ~ x + (1 | gr(g, cov=one)) + (1 | gr(g, cov=one))", rows())


def test_a_boundary_is_named() -> None:
    rng = np.random.default_rng(2)
    frame = rows().assign(y=rng.normal(size=24))
    K = matrix()
    with pytest.warns(UserWarning, match=r"'g Var' is zero"):
        fit = model(
            K, frame.assign(y=frame["y"] - frame.groupby("g")["y"].transform("mean"))
        ).fit()
    assert fit.params["g Var"] == 0.0
    far = rows()
    far["y"] = far["x"] + 0.3 * far["lon"] + 0.1 * rng.normal(size=24)
    trend = model(Field(("lon",)), far)
    with pytest.warns(UserWarning, match=r"g range"):
        trend.fit()


def test_a_field_without_an_end_is_named() -> None:
    rng = np.random.default_rng(4)
    where, n = rng.uniform(0.0, 10.0, (24, 2)), 24
    d = np.linalg.norm(where[:, None] - where, axis=2)
    walk = np.linalg.cholesky(np.exp(-d / 200.0) + 1e-9 * np.eye(n))
    frame = pd.DataFrame({"g": np.repeat(np.arange(n), 3)})
    frame["lon"], frame["lat"] = np.repeat(where, 3, axis=0).T
    frame["y"] = np.repeat(5.0 * walk @ rng.normal(size=n), 3)
    frame["y"] += 0.2 * rng.normal(size=len(frame))
    model = mar.mixedlm("y ~ 1 + (1 | gr(g, cov=Field(('lon', 'lat'))))", frame)
    with pytest.warns(UserWarning, match=r"g range.*variance divided by its range"):
        fit = model.fit()
    # the same as an intrinsic field: variance / range stays where the range is doubled
    llf = [
        dense_reml(fit, frame, d, f * fit.params["g Var"], f * fit.params["g range"])
        for f in (1.0, 2.0)
    ]
    np.testing.assert_allclose(llf[0], fit.llf, rtol=1e-6)
    np.testing.assert_allclose(llf[1], llf[0], atol=2e-3)
    assert np.isnan(fit.bse["g range"])
    assert fit.bse["g Var"] < fit.params["g Var"]  # for this range
    new = frame.iloc[[0]].assign(g="new", lon=1e6)  # as far as all others, and farther
    assert np.isfinite(fit.get_prediction(new, "group").se_mean).all()


def dense_reml(
    fit: Any, frame: pd.DataFrame, d: np.ndarray, variance: float, reach: float
) -> float:
    at = frame["g"].to_numpy()
    v = variance * np.exp(-d / reach)[np.ix_(at, at)] + fit.scale * np.eye(len(at))
    one, y = np.ones(len(at)), frame["y"].to_numpy()
    left = np.linalg.solve(v, one)
    rest = y - left @ y / left.sum()
    square = rest @ np.linalg.solve(v, rest)
    size = np.linalg.slogdet(v)[1] + np.log(left.sum())
    return float(-0.5 * (size + square + (len(y) - 1) * np.log(2.0 * np.pi)))


def test_a_covariance_that_fixed_effects_take_up() -> None:
    names = rows()["g"].unique()
    ones = pd.DataFrame(1.0, names, names)
    fit = model(ones).fit()
    assert "same for every value of the variance 'g Var'" in " ".join(
        str(fit.summary()).split()
    )
    assert np.isnan(fit.bse["g Var"])
    assert fit.params["g Var"] == 0.0
    with pytest.raises(StructureError, match="is zero between the levels of 'g'"):
        model(0.0 * ones)


def test_edges() -> None:
    with pytest.raises(StructureError, match=r"1 edges stand twice.*b, a.*one direc"):
        ICAR.from_edges(["a", "b", "b"], ["b", "a", "c"])
    with pytest.raises(StructureError, match="edge 1 has an end that is missing"):
        CAR.from_edges(["a", None], ["b", "a"])
    with pytest.raises(LengthError, match="2 and 1 ends"):
        ICAR.from_edges(["a", "b"], ["b"])
    with pytest.raises(LengthError, match="1 weights of 2 edges"):
        ICAR.from_edges(["a", "b"], ["b", "c"], [1.0])
    laplacian = pd.DataFrame([[1.0, -1.0], [-1.0, 1.0]], ["a", "b"], ["a", "b"])
    with pytest.raises(StructureError, match=r"-1 of a, b; .* not D - W"):
        ICAR(laplacian)


def test_places_at_one_distance_from_one_another() -> None:
    frame = rows()[lambda x: x["g"].isin(["a", "b"])]
    with pytest.raises(StructureError, match=r"all distances.*write \(1 \| g\)"):
        model(Field(("lon", "lat")), frame)
    with pytest.raises(MixedARError, match="Field: metric='on a globe'"):
        Field(("lon", "lat"), metric="on a globe")  # type: ignore[arg-type]


def test_a_field_without_relation_is_named() -> None:
    frame = rows()
    frame["y"] = frame["x"] + np.repeat([1.0, -1.0, 1.0, -1.0, 1.0, -1.0], 4)
    frame["y"] += 0.1 * np.sin(np.arange(24.0))
    with pytest.warns(UserWarning, match=r"g range.*independent, as without gr"):
        found = model(Field(("lon",)), frame).fit()
    plain = mar.mixedlm("y ~ x + (1 | g)", frame).fit()
    np.testing.assert_allclose(found.llf, plain.llf, atol=1e-5)


def test_labels_that_are_combinations() -> None:
    K = matrix()
    frame = rows().assign(t=np.tile([1, 2], 12))
    with pytest.raises(StructureError, match="levels of 'g:t' are not") as caught:
        mar.mixedlm("y ~ x + (1 | gr(g:t, cov=K))", frame)
    del K
    assert "one type" not in str(caught.value)
