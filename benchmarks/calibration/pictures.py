"""The tables as dot plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.calibration.designs import DESIGNS, MODELS, RHOS
from benchmarks.calibration.summary import FALLBACK, select
from mixedar.plotting import BAND, COLOURS, GREY, MARKERS

__all__ = ["plot_coverages", "plot_sizes"]

_EFFECTS = {"F treatment": "treatment and time:treatment together"}
_TITLES = {"intercept": "random intercept", "slope": "random intercept and slope"}


def _band(share: float, n: int) -> tuple[float, float]:
    half = 196.0 * np.sqrt(share * (1.0 - share) / n)
    return 100.0 * share - half, 100.0 * share + half


def _panels(rows: list[int]) -> tuple[Any, Any]:
    """Panels with so many rows of dots for each model."""
    import matplotlib.pyplot as plt

    return plt.subplots(
        len(MODELS),
        len(DESIGNS),
        figsize=(10.5, 1.6 + 0.25 * sum(rows)),
        sharex=True,
        sharey="row",
        height_ratios=rows,
        layout="constrained",
        squeeze=False,
    )


def _dots(ax: Any, table: pd.DataFrame, labels: list[str], value: str) -> None:
    """One row a label, one mark a residual correlation."""
    place = {label: k for k, label in enumerate(labels)}
    for k, rho in enumerate(RHOS):
        here = table[table["rho"] == rho]
        here = here[here["label"].isin(labels)]
        y = here["label"].map(place).astype(float) + 0.16 * (k - 1.5)
        ax.plot(
            100.0 * here[value],
            y,
            linestyle="none",
            marker=MARKERS[k],
            markersize=5.0,
            color=COLOURS[k],
            label=f"ρ = {rho:g}",
        )
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="x", color=GREY, alpha=BAND, linewidth=0.6)
    ax.set_axisbelow(True)


def _finish(figure: Any, axes: Any, x: str, title: str, path: Path) -> None:
    import matplotlib.pyplot as plt

    for row, model in zip(axes, MODELS, strict=True):
        for ax, design in zip(row, DESIGNS, strict=True):
            ax.set_title(f"{design}, {_TITLES[model]}", fontsize=9)
            ax.tick_params(labelsize=8)
    for ax in axes[-1]:
        ax.set_xlabel(x, fontsize=9)
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=len(RHOS), frameon=False
    )
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def plot_sizes(tests: pd.DataFrame, effect: str, path: Path) -> None:
    """
    Rejection rates of a true hypothesis by method and cell.

    Parameters
    ----------
    tests : DataFrame
        Of :func:`benchmarks.calibration.summary.summaries`.
    effect : str
    path : Path
        Of the picture.
    """
    table = select(tests, effect=effect).rename(columns={"method": "label"})
    table = table[~table["label"].isin(FALLBACK)]
    labels = list(dict.fromkeys(table["label"]))
    figure, axes = _panels([len(labels)] * len(MODELS))
    n = int(table["replicates"].max())
    for row, model in zip(axes, MODELS, strict=True):
        for ax, design in zip(row, DESIGNS, strict=True):
            here = select(table, model=model, design=design)
            ax.axvspan(*_band(0.05, n), color=GREY, alpha=BAND, linewidth=0)
            ax.axvline(5.0, color=GREY, linewidth=0.8)
            _dots(ax, here, labels, "size")
    axes[0, 0].set_xlim(left=0.0)
    _finish(
        figure,
        axes,
        "true hypotheses rejected, %",
        f"Size of 5% tests of {_EFFECTS.get(effect, effect)} (band: where 95% of the "
        "sizes fall if 5% is true)",
        path,
    )


def plot_coverages(intervals: pd.DataFrame, path: Path) -> None:
    """
    Coverage of intervals for covariance parameters by method and cell.

    Parameters
    ----------
    intervals : DataFrame
        Of :func:`benchmarks.calibration.summary.summaries`.
    path : Path
        Of the picture.
    """
    table = intervals[intervals["method"] != "bootstrap"].copy()
    names = {"profile": "profile", "wald": "Wald", "nlme": "nlme"}
    labels = {
        model: [
            f"{parameter}, {name}"
            for parameter in dict.fromkeys(group["parameter"])
            for name in names.values()
        ]
        for model, group in table.groupby("model", sort=False)
    }
    table["label"] = table["parameter"] + ", " + table["method"].map(names)
    rows = [labels.get(model, [""]) for model in MODELS]
    figure, axes = _panels([len(one) for one in rows])
    n = int(table.groupby("method")["replicates"].max().min())
    for row, model, one in zip(axes, MODELS, rows, strict=True):
        for ax, design in zip(row, DESIGNS, strict=True):
            here = select(table, model=model, design=design)
            ax.axvspan(*_band(0.95, n), color=GREY, alpha=BAND, linewidth=0)
            ax.axvline(95.0, color=GREY, linewidth=0.8)
            _dots(ax, here, one, "coverage")
    _finish(
        figure,
        axes,
        "intervals that cover, %",
        "Coverage of 95% intervals (band: where 95% of the coverages fall if 95% is "
        "true)",
        path,
    )
