"""What an adapter offers to the runner."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.problems import ModelSpec, Problem

__all__ = [
    "Estimate",
    "Facts",
    "Job",
    "Peer",
    "PythonPeer",
    "PythonProgram",
    "Refit",
    "dense_design",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """What a fit reports, to see that rivals fitted the same thing.

    Attributes
    ----------
    llf : float or None
        Restricted log-likelihood; None where there is none.
    params, bse : list of float
        Fixed effects and their standard errors, in the program's own order.
    rho : float or None
        Correlation of residuals one unit of time apart; None when not fitted.
    converged : bool or None
        The program's own verdict; None when it gives none.
    """

    llf: float | None
    params: list[float]
    bse: list[float]
    rho: float | None = None
    converged: bool | None = None


_FITTED = {"ar1": "AR(1)", "car1": "CAR(1)", "un": "UN", "arma11": "ARMA(1,1)"}

Refit = Callable[[Floats], Estimate]
#: Of responses, one a row.
ManyRefits = Callable[[Floats], list[Estimate]]


@dataclass(frozen=True)
class Facts:
    """Size and model of a prepared workload, without its data.

    Attributes
    ----------
    name, title : str
        As in :class:`~benchmarks.problems.Problem`.
    model : ModelSpec
        What is to be fitted.
    rows, clusters, largest_cluster, responses : int
        Sizes; ``responses`` is the number of refits, 0 for a single fit.
    design_bytes : int
        Size of X and Z.
    """

    name: str
    title: str
    model: ModelSpec
    rows: int
    clusters: int
    largest_cluster: int
    responses: int
    design_bytes: int


@dataclass(frozen=True)
class Job:
    """One measured process.

    Attributes
    ----------
    peer : str
        Name of the adapter.
    facts : Facts
        The workload.
    folder : Path
        Where the prepared data are.
    out : Path
        Where the process writes its result.
    at_least : float
        Seconds for which quick fits are repeated inside the process.
    refit_seconds : float
        Seconds after which a series of refits stops.
    """

    peer: str
    facts: Facts
    folder: Path
    out: Path
    at_least: float
    refit_seconds: float


class Peer(ABC):
    """A program that fits mixed models or panel regressions."""

    name: ClassVar[str]
    #: Residual structures that the program fits together with random effects.
    residuals: ClassVar[tuple[str, ...]] = ()
    needs_csv: ClassVar[bool] = False

    @abstractmethod
    def missing(self) -> str | None:
        """Why the program cannot run here, or None."""

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Versions of the program and of what it stands on."""

    @abstractmethod
    def command(self, job: Job) -> list[str]:
        """The command that runs `job` and writes ``job.out``."""

    @abstractmethod
    def read(self, job: Job) -> dict[str, Any]:
        """The result that the command wrote."""

    def refuse(self, facts: Facts) -> str | None:
        """Why the program cannot do this workload at all, or None."""
        return None

    def fitted(self, model: ModelSpec) -> str:
        """What the program fits in place of `model`, for the report."""
        if model.residual == "independent":
            return "independent"
        if model.residual in self.residuals:
            return _FITTED[model.residual]
        return "no AR"


class PythonProgram(Peer):
    """An adapter whose program is a Python package."""

    distribution: ClassVar[str]
    module: ClassVar[str]

    def missing(self) -> str | None:
        """Why the package cannot run here, or None."""
        if importlib.util.find_spec(self.module) is None:
            return f"the package {self.distribution} is not installed"
        return None

    def versions(self) -> dict[str, str]:
        """Version of the package."""
        try:
            version = importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            version = "checkout"
        return {self.distribution: version}

    def command(self, job: Job) -> list[str]:
        """The worker in a fresh interpreter."""
        return [
            sys.executable,
            "-m",
            "benchmarks.worker",
            self.name,
            str(job.folder),
            str(job.out),
            str(job.at_least),
            str(job.refit_seconds),
        ]

    def read(self, job: Job) -> dict[str, Any]:
        """The JSON that the worker wrote."""
        import json

        result: dict[str, Any] = json.loads(job.out.read_text())
        return result

    def load(self) -> None:
        """Import everything that the first fit would import."""
        importlib.import_module(self.module)

    @abstractmethod
    def fit(self, data: pd.DataFrame, model: Any) -> Any:
        """From the data frame to a dataclass of what the report shows."""


class PythonPeer(PythonProgram):
    """A Python package that fits mixed models."""

    @abstractmethod
    def fit(self, data: pd.DataFrame, model: ModelSpec) -> Estimate:
        """From data frame and formula to standard errors."""

    def refitter(self, problem: Problem) -> Refit:
        """A function that fits one response of `problem`.

        The default goes through data frame and formula each time; adapters
        whose program has a shorter way use it.
        """

        def refit(response: Floats) -> Estimate:
            data = problem.data.assign(**{problem.model.response: response})
            return self.fit(data, problem.model)

        return refit

    def many_refitter(self, problem: Problem) -> ManyRefits | None:
        """A function that fits many responses of `problem` at once, if there is one."""
        return None


def dense_design(problem: Problem) -> tuple[Floats, Floats, Any, Floats]:
    """X, Z, cluster labels and times of a problem whose columns are numbers.

    Returns
    -------
    tuple of ndarray
        Shapes (n, p), (n, q), (n,), (n,).
    """
    data, model = problem.data, problem.model
    one = np.ones((len(data), 1))
    exog = np.hstack([one, data[list(model.fixed)].to_numpy(dtype=float)])
    exog_re = np.hstack([one, data[list(model.slopes)].to_numpy(dtype=float)])
    return exog, exog_re, data[model.groups].to_numpy(), data[model.time].to_numpy()
