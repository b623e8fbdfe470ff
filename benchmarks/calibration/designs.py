"""
The cells of the study: models, designs, true values, simulated responses.

Nothing here imports mixedar: responses come from the dense Cholesky factor of
the covariance that the model writes down, not from the program under test.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = [
    "CELLS",
    "DESIGNS",
    "MODELS",
    "RHOS",
    "Cell",
    "best_estimates",
    "cell_named",
    "frame",
    "responses",
    "truth",
]

Floats = NDArray[np.float64]

#: All random numbers of the study follow from this one.
SEED = 20240611
#: Residual variance, and covariance of random intercept and slope.
SCALE = 1.0
PSI = np.array([[1.0, 0.12], [0.12, 0.16]])

MODELS = {"intercept": "~1", "slope": "~time"}
DESIGNS = {
    "15x5": "15 groups, times 0 to 4, 5 groups treated",
    "30x4": "30 groups, times 0 to 3, 10 groups treated",
    "unbalanced": "20 groups of 2 to 7 rows among times 0 to 7, 7 groups treated",
}
RHOS = (-0.3, 0.0, 0.4, 0.8)


@dataclass(frozen=True)
class Cell:
    """
    One combination of model, design and residual correlation.

    Attributes
    ----------
    model : str
        Key of :data:`MODELS`.
    design : str
        Key of :data:`DESIGNS`.
    rho : float
    """

    model: str
    design: str
    rho: float

    @property
    def name(self) -> str:
        """Identifier, also of the checkpoint files."""
        return f"{self.model}_{self.design}_{self.rho:g}"

    @property
    def key(self) -> tuple[int, int, int]:
        """Place in the study, which the seed depends on."""
        return (
            list(MODELS).index(self.model),
            list(DESIGNS).index(self.design),
            RHOS.index(self.rho),
        )


CELLS = tuple(Cell(*one) for one in product(MODELS, DESIGNS, RHOS))


def cell_named(name: str) -> Cell:
    """Look a cell up; ``ValueError`` lists those that exist."""
    for cell in CELLS:
        if cell.name == name:
            return cell
    raise ValueError(f"no cell {name!r}; there are {', '.join(c.name for c in CELLS)}")


def frame(design: str) -> pd.DataFrame:
    """
    Rows of a design, without a response.

    Parameters
    ----------
    design : str

    Returns
    -------
    DataFrame
        Columns id, time, treatment (0 or 1, constant in a group; every third
        group is treated).
    """
    if design == "unbalanced":
        pairs = _unbalanced()
    else:
        groups, times = (int(part) for part in design.split("x"))
        pairs = [(i, t) for i in range(groups) for t in range(times)]
    data = pd.DataFrame(pairs, columns=["id", "time"])
    data["treatment"] = (data["id"] % 3 == 0).astype(int)
    return data


def _unbalanced() -> list[tuple[int, int]]:
    """Late entry, drop-out, and waves missed in between, from a fixed seed."""
    rng = np.random.default_rng(SEED)
    pairs: list[tuple[int, int]] = []
    for group in range(20):
        while True:
            first, last = rng.integers(0, 4), rng.integers(2, 8)
            times = np.arange(first, last + 1)
            inside = (times > first) & (times < last)
            times = times[~inside | (rng.uniform(size=len(times)) > 0.2)]
            if 2 <= len(times) <= 7:
                break
        pairs += [(group, int(t)) for t in times]
    return pairs


def truth(cell: Cell) -> dict[str, float]:
    """True covariance parameters by mixedar's names; all fixed effects are 0."""
    values = {"id Var": PSI[0, 0], "rho": cell.rho, "scale": SCALE}
    if cell.model == "slope":
        values["time Var"] = PSI[1, 1]
        values["corr(id, time)"] = PSI[0, 1] / np.sqrt(PSI[0, 0] * PSI[1, 1])
    return values


def _root(cell: Cell, data: pd.DataFrame) -> Floats:
    """Cholesky factor of the covariance of all rows."""
    group, time = data["id"].to_numpy(), data["time"].to_numpy(dtype=float)
    z = np.column_stack([np.ones(len(data)), time])[:, : len(PSI)]
    psi = PSI.copy()
    if cell.model == "intercept":
        psi[1] = psi[:, 1] = 0.0
    apart = np.abs(np.subtract.outer(time, time)).astype(int)
    v = SCALE * np.power(cell.rho, apart) + z @ psi @ z.T
    return np.linalg.cholesky(np.where(group[:, None] == group, v, 0.0))


def responses(cell: Cell, n: int) -> Floats:
    """
    Simulated responses.

    Replicate ``r`` has a seed of its own, ``SeedSequence(SEED, spawn_key=(cell,
    r))``: the first replicates of a longer study are those of a shorter one.

    Parameters
    ----------
    cell : Cell
    n : int

    Returns
    -------
    ndarray, shape (n, rows of the design)
    """
    root = _root(cell, frame(cell.design))
    noise = np.empty((n, len(root)))
    for r in range(n):
        seed = np.random.SeedSequence(SEED, spawn_key=(*cell.key, r))
        noise[r] = np.random.default_rng(seed).normal(size=len(root))
    return noise @ root.T


def best_estimates(cell: Cell, n: int) -> tuple[Floats, Floats]:
    """
    Generalised least squares with the true covariance.

    Parameters
    ----------
    cell : Cell
    n : int

    Returns
    -------
    estimates : ndarray, shape (n, 4)
        Of Intercept, time, treatment and time:treatment.
    errors : ndarray, shape (4,)
        Their exact standard errors.
    """
    data = frame(cell.design)
    time, treatment = data["time"].to_numpy(float), data["treatment"].to_numpy(float)
    x = np.column_stack([np.ones(len(data)), time, treatment, time * treatment])
    root = _root(cell, data)
    whitened = np.linalg.solve(root, x)
    cov = np.linalg.inv(whitened.T @ whitened)
    y = np.linalg.solve(root, responses(cell, n).T)
    return (cov @ whitened.T @ y).T, np.sqrt(np.diag(cov))
