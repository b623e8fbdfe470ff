"""Workloads of residual structures without random effects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.specs import MarginalSpec

__all__ = ["MANY_WAVES", "STRUCTURE_WORKLOADS", "StructureWorkload", "structure_frame"]

Floats = NDArray[np.float64]

#: Columns of every model.
_FIXED = ("time", "treatment")


@dataclass(frozen=True)
class StructureWorkload:
    """Size and model of a workload.

    Attributes
    ----------
    clusters, waves : int
        At scale 1.
    residual : str
        ``"un"``, ``"arma11"``, ``"toep"``, ``"ante"`` or ``"cs"``.
    seed : int
    keep : float
        Probability that a wave after the first is seen.
    """

    clusters: int
    waves: int
    residual: str
    seed: int
    keep: float = 1.0

    @property
    def model(self) -> MarginalSpec:
        """What is to be fitted."""
        return MarginalSpec("y", _FIXED, "id", (), "time", self.residual)

    @property
    def title(self) -> str:
        """One line for the report."""
        what = _TITLES[self.residual]
        lost = "" if self.keep == 1.0 else ", with missing waves and drop-out"
        return f"{what}, {self.clusters:,} x {self.waves} at scale 1{lost}"


_TITLES = {
    "un": "unstructured",
    "arma11": "ARMA(1,1)",
    "toep": "Toeplitz",
    "ante": "ante-dependence",
    "cs": "compound symmetry",
}
#: Waves from which the rivals' time grows beyond measuring.
MANY_WAVES = 30

#: Workload -> its size and model.
STRUCTURE_WORKLOADS: Mapping[str, StructureWorkload] = {
    "un4": StructureWorkload(100_000, 4, "un", 11),
    "arma4": StructureWorkload(100_000, 4, "arma11", 12),
    "un10": StructureWorkload(2_000, 10, "un", 13),
    "un10_dropout": StructureWorkload(2_000, 10, "un", 14, keep=0.9),
    "un30": StructureWorkload(400, 30, "un", 15),
    "toep60": StructureWorkload(100, 60, "toep", 16),
    "ante60": StructureWorkload(200, 60, "ante", 17),
    "arma3000": StructureWorkload(5, 3_000, "arma11", 18),
    "cs2000": StructureWorkload(3, 2_000, "cs", 19),
}


def _covariance(waves: int) -> Floats:
    """Correlation that fades, a part that stays, and growing variances."""
    lag = np.abs(np.subtract.outer(np.arange(waves), np.arange(waves)))
    correlation = 0.3 + 0.5 * 0.7**lag + 0.2 * (lag == 0)
    sd = np.sqrt(1.0 + 0.15 * np.arange(waves))
    return np.asarray(correlation * np.outer(sd, sd))


def structure_frame(workload: StructureWorkload, clusters: int) -> pd.DataFrame:
    """Rows of a workload, sorted by cluster and wave.

    Parameters
    ----------
    workload : StructureWorkload
    clusters : int
        Number of clusters.

    Returns
    -------
    DataFrame
        Columns ``y``, ``time`` (from 0), ``treatment`` (text) and ``id`` (from 1).
    """
    rng = np.random.default_rng(workload.seed)
    waves = workload.waves
    time = np.tile(np.arange(waves), clusters)
    cluster = np.repeat(np.arange(clusters), waves)
    arm = cluster % 2
    cov = _covariance(waves)
    if workload.residual in ("arma11", "toep", "cs"):  # a stationary process
        cov = cov / np.sqrt(np.outer(np.diag(cov), np.diag(cov)))
    noise = rng.standard_normal((clusters, waves)) @ np.linalg.cholesky(cov).T
    frame = pd.DataFrame(
        {
            "y": 0.2 + 0.4 * time - 0.3 * arm + noise.ravel(),
            "time": time,
            "treatment": np.array(["control", "treatment"], dtype=object)[arm],
            "id": cluster + 1,
        }
    )
    if workload.keep == 1.0:
        return frame
    # half of the losses are single waves, the others for good
    last = rng.geometric((1.0 - workload.keep) / 2.0, clusters)
    seen = rng.random(time.size) < (1.0 + workload.keep) / 2.0
    return frame[(time == 0) | (seen & (time < last[cluster]))].reset_index(drop=True)
