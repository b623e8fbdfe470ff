"""What the adapters of the panel workloads have in common."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from benchmarks.peers.base import Floats, Peer, PythonProgram
from benchmarks.specs import ModelSpec, PanelSpec

__all__ = ["PanelEstimate", "PanelPeer", "PanelProgram", "wald"]


@dataclass(frozen=True)
class PanelEstimate:
    """What a panel workload reports, to see that rivals computed the same thing.

    Attributes
    ----------
    params, bse : list of float
        Coefficients and standard errors of the regressors, without the constant,
        which not every program has; for Mundlak's regression the means follow.
        Empty for a test alone.
    statistic : float or None
        Chi-squared form of the test.
    df : int or None
        Its degrees of freedom.
    test_s : float or None
        Seconds of the test alone, when the fits that it compares are there.
    share : float
        Part of the work that was done, where the whole would take too long; the
        times are divided by it.
    """

    params: list[float]
    bse: list[float]
    statistic: float | None = None
    df: int | None = None
    test_s: float | None = None
    share: float = 1.0


def wald(params: Floats, cov: Floats) -> float:
    """Chi-squared statistic of coefficients that are zero under the null."""
    return float(params @ np.linalg.solve(cov, params))


class PanelPeer(Peer):
    """A program that fits panel regressions."""

    #: Task -> what the program computes.
    computes: ClassVar[dict[str, str]]

    def fitted(self, model: ModelSpec) -> str:
        """What the program computes, for the lines below the table."""
        return self.computes[model.task] if isinstance(model, PanelSpec) else ""


class PanelProgram(PanelPeer, PythonProgram):
    """A Python package that fits panel regressions."""

    @abstractmethod
    def fit(self, data: pd.DataFrame, model: PanelSpec) -> PanelEstimate:
        """From the data frame to the estimates or the test of the task."""
