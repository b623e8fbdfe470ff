"""Pictures of residuals: what is drawn agrees with the numbers, and can be read."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from numpy.testing import assert_allclose

import mixedar.formula.api as mar
from helpers.fitted_models import reference_frame, shared
from helpers.pictures import check_picture, growth, teeth
from mixedar.datasets import load_bodyweight, load_growth, load_orthodont
from mixedar.diagnostics.residuals.autocorrelation import autocorrelation
from mixedar.diagnostics.residuals.series import distance_label
from mixedar.exceptions import (
    LengthError,
    UnknownColumnError,
    UnsupportedError,
)
from mixedar.plotting import smooth_line
from mixedar.plotting.correlation import plot_acf
from mixedar.plotting.residuals import density


@cache
def rats() -> Any:
    return mar.mixedlm(
        "weight ~ time * C(diet)",
        load_bodyweight(),
        groups="rat",
        re_formula="~time",
        time="time",
        residual="car1",
    ).fit()


PICTURES: dict[str, Callable[[], Axes]] = {
    "acf": lambda: growth().plot_acf(),
    "acf of irregular times": lambda: rats().plot_acf(),
    "acf, white noise": lambda: shared("slope").plot_acf("pearson"),
    "acf, one lag": lambda: teeth().plot_acf(max_lag=1),
    "variogram": lambda: growth().plot_variogram(),
    "variogram, smooth": lambda: rats().plot_variogram(),
    "variogram, robust": lambda: shared("car1").plot_variogram("raw", robust=True),
    "residuals": lambda: growth().plot_residuals(),
    "residuals by time": lambda: growth().plot_residuals("time"),
    "residuals by day": lambda: growth().plot_residuals("day"),
    "residuals by arm": lambda: growth().plot_residuals("treatment", "raw"),
    "residuals by group": lambda: growth().plot_residuals("groups"),
    "residuals of teeth": lambda: teeth().plot_residuals("subject", "pearson"),
    "residuals and means": lambda: rats().plot_residuals("mean"),
    "residuals and x": lambda: shared("slope").plot_residuals("x"),
    "residuals without bands": lambda: rats().plot_residuals(n_sim=0),
    "residuals without lines": lambda: rats().plot_residuals(smooth=False),
    "quantiles": lambda: growth().qqplot(),
    "quantiles of teeth": lambda: teeth().qqplot("pearson", band="pointwise"),
    "density": lambda: growth().plot_simulated(seed=1),
    "group means": lambda: teeth().plot_simulated("group_means", seed=1),
    "statistic": lambda: teeth().plot_simulated("lag1", 200, seed=1),
    "own statistic": lambda: teeth().plot_simulated(np.ptp, 50, seed=1),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_can_be_read(name: str) -> None:
    ax = PICTURES[name]()
    assert isinstance(ax, Axes)
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    check_picture(ax.figure)


def test_pictures_on_given_axes() -> None:
    figure, grid = plt.subplots(2, 3, figsize=(15, 9), layout="constrained")
    fit = teeth()
    calls: list[Callable[[Axes], Axes]] = [
        lambda ax: fit.plot_acf(ax=ax),
        lambda ax: fit.plot_variogram(ax=ax),
        lambda ax: fit.plot_residuals(ax=ax),
        lambda ax: fit.qqplot(ax=ax),
        lambda ax: fit.plot_simulated(ax=ax, seed=1),
        lambda ax: fit.plot_residuals("groups", ax=ax),
    ]
    for call, ax in zip(calls, grid.flat, strict=True):
        assert call(ax) is ax
    check_picture(figure)


def points(ax: Axes) -> np.ndarray:
    """All points drawn with markers, shape (n, 2)."""
    found = [
        line.get_xydata()
        for line in ax.get_lines()
        if line.get_marker() not in ("None", None, "")
    ]
    return np.concatenate(found)


def test_lags_with_few_pairs_are_not_drawn() -> None:
    """Two groups alone are seen for long: mean products of few pairs are beyond one."""
    rng = np.random.default_rng(3)
    sizes = np.r_[np.full(12, 4), 9, 10]
    group = np.repeat(np.arange(len(sizes)), sizes)
    time = np.concatenate([np.arange(k) for k in sizes])
    values = rng.normal(size=len(group))
    ends = np.flatnonzero(np.diff(np.r_[group, -1]))[-2:]
    values[ends] = values[ends - sizes[-2:] + 2] = 9.0  # pairs at lags 7 and 8
    table = autocorrelation(values, group, time, max_lag=9)
    assert table["acf"].abs().max() > 1.0
    ax = plot_acf(table)
    told = (table["pairs"] >= 4) & (table["acf"].abs() <= 1.0)
    assert ax.get_xlabel() == f"Lag ({9 - told[1:].sum()} of 9 left out: too few pairs)"
    low, high = ax.get_xlim()
    assert low < table["lag"][told][1:].min() <= table["lag"][told].max() < high
    assert high < table["lag"][~told].max() + 1.0
    assert max(map(abs, ax.get_ylim())) < 1.5


def test_acf_is_drawn() -> None:
    fit = rats()
    ax = fit.plot_acf()
    table = fit.acf().iloc[1:]
    drawn = pd.DataFrame(points(ax)).sort_values(0)
    assert_allclose(drawn[0], table["lag"])
    assert_allclose(drawn[1], table["acf"])
    outside = (table["acf"] < table["lower"]) | (table["acf"] > table["upper"])
    marked = [line for line in ax.get_lines() if line.get_label() == "outside"]
    assert len(marked[0].get_xdata()) == outside.sum() > 0
    bars = [(p.get_y(), p.get_y() + p.get_height()) for p in ax.patches]
    assert_allclose(bars, table[["lower", "upper"]])


def test_variogram_is_drawn() -> None:
    fit = rats()
    ax = fit.plot_variogram()
    table = fit.variogram()
    assert_allclose(ax.collections[0].get_offsets(), table[["distance", "gamma"]])
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert_allclose(lines["model: errors"].get_ydata(), table["model"])
    assert_allclose(lines["model: residuals"].get_ydata(), table["expected"])
    assert "smoothed" in lines
    assert ax.get_ylim()[0] == 0.0
    plain = teeth().plot_variogram(smooth=False)
    assert "smoothed" not in {line.get_label() for line in plain.get_lines()}


def test_residuals_are_drawn() -> None:
    fit = shared("slope")
    ax = fit.plot_residuals("x", "pearson")
    expected = np.column_stack([reference_frame()["x"], fit.residuals("pearson")])
    assert_allclose(points(ax), expected)
    by_fitted = points(fit.plot_residuals(smooth=False))
    assert_allclose(by_fitted[:, 0], fit.fittedvalues)
    by_mean = points(fit.plot_residuals("mean", "raw"))
    assert_allclose(by_mean, np.column_stack([fit.fitted_marginal, fit.resid]))


def test_lines_lie_in_their_bands_if_the_model_is_true() -> None:
    # residuals rise with the fitted values here, as they must
    ax = growth().plot_residuals()
    lines = {line.get_label(): line for line in ax.get_lines()}
    x, mean = lines["local mean"].get_data()
    assert mean[-1] - mean[0] > 1.0
    band = ax.collections[1].get_paths()[0]
    middle = np.column_stack([x, mean])[5:-5]
    assert np.mean(band.contains_points(middle, radius=1e-9)) > 0.9


def test_boxes_of_groups() -> None:
    ax = teeth().plot_residuals("groups")
    names = [text.get_text() for text in ax.get_xticklabels()]
    assert names == [str(label) for label in teeth().model.group_labels]
    few = growth().plot_residuals("id", max_groups=7)
    assert len(few.get_xticks()) == 7
    assert "7 of 2,500 groups" in few.get_title()
    medians = [line.get_ydata()[0] for line in few.get_lines() if _is_median(line)]
    assert medians == sorted(medians)
    residuals = growth().residuals("normalized")
    by_group = residuals.groupby(growth().fit.data.codes).median()
    assert medians[0] == pytest.approx(by_group.min())
    assert medians[-1] == pytest.approx(by_group.max())


def _is_median(line: Any) -> bool:
    return line.get_linewidth() == 1.6 and len(line.get_xdata()) == 2


def test_quantiles_are_drawn() -> None:
    from mixedar.diagnostics.residuals.normality import residual_quantiles

    fit = teeth()
    table = residual_quantiles(fit.fit)
    drawn = pd.DataFrame(points(fit.qqplot())).sort_values(0)
    assert_allclose(drawn, table[["theoretical", "observed"]])
    ax = fit.qqplot(labels=2)
    named = [text.get_text() for text in ax.texts]
    below = table["observed"] < table["lower"]
    above = table["observed"] > table["upper"]
    assert 0 < len(named) <= 2
    assert set(named) <= {str(label) for label in table.index[below | above]}
    assert not fit.qqplot(labels=0).texts
    many = points(growth().qqplot())
    assert len(many) < 3000
    assert many[:, 1].min() == residual_quantiles(growth().fit)["observed"].min()


def test_simulated_data_are_drawn() -> None:
    fit = teeth()
    ax = fit.plot_simulated(n_sim=20, seed=1)
    assert len(ax.get_lines()) == 21
    y = load_orthodont()["distance"].to_numpy()
    draws = fit.simulate(20, seed=1)
    low, high = min(y.min(), draws.min().min()), max(y.max(), draws.max().max())
    assert_allclose(ax.get_lines()[-1].get_xydata().T, density(y, low, high))
    assert_allclose(
        ax.get_lines()[3].get_xydata().T, density(draws[3].to_numpy(), low, high)
    )
    check = fit.predictive_check(["sd", "lag1"], 100, seed=2)
    ax = check.plot("lag1")
    line = ax.get_lines()[-1]
    assert line.get_xdata()[0] == check.observed["lag1"]
    assert sum(patch.get_height() for patch in ax.patches) == 100
    with pytest.raises(UnknownColumnError, match="'skew'"):
        check.plot("skew")


def test_densities() -> None:
    from scipy.stats import norm

    x = norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    grid, values = density(x, x.min(), x.max())
    assert_allclose(values, norm.pdf(grid), atol=0.01)
    step = grid[1] - grid[0]
    assert values.sum() * step == pytest.approx(1.0, abs=1e-3)
    constant = density(np.ones(5), 1.0, 1.0)
    assert np.isfinite(constant).all()


def test_smooth_lines() -> None:
    rng = np.random.default_rng(1)
    x = rng.uniform(0.0, 6.0, size=5000)
    where, line = smooth_line(x, np.sin(x) + 0.1 * rng.normal(size=5000), 0.2)
    assert (np.diff(where) > 0.0).all()
    inner = (where > 0.5) & (where < 5.5)
    assert_allclose(line[inner], np.sin(where[inner]), atol=0.08)
    few, means = smooth_line(np.array([0.0, 0.0, 1.0]), np.array([1.0, 2.0, 5.0]))
    assert few.tolist() == [0.0, 1.0]
    assert means.tolist() == [1.5, 5.0]
    assert len(smooth_line(np.zeros(4), np.zeros(4))[0]) == 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"time": "time"}, "Lag in time"),
        ({}, "Lag (rows)"),
        ({"time": "half"}, "Lag (steps of 0.5)"),
        ({"time": "day"}, "Lag (days)"),
        ({"time": "day", "residual": "independent"}, "Lag (days)"),
        ({"time": "quarter"}, "Lag (quarters)"),
    ],
)
def test_units_of_lags(change: dict[str, Any], expected: str) -> None:
    data = load_growth().head(400)
    data["half"] = data["time"] / 2.0
    data["day"] = pd.Timestamp("2024-01-05") + pd.to_timedelta(data["time"], unit="D")
    start = pd.Period("2024Q1", freq="Q")
    data["quarter"] = [start + int(k) for k in data["time"]]
    fit = mar.mixedlm("y ~ 1", data, groups="id", re_formula="0", **change).fit()
    assert distance_label(fit.fit, "Lag") == expected


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda f: f.plot_residuals("nothing"), UnknownColumnError, "nothing"),
        (lambda f: f.plot_residuals([1, 2]), LengthError, "x has 2"),
        (lambda f: f.plot_residuals(kind="odd"), UnsupportedError, "odd"),
        (lambda f: f.plot_residuals(n_sim=-1), UnsupportedError, "n_sim"),
        (
            lambda f: f.plot_residuals("groups", max_groups=1),
            UnsupportedError,
            "max_groups",
        ),
        (lambda f: f.plot_simulated("means"), UnsupportedError, "means"),
        (lambda f: f.plot_simulated(n_sim=0), UnsupportedError, "n_sim"),
        (lambda f: f.plot_simulated(groups="old"), UnsupportedError, "groups"),
    ],
)
def test_pictures_refuse(call: Any, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        call(teeth())
