"""Pictures of smooths show what the frames hold."""

from __future__ import annotations

import numpy as np
import pytest

import mixedar.formula.api as mar
from helpers.smooth_cases import fitted, table
from mixedar.exceptions import UnknownColumnError


def test_a_panel_each() -> None:
    fit = fitted("smooth_by_ar1_reml")
    figure = fit.plot_smooths()
    panels = figure.axes
    assert [ax.get_ylabel() for ax in panels] == [f"s(time):arm{arm}" for arm in "abc"]
    curve = fit.smooth("s(time):arma")
    line = panels[0].get_lines()[1]
    np.testing.assert_allclose(line.get_ydata(), curve["fit"])
    pointwise, rug = panels[0].collections[1], panels[0].get_lines()[-1]
    heights = pointwise.get_paths()[0].vertices[:, 1]
    assert heights.max() == pytest.approx(curve["upper"].max())
    assert rug.get_xdata().tolist() == list(range(1, 13))
    assert len({ax.get_ylim() for ax in panels}) == 1
    assert len(fit.plot_smooths(["s(time):armb"]).axes) == 1
    assert len(fit.plot_smooths("s(time)", simultaneous=False).axes) == 3
    with pytest.raises(UnknownColumnError, match="no smooth"):
        fit.plot_smooths("s(x)")


def test_surfaces_and_levels() -> None:
    rows = table("smooth_arms").assign(u=lambda d: (7919.0 * d["x"]) % 1.0)
    fit = mar.mixedlm("y ~ te(x, time, k=4) + s(u, k=5)", rows).fit()
    surface, _ = fit.plot_smooths(n=20).axes
    assert (surface.get_xlabel(), surface.get_ylabel()) == ("x", "time")
    assert surface.get_title() == "te(x,time)"
    levels = mar.mixedlm('y ~ s(time, id, bs="fs", k=5)', rows).fit()
    (ax,) = levels.plot_smooths().axes
    assert len(ax.get_lines()) == 24 + 1
    (ax,) = levels.plot_smooths(max_levels=5).axes
    assert len(ax.get_lines()) == 5 + 1


def test_overview_of_a_fit() -> None:
    assert len(fitted("smooth_cr_ar1_reml").plot().axes) == 4
