"""
Pictures of fits; matplotlib is imported only when one is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.exceptions import UnknownColumnError, UnsupportedError, shown
from mixedar.inference.arguments import check_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

#: Blue, vermilion, green, purple, orange, sky blue, black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
#: What is context: single groups behind a mean, reference lines.
GREY = "#7F7F7F"
MARKERS = "osD^vPX*"
LINES = ("-", "--", ":", "-.")
#: Opacity of confidence bands.
BAND = 0.2
#: Grey of small text that explains a picture.
CAPTION = "0.35"
# Panels side by side before a new line begins.
_ACROSS = 3
# Of more points means of neighbours are smoothed.
_MEANS = 400
# So many equally spaced positions have a tick each.
_MOST_TICKS = 10


def panel_grid(
    figure: Figure | SubFigure | None,
    count: int,
    across: int,
    panel: tuple[float, float],
    margin: tuple[float, float] = (0.0, 0.0),
    **options: Any,
) -> tuple[Figure | SubFigure, list[Axes]]:
    """A figure, the caller's or a new one, and its panels of a size, row by row."""
    down = -(-count // across)
    if figure is None:
        import matplotlib.pyplot as plt

        size = (margin[0] + panel[0] * across, margin[1] + panel[1] * down)
        figure = plt.figure(figsize=size, layout="constrained")
    if not callable(getattr(figure, "subplots", None)):
        raise UnsupportedError(f"{shown(figure)} is no matplotlib Figure to draw on")
    grid = figure.subplots(down, across, squeeze=False, **options)
    panels = list(grid.ravel())
    for ax in panels[count:]:
        ax.set_visible(False)
    for ax in panels[max(count - across, 0) : count]:
        ax.tick_params(axis="x", labelbottom=True)
    return figure, panels[:count]


def axes(ax: Axes | None, width: float = 6.0, height: float = 4.0) -> Axes:
    """The axes to draw on: the caller's, or those of a new figure."""
    if ax is not None:
        from matplotlib.axes import Axes

        if not isinstance(ax, Axes):
            raise UnsupportedError(f"ax={shown(ax)} is no matplotlib Axes to draw on")
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def label(ax: Axes, x: str, y: str, title: str | None = None, **legend: Any) -> Axes:
    """Name the axes, draw light frames, and a legend where something is labelled."""
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    if title:
        ax.set_title(title)
    ax.spines[["top", "right"]].set_visible(False)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, **legend)
    return ax


def chosen(names: Sequence[str], given: str | Iterable[str] | None) -> list[str]:
    """The names to draw: those given, or all; refuse unknown ones."""
    if given is None:
        return list(names)
    wanted = [given] if isinstance(given, str) else list(given)
    for name in wanted:
        if name not in names:
            raise UnknownColumnError(
                f"{name!r} is not in the table of what can be drawn; there are "
                f"{', '.join(map(repr, names))}"
            )
    if not wanted:
        raise UnsupportedError("name at least one quantity to draw")
    return wanted


def panel_axes(
    count: int,
    ax: Axes | Sequence[Axes] | None,
    width: float,
    height: float,
    *,
    share_y: bool = False,
) -> list[Axes]:
    """Axes for some panels: the caller's, or those of a new figure."""
    if ax is not None:
        given = list(np.ravel(np.asarray(ax, dtype=object)))
        if len(given) != count:
            raise UnsupportedError(
                f"ax= has {len(given)} axes for {count} panels; name fewer quantities, "
                "or pass one Axes for each"
            )
        return [axes(each) for each in given]
    if count == 1:
        return [axes(None, width, height)]
    across = min(count, _ACROSS)
    return panel_grid(None, count, across, (width, height), sharey=share_y)[1]


def picture(panels: Sequence[Axes]) -> Axes | Figure | SubFigure:
    """What a function returns: the Axes of a single panel, the Figure of several."""
    return panels[0] if len(panels) == 1 else panels[0].figure


def evenly(count: int, most: int) -> IntArray:
    """Ranks to draw when there are too many, both ends among them."""
    most = check_count(most, "max_groups")
    if count <= most:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, most).round().astype(np.intp))


def points(
    ax: Axes,
    x: FloatArray,
    y: FloatArray,
    out: BoolArray,
    size: float,
    size_outside: float,
) -> None:
    """Residuals as points, those outside of a band in another colour and shape."""
    blue, red = COLOURS[:2]
    ax.plot(x[~out], y[~out], "o", color=blue, markersize=size, label="residuals")
    if out.any():
        ax.plot(x[out], y[out], "D", color=red, ms=size_outside, label="outside")


def name_point(
    ax: Axes, text: str, place: tuple[float, float], shift: tuple[int, int], va: str
) -> None:
    """Write a name beside a point, shifted by so many typographic points."""
    side = "left" if shift[0] > 0 else "right"
    options: dict[str, Any] = {"textcoords": "offset points", "fontsize": "small"}
    ax.annotate(text, place, shift, ha=side, va=va, **options)


def whole_ticks(ax: Axes, x: FloatArray) -> None:
    """Ticks at whole numbers if the places are: at each place if they are few."""
    if not (x == np.rint(x)).all():
        return
    if len(x) <= 15 and np.ptp(x) <= 15:
        ax.set_xticks(x)
        return
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))


def smooth_line(
    x: FloatArray, y: FloatArray, share: float = 0.5
) -> tuple[FloatArray, FloatArray]:
    """
    Cleveland's local regression, on means of neighbours of many points.

    From left to right; means at each value of x if there are ten of them or fewer,
    and empty if there are fewer than two.
    """
    from statsmodels.nonparametric.smoothers_lowess import lowess

    if (np.diff(x) < 0.0).any():
        order = np.argsort(x, kind="stable")
        x, y = x[order], y[order]
    new = np.flatnonzero(np.diff(x, prepend=-np.inf) > 0.0)
    if len(new) < 2:
        return np.empty(0), np.empty(0)
    if len(new) <= 10:
        size = np.diff(np.append(new, len(x)))
        return x[new], np.add.reduceat(y, new) / size
    if len(x) > _MEANS:
        starts = np.linspace(0, len(x), _MEANS + 1).astype(np.intp)[:-1]
        size = np.diff(np.append(starts, len(x)))
        x, y = np.add.reduceat(x, starts) / size, np.add.reduceat(y, starts) / size
    fitted = lowess(y, x, frac=share, it=0, return_sorted=True)
    keep = np.append(np.diff(fitted[:, 0]) > 0.0, True)
    return fitted[keep, 0], fitted[keep, 1]


def legend_above(
    title: str | None = None, names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Options of a legend above the axes, in lines; inside if there is a title."""
    if title:
        return {"loc": "best"}
    across = 4
    if names is not None:  # as many side by side as there is room for
        across = int(np.clip(52 // (max(map(len, names)) + 6), 1, len(names)))
    return {
        "loc": "lower left",
        "bbox_to_anchor": (-0.02, 1.0),
        "ncols": across,
        "fontsize": "small",
        "columnspacing": 1.0,
        "handletextpad": 0.4,
        "borderaxespad": 0.1,
    }


def mark_positions(
    ax: Axes, x: NDArray[Any], ticks: Sequence[str] | None, most: int = _MOST_TICKS
) -> None:
    """At most so many ticks, where the observations are or where dates are round."""
    if ticks is not None:
        ax.set_xticks(range(len(ticks)), labels=ticks)
        if sum(map(len, ticks)) > 40 * most / _MOST_TICKS:
            ax.tick_params(axis="x", rotation=90)
        return
    if x.dtype.kind == "M":
        import matplotlib.dates as dates

        locator = dates.AutoDateLocator(minticks=2, maxticks=min(most, 6))
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
        return
    places = np.unique(x)
    steps = np.diff(places)
    if 1 < len(places) <= most and np.allclose(steps, steps[0], rtol=1e-6):
        ax.set_xticks(places)


def caption(ax: Axes, text: str) -> None:
    """Write small text below the label of the horizontal axis."""
    ax.annotate(
        text,
        xy=(0.5, 0.0),
        xycoords=ax.xaxis.get_label(),
        xytext=(0.0, -3.0),
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize="small",
        color=CAPTION,
        annotation_clip=False,
    )
