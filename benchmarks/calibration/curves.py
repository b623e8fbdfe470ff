"""
Do the bands of a smooth cover the true curve, for each point and as a whole?

``python benchmarks/calibration/curves.py`` simulates curves with AR(1) residuals, fits
them with and without the correlation, and writes coverages, a table and a picture.
Responses come from the dense Cholesky factor of their covariance.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

import mixedar.formula.api as mar  # noqa: E402
from mixedar.exceptions import MixedARError, MixedARWarning  # noqa: E402

__all__ = ["CELLS", "Cell", "coverage_table", "main", "markdown", "replicates"]

Floats = NDArray[np.float64]

HERE = Path(__file__).resolve().parent
SEED, POINTS = 20261201, 41
GRID = np.linspace(0.0, 1.0, POINTS)
#: True curves, with a standard deviation near one over the range of the covariate.
CURVES = {
    "line": lambda x: 3.4 * (x - 0.5),
    "wave": lambda x: 1.4 * np.sin(2.0 * np.pi * x),
    "peak": lambda x: 4.0 * np.exp(-(((x - 0.35) / 0.15) ** 2)),
}
DESIGNS = {
    "time": "20 groups at 12 common times, the curve one of time",
    "own": "20 groups of 12, each row with a place of its own",
}
RHOS = (0.0, 0.4, 0.8)
#: Residuals of the model that is fitted.
FITTED = {"AR(1)": "ar1", "independent": "independent"}


@dataclass(frozen=True)
class Cell:
    """A true curve, where it is observed, and the residual correlation."""

    curve: str
    design: str
    rho: float

    @property
    def key(self) -> tuple[int, int, int]:
        """Place in the study, which the seeds depend on."""
        places = list(CURVES).index(self.curve), list(DESIGNS).index(self.design)
        return (*places, RHOS.index(self.rho))

    def data(self, replicate: int) -> pd.DataFrame:
        """One set of data: random intercepts and residuals of variance one."""
        rng = np.random.default_rng(
            np.random.SeedSequence(SEED, spawn_key=(*self.key, replicate))
        )
        group, t = (part.ravel() for part in np.indices((20, 12)))
        x = t / 11.0 if self.design == "time" else rng.uniform(size=len(t))
        lag = np.abs(np.subtract.outer(np.arange(12), np.arange(12)))
        root = np.linalg.cholesky(self.rho**lag + 1.0)
        y = CURVES[self.curve](x) + (rng.normal(size=(20, 12)) @ root.T).ravel()
        return pd.DataFrame({"y": y, "x": x, "id": group, "t": t})


CELLS = tuple(Cell(*one) for one in product(CURVES, DESIGNS, RHOS))


def replicates(cell: Cell, numbers: Sequence[int]) -> Iterator[dict[str, float | str]]:
    """
    Which points of the true curve lie inside the bands of a fit.

    Parameters
    ----------
    cell : Cell
    numbers : sequence of int

    Yields
    ------
    dict
        A row for each way of fitting: whether each point of :data:`GRID` is covered,
        ``p0`` to ``p40``, whether all are by the simultaneous band, and the mean
        width of the pointwise one.
    """
    for r in numbers:
        data = cell.data(r)
        true = CURVES[cell.curve]
        truth = true(GRID) - true(data["x"].to_numpy()).mean()
        for fitted, residual in FITTED.items():
            row: dict[str, float | str] = {"replicate": r, "fitted": fitted}
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", MixedARWarning)  # a line, say
                    model = mar.mixedlm(
                        "y ~ s(x, k=12) + (1 | id)",
                        data,
                        groups="id",
                        time="t",
                        residual=residual,
                    )
                    band = model.fit().smooth("s(x)", at=GRID, n_sim=2000)
            except MixedARError as error:
                yield {**row, "error": str(error)}
                continue
            # a line is zero in the middle without any error, but for rounding
            off = np.abs(band["fit"] - truth) - 1e-9
            inside = off <= band["upper"] - band["fit"]
            whole = off <= band["simultaneous_upper"] - band["fit"]
            row["whole"] = float(whole.all())
            row["width"] = float((band["upper"] - band["lower"]).mean())
            yield row | {f"p{k}": float(one) for k, one in enumerate(inside)}


def coverage_table(rows: pd.DataFrame) -> pd.DataFrame:
    """
    Coverages by cell and way of fitting, with their Monte Carlo errors.

    Parameters
    ----------
    rows : DataFrame
        Of :func:`replicates`, with the cell in columns ``curve``, ``design``, ``rho``.

    Returns
    -------
    DataFrame
    """
    points = [f"p{k}" for k in range(POINTS)]
    out = []
    by = ["curve", "design", "rho", "fitted"]
    for key, group in rows.groupby(by, sort=False):
        used = group.dropna(subset=["whole"])
        n, along = len(used), used[points].mean()
        across = used[points].mean(axis=1)
        out.append(
            {
                **dict(zip(by, key, strict=True)),
                "replicates": len(group),
                "failed": len(group) - n,
                "pointwise": across.mean(),
                "pointwise_mcse": across.sem(),
                "lowest_point": along.min(),
                "highest_point": along.max(),
                "simultaneous": used["whole"].mean(),
                "simultaneous_mcse": used["whole"].sem(),
                "width": used["width"].mean(),
                **along.to_dict(),
            }
        )
    return pd.DataFrame(out)


def markdown(table: pd.DataFrame) -> str:
    """The table of the documentation."""
    names = ["curve", *(f"{c}, {d}" for c in FITTED for d in DESIGNS)]
    lines = [names, ["---"] * len(names)]
    for curve, rho in product(CURVES, RHOS):
        cells = []
        for fitted, design in product(FITTED, DESIGNS):
            where = (table["curve"] == curve) & (table["rho"] == rho)
            where &= (table["fitted"] == fitted) & (table["design"] == design)
            one = table[where].iloc[0]
            cells.append(
                f"{100 * one['pointwise']:.1f} / {100 * one['simultaneous']:.1f}"
            )
        lines.append([f"{curve}, $\\rho$ = {rho:g}", *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _plot(table: pd.DataFrame, path: Path) -> None:
    """Coverage of each point along the curves."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from mixedar.plotting import BAND, COLOURS, GREY

    points = [f"p{k}" for k in range(POINTS)]
    figure = plt.figure(figsize=(9.0, 6.2), layout="constrained")
    axes = figure.subplots(len(CURVES), len(DESIGNS) + 1, sharex=True)
    half = 196.0 * np.sqrt(0.95 * 0.05 / table["replicates"].min())
    for row, curve in zip(axes, CURVES, strict=True):
        row[0].plot(GRID, CURVES[curve](GRID), color=COLOURS[0])
        row[0].set_ylabel(curve)
        for ax, design in zip(row[1:], DESIGNS, strict=True):
            ax.axhspan(95.0 - half, 95.0 + half, color=GREY, alpha=BAND, linewidth=0)
            for (k, rho), (fitted, style) in product(
                enumerate(RHOS), zip(FITTED, ("-", ":"), strict=True)
            ):
                where = (table["curve"] == curve) & (table["design"] == design)
                where &= (table["rho"] == rho) & (table["fitted"] == fitted)
                values = 100.0 * table.loc[where, points].iloc[0]
                label = f"ρ = {rho:g}" + ("" if style == "-" else ", ignored")
                ax.plot(GRID, values, style, color=COLOURS[k], label=label)
            ax.set_ylim(40.0, 101.0)
    for ax, title in zip(axes[0], ("true curve", *DESIGNS), strict=True):
        ax.set_title(title, fontsize=10)
    for ax in axes.ravel():
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[-1]:
        ax.set_xlabel("x")
    handles, labels = axes[0, 1].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(RHOS), frameon=False
    )
    figure.suptitle("95% intervals that cover each point of a curve, %", fontsize=11)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; arguments are those of the process by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=500, help="of data in each cell")
    parser.add_argument(
        "--work",
        type=Path,
        default=HERE.parent / "results" / "calibration",
        help="folder of the checkpoints",
    )
    parser.add_argument("--out", type=Path, default=HERE / "results" / "curves")
    options = parser.parse_args(argv)
    parts = []
    for cell in CELLS:
        start, name = time.perf_counter(), f"{cell.curve}_{cell.design}_{cell.rho:g}"
        path = options.work / f"curve_{name}.csv"
        rows = pd.read_csv(path) if path.exists() else pd.DataFrame({"replicate": []})
        numbers = sorted(set(range(options.sets)) - set(rows["replicate"]))
        if numbers:
            options.work.mkdir(parents=True, exist_ok=True)
            rows = pd.concat([rows, pd.DataFrame(replicates(cell, numbers))])
            rows.to_csv(path, index=False)
            seconds = time.perf_counter() - start
            print(f"... {name}: {len(numbers)} sets, {seconds:.0f} s", file=sys.stderr)
        parts.append(rows.assign(curve=cell.curve, design=cell.design, rho=cell.rho))
    table = coverage_table(pd.concat(parts, ignore_index=True))
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "coverage.csv"
    table.to_csv(path, index=False, float_format="%.5g")
    table = pd.read_csv(path)  # what is published, with its digits
    print(markdown(table))
    _plot(table, options.out / "coverage.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
