"""Corners where cost once grew faster than the data: time, memory and exponent.

    python benchmarks/corners.py                 # every corner
    python benchmarks/corners.py means120 kr300  # these
    python benchmarks/corners.py --scale 0.1     # smaller data

Each figure comes from a process of its own, with one thread.  The exponent is that
of processor time by the size of the data, between half of a size and all of it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure import measure

__all__ = ["CORNERS", "cost_of", "main"]

Floats = NDArray[np.float64]
#: What is measured, made by a function of the scale of the data.
Work = Callable[[], object]

_SEED = 5


def _size(whole: int, scale: float) -> int:
    return max(int(whole * scale), 2)


def _rows(groups: int, size: int, *, irregular: bool = False) -> pd.DataFrame:
    """Groups with an intercept of their own and AR(1) errors, rho = 0.6 a unit."""
    rng = np.random.default_rng(_SEED)
    times = np.tile(np.arange(size, dtype=np.float64), (groups, 1))
    if irregular:
        times = np.sort(rng.uniform(0.0, size, (groups, size)), axis=1)
    errors = rng.standard_normal((groups, size))
    for j in range(1, size):
        rho = 0.6 ** (times[:, j] - times[:, j - 1])
        errors[:, j] = rho * errors[:, j - 1] + np.sqrt(1.0 - rho**2) * errors[:, j]
    x = rng.standard_normal((groups, size))
    y = 1.0 + 0.5 * x + errors + rng.standard_normal((groups, 1))
    return pd.DataFrame(
        {
            "g": np.repeat(np.arange(groups), size),
            "t": times.ravel(),
            "x": x.ravel(),
            "y": y.ravel(),
        }
    )


def _with_columns(frame: pd.DataFrame, number: int) -> tuple[pd.DataFrame, str]:
    """The frame with so many regressors more, fewer of few rows, and a formula."""
    number = min(number, len(frame) // 4)
    rng = np.random.default_rng(_SEED + 1)
    names = [f"v{j}" for j in range(number)]
    more = pd.DataFrame(rng.standard_normal((len(frame), number)), columns=names)
    return pd.concat([frame, more], axis=1), "y ~ " + " + ".join(names)


def _model(frame: pd.DataFrame, formula: str = "y ~ x", **options: Any) -> Any:
    import mixedar.formula.api as mar

    return mar.mixedlm(formula, frame, groups="g", time="t", **options)


def _scaled_variance(scale: float, *, residual: str) -> Work:
    """Markov correlation with a variance function, rows of ten a group."""
    from mixedar.api import VarIdent, VarPower

    irregular = residual == "car1"
    frame = _rows(_size(10_000, scale), 10, irregular=irregular)
    rng = np.random.default_rng(_SEED + 2)
    frame["arm"] = np.where(frame.g % 2 == 0, "a", "b")
    frame["size"] = np.exp(0.3 * rng.standard_normal(len(frame)))
    weights = VarIdent("arm") if irregular else VarPower("size")
    return lambda: _model(frame, residual=residual, weights=weights).fit()


@dataclass(frozen=True)
class _Residual:
    """Groups, rows of each, and the structure that is fitted to them alone."""

    groups: int
    size: int
    name: str
    arguments: tuple[int, ...] = ()
    nugget: bool = False
    irregular: bool = False
    seen: float = 1.0

    def work(self, scale: float) -> Work:
        import mixedar.api

        frame = _rows(self.groups, _size(self.size, scale), irregular=self.irregular)
        seen = np.random.default_rng(_SEED + 4).uniform(size=len(frame)) < self.seen
        options = {"nugget": True} if self.nugget else {}
        residual = getattr(mixedar.api, self.name)(*self.arguments, **options)
        kept = frame[seen]
        return lambda: _model(kept, re_formula="0", residual=residual).fit()


def _slopes(scale: float, *, number: int) -> Work:
    frame = _rows(_size(400, scale), 20)
    rng = np.random.default_rng(_SEED + 5)
    names = [f"z{j}" for j in range(number)]
    frame[names] = rng.standard_normal((len(frame), number))
    own = 0.5 * rng.standard_normal((frame.g.max() + 1, number))
    frame["y"] += (frame[names].to_numpy() * own[frame.g]).sum(axis=1)
    return lambda: _model(frame, re_formula="1 + " + " + ".join(names)).fit()


def _field(scale: float) -> Work:
    import mixedar.formula.api as mar
    from mixedar.api import Exponential

    rng = np.random.default_rng(_SEED + 6)
    places = rng.uniform(0.0, 10.0, (_size(1_600, scale), 2))
    frame = pd.DataFrame(places, columns=["east", "north"])
    frame["g"], frame["x"] = 0, rng.standard_normal(len(frame))
    apart = np.linalg.norm(places[:, None] - places, axis=2)
    root = np.linalg.cholesky(np.exp(-0.5 * apart) + 1e-9 * np.eye(len(frame)))
    frame["y"] = frame.x + root @ rng.standard_normal(len(frame))
    residual = Exponential(coords=("east", "north"))
    options = {"groups": "g", "re_formula": "0", "residual": residual}
    return lambda: mar.mixedlm("y ~ x", frame, **options).fit()


def _irregular_question(scale: float, *, question: str) -> Work:
    frame = _rows(_size(500, scale), 5, irregular=True)
    fit = _model(frame, residual="car1").fit()
    if question == "profile":
        return lambda: fit.conf_int_re(method="profile")
    return lambda: fit.diagnose()


def _wide_fit(scale: float) -> Work:
    frame, formula = _with_columns(_rows(_size(400, scale), 5), 240)
    return lambda: _model(frame, formula).fit()


def _wide_tests(scale: float) -> Work:
    frame, formula = _with_columns(_rows(_size(600, scale), 5), 300)
    return lambda: str(_model(frame, formula).fit().with_df("kenward-roger").summary())


def _robust(scale: float) -> Work:
    fit = _model(_rows(20, _size(1_000, scale))).fit()
    return lambda: str(fit.get_robustcov_results("CR2").summary())


def _means(scale: float) -> Work:
    frame = _rows(_size(2_000, scale), 6)
    levels = np.random.default_rng(_SEED + 3).integers(0, 120, len(frame))
    frame["level"] = levels.astype(str)
    fit = _model(frame, "y ~ level").fit()
    return lambda: fit.marginal_means("level")


def _anova(scale: float) -> Work:
    frame = _rows(_size(2_000, scale), 6)
    rng = np.random.default_rng(_SEED + 3)
    frame["a"] = rng.integers(0, 60, len(frame)).astype(str)
    frame["b"] = rng.integers(0, 2, len(frame)).astype(str)
    fit = _model(frame, "y ~ a * b").fit()
    return lambda: fit.anova()


def _many_groups(scale: float, *, groups: int, question: str) -> Work:
    rng = np.random.default_rng(_SEED)
    many = _size(groups, scale)
    frame = pd.DataFrame(
        {
            "g": np.repeat(np.arange(many), 3),
            "t": np.tile([0, 1, 2], many),
            "x": rng.standard_normal(3 * many),
        }
    )
    own = np.repeat(rng.standard_normal(many), 3)
    frame["y"] = frame.x + own + rng.standard_normal(3 * many)
    fit = _model(frame).fit()
    if question == "summary":
        return lambda: str(fit.summary())
    if question == "effects":
        return lambda: fit.random_effects[0]
    return lambda: pd.DataFrame(fit.random_effects).T


def _report(scale: float) -> Work:
    import tempfile

    from mixedar.api import VarPower
    from mixedar.datasets import load_growth

    frame = load_growth().rename(columns={"id": "g", "time": "t"})
    frame = frame[frame.g <= _size(2_500, scale)]
    fit = _model(frame, "y ~ t * treatment", weights=VarPower("fitted")).fit()

    def write() -> object:
        with tempfile.TemporaryDirectory() as folder:
            return fit.report(Path(folder) / "report.html")

    return write


#: Corner -> a residual structure that fits all of the covariance by itself.
_RESIDUALS: Mapping[str, _Residual] = {
    "exp1000": _Residual(1, 1_000, "Exponential", irregular=True),
    "exp_nugget1000": _Residual(1, 1_000, "Exponential", nugget=True, irregular=True),
    "exp_nugget20x10000": _Residual(
        20, 10_000, "Exponential", nugget=True, irregular=True
    ),
    "gaussian_nugget1000": _Residual(1, 1_000, "Gaussian", nugget=True, irregular=True),
    "matern500": _Residual(1, 500, "Matern", irregular=True),
    "arma11_1000": _Residual(3, 1_000, "ARMA", (1, 1)),
    "arma21_5x3000": _Residual(5, 3_000, "ARMA", (2, 1)),
    "arma33_500": _Residual(3, 500, "ARMA", (3, 3)),
    "ar1_nugget1000": _Residual(3, 1_000, "AR1", nugget=True),
    "toeplitz5_1000": _Residual(3, 1_000, "Toeplitz", (5,)),
    "toeplitz60_missed": _Residual(100, 60, "Toeplitz", seen=0.9),
    "ante60_missed": _Residual(200, 60, "AnteDependence", seen=0.9),
    "un30_missed": _Residual(400, 30, "Unstructured", seen=0.9),
}

#: Corner -> the work to be measured, made for a scale.
CORNERS: Mapping[str, Callable[[float], Work]] = {
    "profiles500irr": lambda s: _irregular_question(s, question="profile"),
    "diagnosis500irr": lambda s: _irregular_question(s, question="diagnosis"),
    "fe240x400": _wide_fit,
    "car_varident_100k": lambda s: _scaled_variance(s, residual="car1"),
    "ar1_varpower_100k": lambda s: _scaled_variance(s, residual="ar1"),
    "means120": _means,
    "anova60x2": _anova,
    "kr300": _wide_tests,
    "cr2_20x1000": _robust,
    "report_weights": _report,
    "summary1m": lambda s: _many_groups(s, groups=1_000_000, question="summary"),
    "effects100k": lambda s: _many_groups(s, groups=100_000, question="effects"),
    "slopes8": lambda s: _slopes(s, number=8),
    "slopes12": lambda s: _slopes(s, number=12),
    "field1600": _field,
    **{name: residual.work for name, residual in _RESIDUALS.items()},
    "all_effects100k": lambda s: _many_groups(s, groups=100_000, question="frame"),
}


def _measured(name: str, scale: float) -> dict[str, float]:
    """In this process: processor seconds and peak memory of the work."""
    import mixedar.formula.api  # noqa: F401  (imports are not what is measured)

    found = measure(CORNERS[name](scale), at_least=0.0, most_calls=1)
    return {"cpu": found.cpu, "megabytes": found.extra_bytes / 2**20}


def cost_of(name: str, scale: float = 1.0) -> dict[str, float]:
    """
    Processor seconds and peak memory of a corner, in a process of its own.

    Parameters
    ----------
    name : str
        Key in :data:`CORNERS`.
    scale : float
        Of the data; 1 is the size that the corner is known by.

    Returns
    -------
    dict
        ``cpu`` in seconds and ``megabytes`` beyond what was there before.
    """
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, __file__, name, "--scale", str(scale), "--here"],
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name} at scale {scale} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(arguments: list[str] | None = None) -> None:
    """Measure corners and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CORNERS))
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(CORNERS)
    if unknown:
        parser.error(f"no corner called {', '.join(sorted(unknown))}")
    if options.here:
        print(json.dumps(_measured(options.names[0], options.scale)))
        return
    print(f"{'corner':20s} {'seconds':>8s} {'MB':>7s} {'exponent':>8s}")
    for name in options.names or CORNERS:
        half, whole = (cost_of(name, options.scale * part) for part in (0.5, 1.0))
        exponent = math.log2(whole["cpu"] / half["cpu"])
        print(
            f"{name:20s} {whole['cpu']:8.3f} {whole['megabytes']:7.0f} {exponent:8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
