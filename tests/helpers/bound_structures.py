"""Every structure that is given by its cells, bound to a short series."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixedar.residual import (
    AR1,
    ARMA,
    CAR1,
    AnteDependence,
    CompoundSymmetry,
    DataLayout,
    Exponential,
    Gaussian,
    Linear,
    Matern,
    RationalQuadratic,
    ResidualStructure,
    Spherical,
    Toeplitz,
    Unstructured,
    resolve,
)

Array = Any
N = 6
TIME = np.array([0.0, 1.0, 2.0, 4.0, 5.0, 7.0])


def bound(name: Any, n: int = N) -> tuple[ResidualStructure, Array]:
    """A structure bound to one series, and the positions of its rows."""
    structure = resolve(name)
    time = TIME[:n]
    if not structure.uses_time:
        time = np.arange(n, dtype=float)
    rng = np.random.default_rng(5)
    columns, labels = [], []
    for mark in structure.marks:
        if mark.kind == "level":
            columns.append(np.arange(n, dtype=float))
            labels.append(tuple(f"t{k}" for k in range(n)))
        elif mark.kind == "stratum":
            columns.append(np.ones(n))
            labels.append(("a", "b"))
        else:
            columns.append(rng.uniform(0.0, 3.0, n))
            labels.append(None)
    marks = np.column_stack(columns) if columns else np.empty((n, 0))
    gaps = np.diff(time, prepend=time[0])
    every = np.tile(marks, (4, 1))
    layout = DataLayout(gaps[1:], n, float(time[-1]), every, tuple(labels))
    return structure.bind_layout(layout), np.column_stack([time, marks])


CASES: dict[str, Any] = {
    "arma11": ARMA(1, 1),
    "arma21": ARMA(2, 1),
    "ma2": ARMA(0, 2),
    "arma by": ARMA(1, 1, by="arm"),
    "cs": CompoundSymmetry(),
    "toep": Toeplitz(),
    "toep3": Toeplitz(3),
    "toep1": Toeplitz(1),
    "ad": AnteDependence(),
    "unr": Unstructured(),
    "un": "un",
    "ar1h": "ar1h",
    "csh": "csh",
    "exp": Exponential(),
    "exp in space": Exponential(coords=("x", "y")),
    "exp nugget": Exponential(nugget=True),
    "exp city": Exponential(coords=("x", "y"), metric="manhattan"),
    "exp max": Exponential(coords=("x", "y"), metric="maximum"),
    "gau nugget": Gaussian(coords=("x", "y"), nugget=True),
    "mat": Matern(),
    "mat space": Matern(coords=("x", "y"), nugget=True),
    "mat1.5": Matern(smoothness=1.5),
    "sph": Spherical(coords=("x", "y")),
    "ratio": RationalQuadratic(nugget=True),
    "lin": Linear(),
    "ar1 nugget": AR1(nugget=True),
    "car1 by": CAR1(by="arm"),
    "ar1 nugget by": AR1(nugget=True, by="arm"),
    "ar1": AR1(),
}
FREE = {name: case for name, case in CASES.items() if name != "toep1"}
