"""Semivariograms by distance in space, against nlme and by hand."""

from __future__ import annotations

import json
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar.api import AR1, Exponential
from mixedar.diagnostics import semivariogram
from mixedar.exceptions import MixedARError, NotComputedError
from mixedar.mixed.model import MixedLMAR

PLACES = Path(__file__).parents[1] / "reference" / "spatial"
COORDS = ("latitude", "longitude")


@cache
def nlme() -> dict[str, Any]:
    return json.loads((PLACES / "wheat.json").read_text())


@cache
def wheat() -> pd.DataFrame:
    return pd.read_csv(PLACES / "wheat.csv").assign(field="one")


@cache
def fitted(formula: str, groups: str) -> Any:
    return mar.mixedlm(formula, wheat(), groups=groups, re_formula="0").fit()


def assert_as_nlme(found: pd.DataFrame, name: str) -> None:
    """Compare but for the first bin, from which nlme leaves out the nearest pairs."""
    expected = pd.DataFrame(nlme()[name])
    assert len(found) == len(expected)
    for column in expected:
        np.testing.assert_allclose(
            found[column][1:], expected[column][1:], rtol=1e-8, err_msg=column
        )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("all", {}),
        ("near", {"max_distance": 32}),
        ("robust", {"max_distance": 32, "robust": True}),
        ("fixed", {"max_distance": 32, "n_bins": 10, "bins": "fixed"}),
    ],
)
def test_variograms_of_a_field(name: str, options: dict[str, Any]) -> None:
    fit = fitted("Q('yield') ~ 0 + C(variety)", "field")
    assert_as_nlme(fit.variogram(coords=COORDS, **options), name)
    plain = nlme()["plain"]
    values = np.array(plain["residuals"]) / plain["sigma"][0]
    found = semivariogram(values, coords=wheat()[list(COORDS)], **options)
    assert_as_nlme(found, name)


def test_pairs_stay_within_groups() -> None:
    fit = fitted("Q('yield') ~ 1", "block")
    found = fit.variogram(coords=COORDS, metric="manhattan", max_distance=20)
    assert_as_nlme(found, "block")


def small(seed: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.uniform(0.0, 4.0, size=(36, 2)), columns=["x", "y"])
    frame["field"] = np.repeat([0, 1], 18)
    frame["t"] = np.tile(np.arange(18), 2)
    apart = np.linalg.norm(frame[["x", "y"]].values[:, None] - frame[["x", "y"]].values,
                           axis=2)  # fmt: skip
    root = np.linalg.cholesky(np.exp(-apart) + 0.2 * np.eye(36))
    frame["z"] = root @ rng.normal(size=36)
    return frame.sample(frac=1.0, random_state=1)


@pytest.mark.parametrize("kind", ["pearson", "raw", "normalized"])
@pytest.mark.parametrize("structure", ["space", "city", "time"])
def test_what_the_model_says(structure: str, kind: str) -> None:
    frame = small()
    residual = {
        "space": Exponential(coords=("x", "y")),
        "city": Exponential(coords=("x", "y"), metric="manhattan"),
        "time": AR1(),
    }[structure]
    fit = mar.mixedlm(
        "z ~ x", frame, groups="field", time="t", re_formula="0", residual=residual
    ).fit()
    found = fit.variogram(kind, coords=["x", "y"], n_bins=1000)
    # dense: residuals are y - X b, with the covariance R - X (X'R^-1 X)^-1 X'
    order = frame.sort_values(["field", "t"])
    where = order[["t", "x", "y"]].rename(columns={"t": "time"})
    r = np.zeros((36, 36))
    for k in (0, 18):
        here = where.iloc[k : k + 18].reset_index(drop=True)
        r[k : k + 18, k : k + 18] = fit.structure.correlation(
            here if structure != "time" else here["time"], fit.residual_params
        )
    x = np.column_stack([np.ones(36), order["x"]])
    c = r - x @ np.linalg.inv(x.T @ np.linalg.solve(r, x)) @ x.T
    if kind == "normalized":
        half = np.linalg.inv(np.linalg.cholesky(r))
        c, r = half @ c @ half.T, np.eye(36)
    unit = fit.scale if kind == "raw" else 1.0
    order_of_norm = 1 if structure == "city" else 2
    values = fit.residuals(kind).loc[order.index].to_numpy()
    rows = []
    for i, j in combinations(range(36), 2):
        if i // 18 == j // 18:
            step = where[["x", "y"]].to_numpy()[[i, j]]
            distance = np.linalg.norm(step[0] - step[1], order_of_norm)
            halves = [0.5 * (m[i, i] + m[j, j]) - m[i, j] for m in (r, c)]
            rows.append((distance, 0.5 * (values[i] - values[j]) ** 2, *halves))
    expected = np.array(sorted(rows)).T
    np.testing.assert_allclose(found["distance"], expected[0])
    np.testing.assert_allclose(found["gamma"], expected[1], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found["model"], unit * expected[2], rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(
        found["expected"], unit * expected[3], rtol=1e-7, atol=1e-9
    )


def test_time_or_the_coordinates_of_the_structure() -> None:
    arguments = {"groups": "field", "re_formula": "0"}
    structure = Exponential(coords=("x", "y"))
    fit = mar.mixedlm("z ~ 1", small(), residual=structure, **arguments).fit()
    given = fit.variogram(coords=("x", "y"))
    pd.testing.assert_frame_equal(fit.variogram(), given)
    assert fit.plot_variogram().get_xlabel() == "Distance (x, y)"
    timed = mar.mixedlm("z ~ 1", small(), time="t", residual=structure, **arguments)
    found = timed.fit().variogram()
    assert sorted(found["distance"]) == list(range(1, 18))


def test_arrays() -> None:
    frame = small()
    model = MixedLMAR(
        frame["z"].to_numpy(),
        np.ones((36, 1)),
        groups=frame["field"].to_numpy(),
        exog_re=np.empty((36, 0)),
        residual=Exponential(coords=("x", "y")),
        residual_data={name: frame[name].to_numpy() for name in ("x", "y")},
    )
    fit = model.fit()
    given = fit.variogram(coords=frame[["x", "y"]].to_numpy())
    pd.testing.assert_frame_equal(fit.variogram(), given)


def test_many_pairs_are_summed_by_distance() -> None:
    rng = np.random.default_rng(0)
    values, places = rng.normal(size=3000), rng.uniform(size=(3000, 2))
    found = semivariogram(values, coords=places)
    # of 4.5 million pairs the nearer four millions, in narrow bins
    assert 3.9e6 < found["pairs"].sum() < 4.1e6
    sample = semivariogram(
        values[:600], coords=places[:600], max_distance=0.1, n_bins=1
    )
    apart = np.linalg.norm(places[:600, None] - places[:600], axis=2)
    one, other = np.nonzero(np.triu(apart <= 0.1, 1))
    assert sample["pairs"][0] == len(one)
    assert sample["gamma"][0] == pytest.approx(
        0.5 * np.mean((values[one] - values[other]) ** 2)
    )


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"coords": np.zeros((3, 2))}, MixedARError, "coords has 3"),
        ({"coords": [0.0, np.nan, 1.0, 2.0]}, MixedARError, "coord"),
        (
            {"coords": [0.0, 3.0, 6.0, 9.0], "metric": "taxi"},
            MixedARError,
            "choose 'eu",
        ),
        ({"coords": list("abcd")}, MixedARError, "coords"),
        (
            {"coords": [0.0, 3.0, 6.0, 9.0], "max_distance": 1.0},
            NotComputedError,
            "no t",
        ),
    ],
)
def test_what_is_refused(options: dict[str, Any], kind: type, words: str) -> None:
    with pytest.raises(kind, match=words):
        semivariogram([1.0, 2.0, 3.0, 4.0], **options)
