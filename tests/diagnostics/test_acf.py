"""Autocorrelation and semivariogram, against sums over pairs and nlme."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import mixedar.diagnostics.residuals.autocorrelation as products_module
import mixedar.diagnostics.residuals.variogram as variogram_module
import mixedar.formula.api as mar
from helpers.fitted_models import dense, shared
from mixedar.datasets import load_growth, load_orthodont
from mixedar.diagnostics import autocorrelation, semivariogram
from mixedar.diagnostics.residuals.series import (
    LagBins,
    choose_bins,
    count_pairs,
    grid_sums,
    sorted_values,
)
from mixedar.exceptions import (
    LengthError,
    MissingDataError,
    NotComputedError,
    TimeError,
    UnsupportedError,
)

REFERENCE = Path(__file__).parents[1] / "reference" / "diagnostics"


@cache
def from_nlme(name: str) -> dict[str, np.ndarray]:
    """Values of nlme's ACF and Variogram; make.R in the folder wrote them."""
    text = (REFERENCE / f"{name}.json").read_text(encoding="utf-8")
    return {key: np.array(value, float) for key, value in json.loads(text).items()}


def all_pairs(
    x: Any, group: Any, time: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances, products and half squared differences, pair by pair."""
    x, group, time = (np.asarray(v) for v in (x, group, time))
    i, j = np.triu_indices(len(x), 1)
    same = group[i] == group[j]
    i, j = i[same], j[same]
    return np.abs(time[i] - time[j]), x[i] * x[j], 0.5 * (x[i] - x[j]) ** 2


def random_values(seed: int, n: int = 60) -> pd.DataFrame:
    """Groups with gaps, rows out of order."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"g": np.repeat(np.arange(6), 10), "t": np.tile(range(10), 6)})
    frame["x"] = rng.normal(size=60)
    keep = rng.uniform(size=60) < 0.7
    return frame[keep].sample(frac=1.0, random_state=seed).head(n)


# Autocorrelation


@pytest.mark.parametrize("kind", ["pearson", "normalized"])
def test_acf_agrees_with_nlme(kind: str) -> None:
    expected = from_nlme("ovary")
    found = autocorrelation(expected[kind], expected["group"])
    assert_allclose(found["acf"], expected[f"{kind}_acf"], atol=1e-12)
    assert_allclose(found["pairs"], expected[f"{kind}_pairs"])
    found = autocorrelation(expected[kind], expected["group"], max_lag=10)
    assert_allclose(found["acf"], expected[f"{kind}_acf10"], atol=1e-12)
    half = 1.959963984540054 / np.sqrt(found["pairs"][1:])
    assert_allclose(found["upper"][1:], half)
    assert_allclose(found["lower"][1:], -half)
    assert found.loc[0, ["lag", "acf"]].tolist() == [0.0, 1.0]
    assert np.isnan(found.loc[0, "lower"])


@given(seed=st.integers(0, 10_000))
def test_lags_are_distances_in_time(seed: int) -> None:
    data = random_values(seed)
    found = autocorrelation(data["x"], data["g"], data["t"], max_lag=9).set_index("lag")
    distance, product, _ = all_pairs(data["x"], data["g"], data["t"])
    square = float((data["x"] ** 2).mean())
    assert set(found.index[1:]) == {d for d in distance if d <= 9}
    for lag in found.index[1:]:
        here = distance == lag
        assert found.loc[lag, "pairs"] == here.sum()
        assert found.loc[lag, "acf"] == pytest.approx(product[here].mean() / square)


@given(seed=st.integers(0, 10_000), width=st.floats(0.2, 3.0))
def test_lags_of_irregular_times(seed: int, width: float) -> None:
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"g": np.arange(40) % 5, "x": rng.normal(size=40)})
    data["t"] = rng.uniform(0.0, 10.0, size=40)
    found = autocorrelation(
        data["x"], data["g"], data["t"], max_lag=6.0, bin_width=width
    )
    distance, product, _ = all_pairs(data["x"], data["g"], data["t"])
    bins = np.rint(distance / width)
    last = int(6.0 / width + 1e-9)
    expected = [b for b in np.unique(bins) if b <= last]
    square = float((data["x"] ** 2).mean())
    assert len(found) == len(expected) + 1
    for row, b in zip(found.iloc[1:].itertuples(), expected, strict=True):
        assert row.pairs == (bins == b).sum()
        assert row.lag == pytest.approx(distance[bins == b].mean())
        assert row.acf == pytest.approx(product[bins == b].mean() / square)


def test_invariances() -> None:
    data = random_values(3)
    found = autocorrelation(data["x"], data["g"], data["t"])
    other = data.sample(frac=1.0, random_state=9)
    label = other["g"].map(dict(enumerate("zyxwvu")))
    again = autocorrelation(10.0 * other["x"], label, 3 * other["t"] + 7)
    again["lag"] /= 3.0
    pd.testing.assert_frame_equal(found, again)
    dates = pd.Timestamp("2024-01-31") + pd.to_timedelta(other["t"], unit="D")
    pd.testing.assert_frame_equal(
        found, autocorrelation(other["x"], other["g"], pd.Series(dates))
    )


def test_series_and_rows_as_times() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=24)
    series = np.tile([0, 1], 12)
    group = np.repeat([0, 1], 12)
    found = autocorrelation(x, group, series=series, max_lag=2)
    each = [x[(group == g) & (series == s)] for g in (0, 1) for s in (0, 1)]
    lag1 = np.concatenate([v[1:] * v[:-1] for v in each]).mean()
    assert found["acf"][1] == pytest.approx(lag1 / np.mean(x**2))
    assert found["pairs"].tolist() == [24, 20, 16]


def test_times_that_occur_twice_are_no_pair_of_a_lag() -> None:
    x = np.array([1.0, 2.0, 3.0, 4.0])
    time = np.array([0, 0, 1, 1])
    found = autocorrelation(x, time=time)
    assert found["pairs"].tolist() == [4, 4]
    assert found["acf"][1] == pytest.approx((3 + 4 + 6 + 8) / 4 / np.mean(x**2))
    near = semivariogram(x, time=time)
    assert near["distance"].tolist() == [0.0, 1.0]
    assert near["gamma"][0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ([7, 1, 6], LagBins(1.0, True)),
        ([2, 4, 8], LagBins(2.0, True)),
        ([0.5, 1.0], LagBins(0.5, True)),
        ([0.3, 1.0, 1.7], LagBins(1.0, False)),
        ([86400, 86399, 86401], LagBins(86400.0, False)),
        ([], LagBins(1.0, True)),
    ],
)
def test_grid_of_times_is_recognised(gaps: list[float], expected: LagBins) -> None:
    assert choose_bins(np.array(gaps, dtype=float)) == expected


def test_long_series_by_fourier_transform() -> None:
    rng = np.random.default_rng(4)
    n = 3 * 700
    x, group, time = rng.normal(size=n), np.repeat([0, 1, 2], 700), np.arange(n)
    keep = rng.uniform(size=n) < 0.8
    x, rows = sorted_values(x[keep], group[keep], time[keep])
    bins = choose_bins(rows.gaps)
    counts, products, squares = grid_sums(x[:, None], rows, bins.width, 40)
    direct = products_module.lag_products(x[:, None], rows, bins, 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products_module, "_MANY_PAIRS", 0)
        fourier = products_module.lag_products(x[:, None], rows, bins, 40)
    for one, other in zip(direct, fourier, strict=True):
        assert_allclose(one, other, atol=1e-9)
    assert_allclose(counts[1:], direct[0][1:])
    assert_allclose(products[1:], direct[2][1:], atol=1e-9)
    assert squares[0] == pytest.approx(2.0 * (x @ x))


def test_number_of_pairs_is_known_before() -> None:
    data = random_values(5)
    _, rows = sorted_values(data["x"], data["g"])
    assert count_pairs(rows, 100.0) == len(
        all_pairs(data["x"], data["g"], data["t"])[0]
    )


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"max_lag": 0.0}, UnsupportedError, "max_lag"),
        ({"max_lag": 0.5}, UnsupportedError, "shorter than the first lag"),
        ({"max_lag": "3"}, UnsupportedError, "max_lag"),
        ({"bin_width": -1.0}, UnsupportedError, "bin_width"),
        ({"alpha": 1.0}, UnsupportedError, "alpha"),
        ({"time": ["a", "b", "c", "d"]}, TimeError, "holds text"),
        ({"time": [1, 2, 3]}, LengthError, "time"),
        ({"groups": [1, 2, 3, 4]}, NotComputedError, "two observations"),
        ({"values": [1.0, np.nan, 2.0, 3.0]}, MissingDataError, "missing"),
        ({"values": [0.0, 0.0, 0.0, 0.0]}, NotComputedError, "zero"),
        ({"values": [[1.0, 2.0]]}, UnsupportedError, "shape"),
        ({"values": []}, UnsupportedError, "shape"),
    ],
)
def test_acf_refuses(change: dict[str, Any], error: type, words: str) -> None:
    arguments: dict[str, Any] = {"values": [1.0, -1.0, 2.0, 0.5], **change}
    with pytest.raises(error, match=words):
        autocorrelation(arguments.pop("values"), **arguments)


def test_residual_acf_of_a_fit() -> None:
    fit = shared("slope")
    data = fit.model.data.frame
    for kind in ("raw", "pearson", "normalized"):
        found = fit.acf(kind, bounds="white")
        expected = autocorrelation(fit.residuals(kind), data["id"], data["t"])
        pd.testing.assert_frame_equal(found, expected)
    with pytest.raises(UnsupportedError, match="bounds"):
        fit.acf(bounds="grey")
    with pytest.raises(UnsupportedError, match="normalized"):
        fit.acf("pearson", bounds="model")
    with pytest.raises(UnsupportedError, match="kind"):
        fit.acf("studentized")


@pytest.mark.parametrize("name", ["slope", "both", "series", "independent"])
def test_expected_acf(name: str) -> None:
    model = dense(shared(name))
    found = shared(name).acf(max_lag=3).set_index("lag")
    cov = model.cov_normalized
    square = np.trace(cov) / model.n
    _, variance = model.efficient([model.lag(lag) for lag in (1, 2, 3)])
    for lag, own in zip((1.0, 2.0, 3.0), np.diag(variance), strict=True):
        pairs = model.distance == lag
        expected = cov[pairs].mean() / square
        assert found["expected"][lag] == pytest.approx(expected, abs=1e-8)
        se = np.sqrt(own) / found["pairs"][lag] / square
        half = found["upper"][lag] - found["expected"][lag]
        assert half == pytest.approx(1.959964 * se, rel=1e-3)
        assert found["expected"][lag] - found["lower"][lag] == pytest.approx(half)
    assert found["expected"][0.0] == 1.0


def test_independent_residuals_have_times_too() -> None:
    # the model needs no times, the diagnostic does
    data = load_growth().head(400)
    shuffled = data.sample(frac=1.0, random_state=1)
    found = [
        mar.mixedlm("y ~ time", frame, groups="id", time="time", residual="independent")
        .fit()
        .acf()
        for frame in (data, shuffled)
    ]
    pd.testing.assert_frame_equal(found[0], found[1])
    assert found[0]["lag"].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_removed_data_say_so() -> None:
    data = load_orthodont()
    fit = mar.mixedlm("distance ~ age", data, groups="subject", time="occ").fit()
    fit.remove_data()
    for ask in (
        fit.acf,
        fit.variogram,
        fit.serial_correlation_test,
        fit.residual_spread,
        fit.heteroscedasticity_test,
        fit.normality_test,
        fit.simulate,
        fit.predictive_check,
        fit.plot_residuals,
    ):
        with pytest.raises(NotComputedError, match="removed"):
            ask()


# Semivariogram


def test_variogram_agrees_with_nlme() -> None:
    ovary = from_nlme("ovary")
    found = semivariogram(ovary["pearson"], ovary["group"], n_bins=100)
    assert_allclose(found["distance"], ovary["rows_distance"])
    assert_allclose(found["gamma"], ovary["rows_gamma"], rtol=1e-12)
    assert_allclose(found["pairs"], ovary["rows_pairs"])


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("plain", {}),
        ("near", {"max_distance": 42}),
        ("robust", {"robust": True}),
        ("fixed", {"bins": "fixed", "n_bins": 6}),
        ("quantiles", {"n_bins": 6}),
        ("robust6", {"n_bins": 6, "robust": True}),
    ],
)
def test_variogram_of_unequal_times_agrees_with_nlme(
    case: str, options: dict[str, Any]
) -> None:
    rats = from_nlme("bodyweight")
    found = semivariogram(rats["pearson"], rats["group"], rats["time"], **options)
    # where it bins distances, nlme loses the pairs at the smallest one
    first = 1 if "n_bins" in options else 0
    assert_allclose(found["distance"], rats[f"{case}_distance"])
    assert_allclose(found["gamma"][first:], rats[f"{case}_gamma"][first:], rtol=1e-12)
    assert_allclose(found["pairs"][first:], rats[f"{case}_pairs"][first:])
    if first:
        assert found["pairs"][0] == rats[f"{case}_pairs"][0] + 16


@given(seed=st.integers(0, 10_000), n_bins=st.integers(1, 30))
def test_variogram_by_all_pairs(seed: int, n_bins: int) -> None:
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"g": np.arange(30) % 4, "x": rng.normal(size=30)})
    data["t"] = rng.uniform(0.0, 10.0, size=30)
    distance, _, half = all_pairs(data["x"], data["g"], data["t"])
    found = semivariogram(data["x"], data["g"], data["t"], n_bins=n_bins)
    edges = np.quantile(distance, np.linspace(0.0, 1.0, n_bins + 1))
    which = np.searchsorted(edges[1:-1], distance, side="left")
    kept = [b for b in range(n_bins) if (which == b).any()]
    assert found["pairs"].tolist() == [(which == b).sum() for b in kept]
    assert_allclose(found["gamma"], [half[which == b].mean() for b in kept])
    assert_allclose(found["distance"], [np.median(distance[which == b]) for b in kept])
    assert found["pairs"].sum() == len(distance)


def test_many_pairs_in_narrow_bins() -> None:
    rng = np.random.default_rng(6)
    x, group = rng.normal(size=2000), np.repeat(np.arange(100), 20)
    time = rng.uniform(size=2000)
    exact = semivariogram(x, group, time)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variogram_module, "_KEPT_PAIRS", 0)
        narrow = semivariogram(x, group, time)
    assert narrow["pairs"].sum() == exact["pairs"].sum()
    assert_allclose(narrow["distance"], exact["distance"], atol=1e-3)
    assert_allclose(narrow["gamma"], exact["gamma"], atol=0.02)


def test_long_series_by_fourier_transform_and_by_pairs() -> None:
    rng = np.random.default_rng(7)
    x, group = rng.normal(size=1200), np.repeat([0, 1], 600)
    time = np.tile(np.arange(600), 2)
    exact = semivariogram(x, group, time, max_distance=599)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variogram_module, "_MOST_PAIRS", 10)
        fourier = semivariogram(x, group, time, max_distance=599)
        short = semivariogram(x, group, time)
    pd.testing.assert_frame_equal(exact, fourier)
    # without a distance the short lags are shown, one by one
    assert short["distance"].tolist() == list(range(1, 21))


def test_variogram_of_a_long_fit_by_fourier_transform() -> None:
    rng = np.random.default_rng(8)
    noise = rng.normal(size=(3, 300))
    for k in range(1, 300):
        noise[:, k] += 0.6 * noise[:, k - 1]
    data = pd.DataFrame({"y": noise.ravel(), "g": np.repeat([0, 1, 2], 300)})
    data["t"] = np.tile(np.arange(300), 3)
    fit = mar.mixedlm("y ~ t", data, groups="g", time="t", re_formula="0").fit()
    exact = fit.variogram(max_distance=200)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variogram_module, "_MOST_PAIRS", 10)
        fourier = fit.variogram(max_distance=200)
    pd.testing.assert_frame_equal(exact, fourier)


@pytest.mark.parametrize("name", ["slope", "car1", "both", "series"])
@pytest.mark.parametrize("kind", ["pearson", "normalized", "raw"])
def test_expected_variogram(name: str, kind: str) -> None:
    model, fit = dense(shared(name)), shared(name)
    cov = model.cov_normalized if kind == "normalized" else model.cov_pearson
    errors = np.eye(model.n) if kind == "normalized" else model.R
    unit = fit.scale if kind == "raw" else 1.0
    found = fit.variogram(kind).set_index("distance")
    x = fit.residuals(kind).to_numpy()
    for distance in (1.0, 3.0):
        pairs = model.distance == distance
        for column, matrix in (("expected", cov), ("model", errors)):
            half = 0.5 * (np.diag(matrix)[:, None] + np.diag(matrix)) - matrix
            expected = unit * half[pairs].mean()
            assert found[column][distance] == pytest.approx(expected, abs=1e-8)
        half = 0.5 * (x[:, None] - x) ** 2
        assert found["gamma"][distance] == pytest.approx(half[pairs].mean())


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"n_bins": 0}, UnsupportedError, "n_bins"),
        ({"n_bins": 2.5}, UnsupportedError, "n_bins"),
        ({"bins": "deciles"}, UnsupportedError, "bins"),
        ({"max_distance": "far"}, UnsupportedError, "max_distance"),
        ({"max_distance": 0.5}, NotComputedError, "within"),
        ({"groups": [1, 2, 3, 4]}, NotComputedError, "two observations"),
    ],
)
def test_variogram_refuses(change: dict[str, Any], error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        semivariogram([1.0, -1.0, 2.0, 0.5], **change)
