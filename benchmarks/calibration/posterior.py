"""
Simulation-based calibration of posteriors.

Parameters are drawn from their priors, data from the model; the rank of each parameter
among draws of its posterior is then uniform (Talts, S. et al., 2018, Validating
Bayesian inference algorithms with simulation-based calibration, arXiv:1804.06788).

``python benchmarks/calibration/posterior.py`` writes the ranks, a table and a picture
beside the others.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from scipy import stats  # noqa: E402

import mixedar.formula.api as mar  # noqa: E402
from mixedar.exceptions import MixedARWarning  # noqa: E402
from mixedar.priors import Beta, HalfNormal, Normal  # noqa: E402

__all__ = ["main", "ranks_of"]

HERE = Path(__file__).resolve().parent
GROUPS, TIMES, DRAWS = 12, 5, 255
PRIORS = {
    "Intercept": Normal(0, 1),
    "x": Normal(0, 1),
    "sd(g)": HalfNormal(1),
    "rho": Beta(1, 1),
    "sigma": HalfNormal(1),
}


def _data(rng: np.random.Generator) -> tuple[dict[str, float], pd.DataFrame]:
    """Parameters from the priors, and data from the model."""
    truth = {
        "Intercept": rng.normal(),
        "x": rng.normal(),
        "sd(g)": abs(rng.normal()),
        "rho": rng.uniform(-1.0, 1.0),
        "sigma": abs(rng.normal()),
    }
    x = rng.normal(size=(GROUPS, TIMES))
    lag = np.abs(np.subtract.outer(np.arange(TIMES), np.arange(TIMES)))
    root = np.linalg.cholesky(truth["rho"] ** lag + 1e-12 * np.eye(TIMES))
    e = truth["sigma"] * rng.normal(size=(GROUPS, TIMES)) @ root.T
    b = truth["sd(g)"] * rng.normal(size=(GROUPS, 1))
    y = truth["Intercept"] + truth["x"] * x + b + e
    group, t = np.indices((GROUPS, TIMES))
    columns = {"y": y, "x": x, "g": group, "t": t}
    return truth, pd.DataFrame({key: v.ravel() for key, v in columns.items()})


def ranks_of(seed: int) -> dict[str, float]:
    """Rank of each parameter among its draws, for one set of data."""
    rng = np.random.default_rng([20261130, seed])
    truth, data = _data(rng)
    model = mar.mixedlm("y ~ x", data, groups="g", time="t", residual="ar1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixedARWarning)  # maxima on the boundary
        post = model.fit(reml=False).posterior(DRAWS, PRIORS, rng)
    found = {
        key: float((post.draws[key] < value).sum()) for key, value in truth.items()
    }
    return {"seed": seed, **found, "pareto_k": post.explored.pareto_k}


def _table(ranks: pd.DataFrame) -> pd.DataFrame:
    """Tests of uniform ranks: chi-squared of 16 bins, Kolmogorov and Smirnov."""
    rows = {}
    for key in PRIORS:
        counts = np.histogram(ranks[key], np.linspace(0, DRAWS + 1, 17))[0]
        u = (ranks[key] + 0.5) / (DRAWS + 1)
        rows[key] = {
            "mean rank": u.mean(),
            "chi2 p": stats.chisquare(counts).pvalue,
            "KS p": stats.kstest(u, "uniform").pvalue,
        }
    return pd.DataFrame(rows).T.round(4)


def _plot(ranks: pd.DataFrame, path: Path) -> None:
    """Differences of the ranks' distribution from the uniform one, with its band."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from mixedar.plotting import BAND, COLOURS, GREY

    n, figure = len(ranks), plt.figure(figsize=(10.5, 2.8), layout="constrained")
    u = np.linspace(0.0, 1.0, 200)
    half = 1.96 * np.sqrt(u * (1.0 - u) / n)
    for k, (key, ax) in enumerate(
        zip(PRIORS, figure.subplots(1, len(PRIORS), sharey=True), strict=True)
    ):
        x = np.sort((ranks[key].to_numpy() + 0.5) / (DRAWS + 1))
        ax.fill_between(u, -half, half, color=GREY, alpha=BAND, linewidth=0)
        ax.plot(u, np.searchsorted(x, u, "right") / n - u, color=COLOURS[0])
        ax.set_title(key)
        ax.set_xlabel("rank")
        if k == 0:
            ax.set_ylabel("share of ranks below - rank")
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; arguments are those of the process by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "posterior")
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    path, start = options.out / "ranks.csv", time.perf_counter()
    done = pd.read_csv(path) if path.exists() else pd.DataFrame({"seed": []})
    rows = done.to_dict("records")
    for seed in sorted(set(range(options.sets)) - set(done["seed"].astype(int))):
        rows.append(ranks_of(seed))
        if len(rows) % 50 == 0 or len(rows) == options.sets:
            pd.DataFrame(rows).to_csv(path, index=False)
    ranks = pd.DataFrame(rows)
    print(f"{len(ranks)} sets, {time.perf_counter() - start:.0f} s", file=sys.stderr)
    print(_table(ranks))
    _plot(ranks, options.out / "ranks.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
