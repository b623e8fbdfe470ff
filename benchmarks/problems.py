"""
The workloads: seeded generators that return a data frame and a model.

Every generator takes a ``scale``: 1 is the published size, and smaller values
shrink the number of clusters (or the length of the series), so that the same
code serves a smoke run of seconds and the tests.  Nothing here imports
mixedar: the data must not depend on the program under test.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.panel_problems import (
    ENTITIES,
    PANEL_WORKLOADS,
    PERIODS,
    TASKS,
    panel_frame,
)
from benchmarks.related_problems import RELATED_WORKLOADS, related_frame
from benchmarks.specs import LevelsSpec, ModelSpec, SmoothSpec
from benchmarks.structure_problems import STRUCTURE_WORKLOADS, structure_frame

__all__ = [
    "LEVELS_RIVALS",
    "ONLY_MIXEDAR",
    "PLAIN",
    "PROBLEMS",
    "SMOOTHS",
    "ModelSpec",
    "Problem",
    "build",
    "tiny",
]

#: Workloads that rivals run only when they are named on the command line.
ONLY_MIXEDAR = ("huge",)

#: Workloads of several factors, and who fits them beside mixedar.
LEVELS_RIVALS: dict[str, tuple[str, ...]] = {
    "crossed_300x100": ("lme4", "statsmodels"),
    "items": ("glmmTMB", "lme4"),
    "nested": ("nlme", "lme4"),
    "ratings": ("lme4",),
}

#: Workloads without residual correlation, and those with it that share their data.
PLAIN = {"growth_plain": "growth", "big_plain": "big"}

#: Workloads of smooths, and their clusters.
SMOOTHS = {"smooth": 2_500, "smooth_big": 125_000}

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """Data and model of one workload.

    Attributes
    ----------
    name : str
        Key in :data:`PROBLEMS`.
    title : str
        One line for the report.
    model : ModelSpec
        What is to be fitted.
    data : DataFrame
        One row an observation, sorted by cluster and time.
    responses : ndarray of shape (n_fits, n_rows)
        For the workloads that refit: one response a fit.  Empty otherwise.
    at_once : bool
        Whether a program may take them together.
    """

    name: str
    title: str
    model: ModelSpec
    data: pd.DataFrame
    responses: Floats = field(default_factory=lambda: np.empty((0, 0)))
    at_once: bool = False

    @property
    def design_bytes(self) -> int:
        """Size of X and Z as dense float64 arrays, in bytes."""
        return 8 * len(self.data) * self.model.design_columns

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return int(self.data[self.model.groups].nunique())

    @property
    def largest_cluster(self) -> int:
        """Rows of the largest cluster."""
        return int(self.data[self.model.groups].value_counts().iloc[0])


GROWTH = ModelSpec("y", ("time", "treatment"), "id", ("time",), "time", "ar1")
DROPOUT = ModelSpec("y", ("time", "dose"), "id", ("dose",), "time", "ar1")
LONG = ModelSpec("y", ("x",), "id", (), "time", "car1")
CROSSED = LevelsSpec("y", ("x",), "a", (), "row", "independent", ("b",))
ITEMS = LevelsSpec("y", ("cond",), "subject", ("cond",), "trial", "ar1", ("item",))
NESTED = LevelsSpec(
    "y", ("time",), "pupil", ("time",), "time", "ar1", ("school",), nested=True
)
RATINGS = LevelsSpec(
    "y", ("service",), "student", (), "row", "independent", ("lecturer", "dept")
)
SMOOTH = SmoothSpec("y", ("arm",), "id", (), "visit", "ar1", "s(age, by=arm, k=10)")
REFITS = ModelSpec("y", ("time", "x"), "id", (), "time", "ar1")
REFITS_SLOPE = ModelSpec("y", ("time", "x"), "id", ("time",), "time", "ar1")


def _ar1(rng: np.random.Generator, clusters: int, waves: int, rho: float) -> Floats:
    """Stationary AR(1) noise of unit variance, shape (clusters, waves)."""
    noise = rng.standard_normal((clusters, waves))
    step = np.sqrt(1.0 - rho**2)
    for j in range(1, waves):
        noise[:, j] = rho * noise[:, j - 1] + step * noise[:, j]
    return noise


def _car1(rng: np.random.Generator, times: Floats, rho: float) -> Floats:
    """Stationary CAR(1) noise of unit variance at `times` (series, length)."""
    noise = rng.standard_normal(times.shape)
    carry = rho ** np.diff(times, axis=1)
    step = np.sqrt(1.0 - carry**2)
    for j in range(1, times.shape[1]):
        noise[:, j] = carry[:, j - 1] * noise[:, j - 1] + step[:, j - 1] * noise[:, j]
    return noise


def _growth_frame(seed: int, clusters: int, waves: int) -> pd.DataFrame:
    """Growth curves: two arms (a text column), random slope, AR(1) residuals."""
    rng = np.random.default_rng(seed)
    time = np.tile(np.arange(waves), clusters)
    arm = np.repeat(np.arange(clusters) % 2, waves)
    b = rng.standard_normal((clusters, 2)) * (0.58, 0.26)
    y = 0.13 + 0.51 * time - 0.42 * arm
    y += np.repeat(b[:, 0], waves) + np.repeat(b[:, 1], waves) * time
    y += 0.95 * _ar1(rng, clusters, waves, 0.67).ravel()
    return pd.DataFrame(
        {
            "y": y,
            "time": time,
            "treatment": np.array(["control", "treatment"], dtype=object)[arm],
            "id": np.repeat(np.arange(1, clusters + 1), waves),
        }
    )


def _shipped_growth() -> pd.DataFrame | None:
    """The growth data of the package, read without importing the package."""
    spec = importlib.util.find_spec("mixedar")
    for place in (spec and spec.submodule_search_locations) or ():
        path = Path(place) / "datasets" / "growth.csv.gz"
        if path.is_file():
            return pd.read_csv(path, converters={"y": float})
    return None


def _clusters(full: int, scale: float) -> int:
    return max(40, round(full * scale))


def growth(scale: float) -> Problem:
    """The package's growth data at scale 1, simulated ones otherwise."""
    frame = _shipped_growth() if scale == 1.0 else None
    origin = "shipped" if frame is not None else "simulated"
    if frame is None:
        frame = _growth_frame(1, _clusters(2_500, scale), 4)
    title = f"growth ({origin}): random slope, text factor"
    return Problem("growth", title, GROWTH, frame)


def big(scale: float) -> Problem:
    """The growth model with fifty times the clusters."""
    frame = _growth_frame(2, _clusters(125_000, scale), 4)
    return Problem("big", "growth model, 125,000 x 4 at scale 1", GROWTH, frame)


def _plain(name: str) -> Callable[[float], Problem]:
    """Generator of a workload without its residual correlation."""

    def plain(scale: float) -> Problem:
        problem = PROBLEMS[PLAIN[name]](scale)
        model = replace(problem.model, residual="independent")
        title = f"{problem.title}, independent residuals"
        return replace(problem, name=name, title=title, model=model)

    return plain


def huge(scale: float) -> Problem:
    """The growth model on a million clusters; rivals only when named."""
    frame = _growth_frame(3, _clusters(1_000_000, scale), 5)
    title = "growth model, 1,000,000 x 5 at scale 1"
    return Problem("huge", title, GROWTH, frame)


def dropout(scale: float) -> Problem:
    """Drop-out, missing waves, and a random slope on a row's own covariate."""
    rng = np.random.default_rng(4)
    clusters, waves = _clusters(100_000, scale), 8
    time = np.tile(np.arange(waves), clusters)
    cluster = np.repeat(np.arange(clusters), waves)
    dose = rng.normal(1.0, 0.5, clusters * waves)
    b = rng.multivariate_normal([0.0, 0.0], [[0.5, 0.1], [0.1, 0.3]], clusters)
    y = 1.0 - 0.2 * time + 0.6 * dose
    y += b[cluster, 0] + b[cluster, 1] * dose
    y += _ar1(rng, clusters, waves, 0.5).ravel()
    # Each person leaves for good with probability 0.1 a wave; a wave before
    # that is missed with probability 0.15; everybody has the first wave.
    last = rng.geometric(0.1, clusters)
    seen = (time < last[cluster]) & (rng.random(time.size) > 0.15) | (time == 0)
    frame = pd.DataFrame({"y": y, "time": time, "dose": dose, "id": cluster + 1})
    frame = frame.loc[seen].reset_index(drop=True)
    title = "drop-out, missing waves, slope on a covariate that varies by row"
    return Problem("dropout", title, DROPOUT, frame)


def long(scale: float) -> Problem:
    """Forty long series at irregular times: CAR(1), random intercept."""
    rng = np.random.default_rng(5)
    series, length = 40, max(20, round(20_000 * scale))
    time = np.cumsum(rng.exponential(1.0, (series, length)), axis=1)
    x = rng.standard_normal((series, length))
    y = 2.0 + 0.3 * x + rng.standard_normal((series, 1))
    y += 1.5 * _car1(rng, time, 0.6)
    frame = pd.DataFrame(
        {
            "y": y.ravel(),
            "x": x.ravel(),
            "time": time.ravel(),
            "id": np.repeat(np.arange(1, series + 1), length),
        }
    )
    title = "40 series x 20,000 irregular times at scale 1, CAR(1)"
    return Problem("long", title, LONG, frame)


def _refits(scale: float, name: str, model: ModelSpec, seed: int) -> Problem:
    """Small data sets that share X, Z and times and differ in the response."""
    rng = np.random.default_rng(seed)
    clusters, waves, fits = 30, 5, max(5, round(10_000 * scale))
    rows = clusters * waves
    time = np.tile(np.arange(waves), clusters)
    cluster = np.repeat(np.arange(clusters), waves)
    x = np.repeat(rng.standard_normal(clusters), waves)
    noise = _ar1(rng, fits * clusters, waves, 0.4).reshape(fits, rows)
    y = 1.0 + 0.5 * time + 0.3 * x + noise
    y += rng.standard_normal((fits, clusters))[:, cluster]
    if model.slopes:
        y += 0.4 * rng.standard_normal((fits, clusters))[:, cluster] * time
    frame = pd.DataFrame({"y": y[0], "time": time, "x": x, "id": cluster + 1})
    effects = "intercept and slope" if model.slopes else "intercept"
    title = f"10,000 refits of 30 x 5 at scale 1, random {effects}, one core"
    return Problem(name, title, model, frame, y)


def refits(scale: float) -> Problem:
    """Many small fits with a random intercept, as in a bootstrap."""
    return _refits(scale, "refits", REFITS, 6)


def refits_slope(scale: float) -> Problem:
    """Many small fits with a random slope, as in a bootstrap."""
    return _refits(scale, "refits_slope", REFITS_SLOPE, 7)


def refits_many(scale: float) -> Problem:
    """The same, by programs that can fit many responses at once."""
    problem = _refits(scale, "refits_many", REFITS_SLOPE, 7)
    title = f"{problem.title}, together"
    return replace(problem, title=title, at_once=True)


def crossed_300x100(scale: float) -> Problem:
    """Two crossed factors, levels of the second drawn row by row."""
    rng = np.random.default_rng(21)
    n_a, n_b = _clusters(300, scale), max(20, round(100 * scale))
    each = max(10, round(100 * scale))
    a = np.repeat(np.arange(n_a), each)
    b = rng.integers(0, n_b, a.size)
    x = rng.standard_normal(a.size)
    y = x + rng.standard_normal(n_a)[a] + rng.standard_normal(n_b)[b]
    y += rng.standard_normal(a.size)
    row = np.tile(np.arange(each), n_a)
    frame = pd.DataFrame({"y": y, "x": x, "row": row, "a": a + 1, "b": b + 1})
    title = "300 x 100 levels, crossed, 30,000 rows at scale 1, random intercepts"
    return Problem("crossed_300x100", title, CROSSED, frame)


def items(scale: float) -> Problem:
    """Every subject sees all items, in an order of its own."""
    rng = np.random.default_rng(22)
    subjects, n_items = _clusters(200, scale), max(20, round(60 * scale))
    subject = np.repeat(np.arange(subjects), n_items)
    item = rng.permuted(np.tile(np.arange(n_items), (subjects, 1)), axis=1).ravel()
    cond = rng.permutation(np.arange(subject.size) % 2) - 0.5
    u = rng.standard_normal((subjects, 2)) * (0.6, 0.3)
    v = rng.standard_normal((n_items, 2)) * (0.4, 0.2)
    y = 6.0 + 0.3 * cond + _ar1(rng, subjects, n_items, 0.4).ravel()
    y += u[subject, 0] + u[subject, 1] * cond + v[item, 0] + v[item, 1] * cond
    frame = pd.DataFrame(
        {
            "y": y,
            "cond": cond,
            "trial": np.tile(np.arange(n_items), subjects),
            "subject": subject + 1,
            "item": item + 1,
        }
    )
    title = "200 subjects x 60 items at scale 1, slopes for both, AR(1) over trials"
    return Problem("items", title, ITEMS, frame)


def nested(scale: float) -> Problem:
    """Pupils in schools, seen six times; labels of pupils do not repeat."""
    rng = np.random.default_rng(23)
    schools, times = max(20, round(200 * scale)), 6
    each = max(10, round(100 * scale))
    pupils = schools * each
    pupil = np.repeat(np.arange(pupils), times)
    time, school = np.tile(np.arange(times), pupils), pupil // each
    u = rng.standard_normal((schools, 2)) * (0.7, 0.2)
    v = rng.standard_normal((pupils, 2)) * (0.8, 0.3)
    y = time + u[school, 0] + u[school, 1] * time + v[pupil, 0] + v[pupil, 1] * time
    y += _ar1(rng, pupils, times, 0.4).ravel()
    frame = pd.DataFrame(
        {"y": y, "time": time, "pupil": pupil + 1, "school": school + 1}
    )
    title = "200 schools x 100 pupils x 6 times at scale 1, slopes at both levels"
    return Problem("nested", title, NESTED, frame)


def ratings(scale: float) -> Problem:
    """Students rate lecturers of departments, as in lme4's InstEval."""
    rng = np.random.default_rng(24)
    students, lecturers = max(60, round(3_000 * scale)), max(40, round(1_100 * scale))
    departments = max(8, round(28 * scale))
    rows = max(10 * students, round(73_000 * scale))
    pair = np.sort(rng.choice(students * lecturers, rows, replace=False))
    student, lecturer = pair // lecturers, pair % lecturers
    dept = lecturer % departments
    service = rng.integers(0, 2, rows)
    y = 3.2 - 0.1 * service + 0.35 * rng.standard_normal(students)[student]
    y += 0.5 * rng.standard_normal(lecturers)[lecturer]
    y += 0.2 * rng.standard_normal(departments)[dept] + 1.2 * rng.standard_normal(rows)
    frame = pd.DataFrame(
        {
            "y": np.clip(np.rint(y), 1, 5),
            "service": service,
            "row": pd.Series(student).groupby(student).cumcount().to_numpy(),
            "student": student + 1,
            "lecturer": lecturer + 1,
            "dept": dept + 1,
        }
    )
    title = "3,000 students x 1,100 lecturers, 28 departments, 73,000 rows at scale 1"
    return Problem("ratings", title, RATINGS, frame)


def _smooth(name: str) -> Callable[[float], Problem]:
    """Generator of a workload of smooths: four visits at ages of each one's own."""
    full = SMOOTHS[name]

    def smooth(scale: float) -> Problem:
        rng = np.random.default_rng(25)
        clusters, visits = _clusters(full, scale), 4
        age = np.sort(rng.uniform(0.0, 12.0, (clusters, visits)), axis=1)
        arm = np.arange(clusters) % 3
        curves = np.stack([np.sin(age / 2.0), np.cos(age / 3.0), np.log1p(age)])
        y = 5.0 + curves[arm, np.arange(clusters)]
        y += 0.7 * rng.standard_normal((clusters, 1))
        y += _ar1(rng, clusters, visits, 0.5)
        frame = pd.DataFrame(
            {
                "y": y.ravel(),
                "age": age.ravel(),
                "visit": np.tile(np.arange(visits), clusters),
                "arm": np.repeat(np.array(["a", "b", "c"], dtype=object)[arm], visits),
                "id": np.repeat(np.arange(1, clusters + 1), visits),
            }
        )
        title = f"{full:,} x 4 at scale 1: a smooth of age by arm, AR(1) over visits"
        return Problem(name, title, SMOOTH, frame)

    return smooth


def _related(name: str) -> Callable[[float], Problem]:
    """Generator of a workload of related levels."""
    model, title = RELATED_WORKLOADS[name]

    def related(scale: float) -> Problem:
        return Problem(name, title, model, related_frame(name, scale))

    return related


def _panel(name: str) -> Callable[[float], Problem]:
    """Generator of a panel workload; they share the data."""
    model = PANEL_WORKLOADS[name]
    size = f"{ENTITIES:,} x {PERIODS} at scale 1"

    def panel(scale: float) -> Problem:
        frame = panel_frame(_clusters(ENTITIES, scale))
        return Problem(name, f"{TASKS[model.task]}, {size}", model, frame)

    return panel


def _structure(name: str) -> Callable[[float], Problem]:
    """Generator of a workload of residual structures."""
    workload = STRUCTURE_WORKLOADS[name]

    def structure(scale: float) -> Problem:
        frame = structure_frame(workload, _clusters(workload.clusters, scale))
        return Problem(name, workload.title, workload.model, frame)

    return structure


PROBLEMS: dict[str, Callable[[float], Problem]] = {
    "growth": growth,
    "big": big,
    "huge": huge,
    **{name: _plain(name) for name in PLAIN},
    "dropout": dropout,
    "long": long,
    "refits": refits,
    "refits_slope": refits_slope,
    "refits_many": refits_many,
    "crossed_300x100": crossed_300x100,
    "items": items,
    "nested": nested,
    "ratings": ratings,
    **{name: _smooth(name) for name in SMOOTHS},
    **{name: _related(name) for name in RELATED_WORKLOADS},
    **{name: _structure(name) for name in STRUCTURE_WORKLOADS},
    **{name: _panel(name) for name in PANEL_WORKLOADS},
}


def build(name: str, scale: float = 1.0) -> Problem:
    """Make a workload.

    Parameters
    ----------
    name : str
        A key of :data:`PROBLEMS`.
    scale : float
        Size relative to the published one, in (0, 1].

    Returns
    -------
    Problem

    Raises
    ------
    ValueError
        For an unknown name or a scale outside (0, 1].
    """
    if name not in PROBLEMS:
        raise ValueError(f"no workload {name!r}; there are {', '.join(PROBLEMS)}")
    if not 0.0 < scale <= 1.0:
        raise ValueError(f"scale must lie in (0, 1], not {scale}")
    return PROBLEMS[name](scale)


def tiny(name: str) -> Problem:
    """The smallest version of a workload: for warming up and for tests."""
    return build(name, 0.0005)
