"""
Path diagrams of latent variables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mixedar.plotting import CAPTION, COLOURS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

# Heights of what stands in a row: covariates, latent variables, waves, residuals.
_COVARIATES, _LATENT, _WAVES, _RESIDUALS = 3.2, 1.7, 0.0, -0.95
_SQUARE = {"boxstyle": "square,pad=0.45", "fc": "white", "ec": "black"}
_ELLIPSE = {"boxstyle": "ellipse,pad=0.15", "fc": "white", "ec": COLOURS[0]}
_CIRCLE = {"boxstyle": "circle,pad=0.25", "fc": "white", "ec": CAPTION}
# How far along an arrow its number stands: of loadings, and more of later variables.
_ALONG, _FURTHER = 0.6, 0.13
_WIDEST = 16.0  # inches


def plot_paths(paths: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """
    Draw a growth curve's paths: from covariates to latent variables to waves.

    Parameters
    ----------
    paths : DataFrame
        ``lhs``, ``op``, ``rhs`` and ``value``: loadings ``=~``, means ``~1``,
        regressions ``~`` and covariances ``~~``.
    ax : Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    loadings, means, regressions, covariances = (
        paths[paths["op"] == op] for op in ("=~", "~1", "~", "~~")
    )
    waves = loadings["rhs"].drop_duplicates().tolist()
    latent = loadings["lhs"].drop_duplicates().tolist()
    given = regressions["rhs"].drop_duplicates().tolist()
    width = max(len(waves), 2 * len(latent), len(given))
    side, top = 0.5 * width + 0.2, _COVARIATES + 0.4 if given else _LATENT + 0.8
    ax = axes(ax, min(2.8 * side, _WIDEST), 1.4 * (top - _RESIDUALS + 0.7))
    places = _spread(waves, _WAVES, len(waves))
    places |= _spread(latent, _LATENT, width)
    places |= _spread(given, _COVARIATES, width)
    mean = dict(zip(means["lhs"], means["value"], strict=True))
    variance = {a: value for a, b, value in _triples(covariances) if a == b}
    nodes = {}
    for name in latent:
        text = [name]
        if name in mean:
            text.append(f"mean {mean[name]:.3g}")
        if name in variance:
            text.append(f"variance {variance[name]:.3g}")
        nodes[name] = _node(ax, places[name], "\n".join(text), _ELLIPSE, size=9.0)
    for name in [*waves, *given]:
        nodes[name] = _node(ax, places[name], name, _SQUARE)
    residual = {}
    for wave in waves:
        at, own = (places[wave][0], _RESIDUALS), f"e\n{variance[wave]:.3g}"
        residual[wave] = _node(ax, at, own, _CIRCLE, size=8.0)
        _arrow(ax, residual[wave], nodes[wave], "")
    for name, wave, value in _triples(loadings):
        along = _ALONG + _FURTHER * (latent.index(name) % 3 - 1)
        _arrow(ax, nodes[name], nodes[wave], f"{value:.3g}", along)
    for name, covariate, value in _triples(regressions):
        _arrow(ax, nodes[covariate], nodes[name], f"{value:.3g}")
    for a, b, value in _triples(covariances):
        if a in residual and waves.index(b) == waves.index(a) + 1:
            _arc(ax, residual[a], residual[b], f"{value:.3g}", 0.6)
        elif a not in residual and a != b:
            _arc(ax, nodes[a], nodes[b], f"{value:.3g}", -0.3)
    ax.set(xlim=(-side, side), ylim=(_RESIDUALS - 0.7, top), aspect="equal")
    ax.set_axis_off()
    return ax


def _triples(paths: pd.DataFrame) -> list[tuple[str, str, float]]:
    columns = (paths[name] for name in ("lhs", "rhs", "value"))
    return list(zip(*columns, strict=True))


def _spread(
    names: list[str], height: float, width: float
) -> dict[str, tuple[float, float]]:
    """Places side by side, around the middle."""
    step = width / max(len(names), 1)
    left = -0.5 * step * (len(names) - 1)
    return {name: (left + step * k, height) for k, name in enumerate(names)}


def _node(
    ax: Axes,
    at: tuple[float, float],
    text: str,
    box: dict[str, str],
    size: float = 10.0,
) -> Text:
    """A name in its frame."""
    return ax.text(*at, text, ha="center", va="center", size=size, bbox=box, zorder=3)


def _arrow(ax: Axes, start: Text, end: Text, text: str, along: float = 0.5) -> None:
    """A straight arrow between frames, its number on it."""
    _line(ax, start, end, "-|>", "black", 0.0)
    if text:
        first, last = np.array(start.get_position()), np.array(end.get_position())
        x, y = first + along * (last - first)
        _number(ax, x, y, text)


def _arc(ax: Axes, start: Text, end: Text, text: str, bend: float) -> None:
    """A curve with two heads, its number at the middle."""
    _line(ax, start, end, "<|-|>", CAPTION, bend)
    (x, y), (last, _) = start.get_position(), end.get_position()
    _number(ax, 0.5 * (x + last), y - 0.5 * bend * (last - x), text)


def _line(
    ax: Axes, start: Text, end: Text, heads: str, color: str, bend: float
) -> None:
    style = {
        "arrowstyle": heads,
        "color": color,
        "lw": 0.9,
        "connectionstyle": f"arc3,rad={bend}",
        "patchA": start.get_bbox_patch(),
        "patchB": end.get_bbox_patch(),
        "shrinkA": 1.0,
        "shrinkB": 1.0,
    }
    ends = end.get_position(), start.get_position()
    ax.annotate("", *ends, arrowprops=style, zorder=1)


def _number(ax: Axes, x: float, y: float, text: str) -> None:
    box = {"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none"}
    ax.text(x, y, text, ha="center", va="center", size=8, bbox=box, zorder=2)
