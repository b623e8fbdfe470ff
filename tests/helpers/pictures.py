"""What can be asked of any rendered picture."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.text import Text

import mixedar.formula.api as mar
from mixedar.datasets import load_growth, load_orthodont

mpl.use("Agg")


@cache
def teeth() -> Any:
    """Growth of 27 jaws, each with a line of its own."""
    return mar.mixedlm(
        "distance ~ age * sex",
        load_orthodont(),
        groups="subject",
        re_formula="~age",
        time="occ",
    ).fit()


@cache
def growth() -> Any:
    """Growth of 2,500 people; days beside the times."""
    data = load_growth()
    data["day"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(data["time"], unit="D")
    return mar.mixedlm(
        "y ~ time + treatment", data, groups="id", re_formula="~time", time="time"
    ).fit()


def visible_texts(figure: Figure) -> list[Text]:
    """All texts that a reader sees, ticks outside of the axes left out."""
    found = [text for text in figure.findobj(Text) if text.get_text().strip()]
    ticks: set[Text] = set()
    shown: set[Text] = set()
    hidden: set[Any] = set()
    for ax in figure.findobj(mpl.axes.Axes):
        if not ax.get_visible():
            hidden.update(ax.findobj(Text))
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            slack = 1e-9 * (high - low)
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                labels = {tick.label1, tick.label2}
                ticks |= labels
                if low - slack <= tick.get_loc() <= high + slack:
                    shown |= labels
    return [
        text
        for text in found
        if text.get_visible()
        and text not in hidden
        and (text not in ticks or text in shown)
    ]


def check_picture(figure: Any) -> None:
    """Nothing is cut off, no text covers another, and it has something to read."""
    while not isinstance(figure, Figure):
        figure = figure.figure
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    texts = visible_texts(figure)
    assert texts
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
    width, height = figure.canvas.get_width_height()
    for words, box in boxes:
        inside = (
            box.x0 > -1.5
            and box.y0 > -1.5
            and box.x1 < width + 1.5
            and box.y1 < height + 1.5
        )
        assert inside, f"{words!r} is cut off: {box}"
    for (one, a), (other, b) in combinations(boxes, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        down = min(a.y1, b.y1) - max(a.y0, b.y0)
        # boxes are higher than their letters
        assert across < 1.0 or down < 3.0, f"{one!r} covers {other!r}"
