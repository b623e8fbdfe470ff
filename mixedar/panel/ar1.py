"""
What fixed and random effects with AR(1) errors share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixedar.exceptions import UnsupportedError
from mixedar.panel.ar1_rho import check_steps, durbin_watson_lbi, estimate_rho
from mixedar.panel.base import PanelModel
from mixedar.panel.checks import absorbed_columns, check_collinear, check_residuals

__all__ = ["AR1Model", "WithinFit"]

IntArray = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class WithinFit:
    """
    The within regression.

    Attributes
    ----------
    slopes : ndarray of int
        Columns of the panel but the constant.
    kept, gone : list of int
        Positions in `slopes` with and without variation within entities.
    rho : float
    statistics : dict of str to float
        Durbin-Watson and LBI statistics.
    """

    slopes: IntArray
    kept: list[int]
    gone: list[int]
    rho: float
    statistics: dict[str, float]


class AR1Model(PanelModel):
    """A panel whose times lie on a grid, and the within regression that gives rho."""

    _needs_repeats = True

    def _check_panel(self) -> None:
        super()._check_panel()
        check_steps(self.panel)

    def fit_within(self, rho: float | None, method: str, two_step: bool) -> WithinFit:
        """
        Within regression and rho.

        Parameters
        ----------
        rho : float or None
            A value to be used instead of an estimate.
        method : str
        two_step : bool
            See :func:`estimate_rho`.

        Returns
        -------
        WithinFit

        Raises
        ------
        RankDeficiencyError
            If columns are collinear.
        IdentificationError
            If rho cannot be estimated.
        UnsupportedError
            If `rho` is not between -1 and 1.
        """
        panel = self.panel
        check_collinear(panel.x, panel.names, "the regressors")
        slopes = np.array(
            [j for j in range(panel.x.shape[1]) if j != panel.constant], dtype=np.intp
        )
        centred = panel.x[:, slopes] - panel.x[:, slopes].mean(axis=0)
        x, y = panel.demean(centred), panel.demean(panel.y)
        absorbed, collinear = absorbed_columns(centred, x)
        gone = sorted(absorbed + collinear)
        kept = [j for j in range(len(slopes)) if j not in gone]
        x = x[:, kept] / np.sqrt((x[:, kept] ** 2).mean(axis=0))
        resid = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
        check_residuals(resid, panel)
        dw, lbi = durbin_watson_lbi(panel, resid)
        statistics = {"Durbin-Watson (BFN)": dw, "Baltagi-Wu LBI": lbi}
        if rho is None:
            rho = estimate_rho(panel, y, x, method, two_step)
        elif not -1.0 < rho < 1.0:
            raise UnsupportedError(f"rho={rho!r} is not between -1 and 1")
        return WithinFit(slopes, kept, gone, float(rho), statistics)

    def gaps_note(self) -> list[str]:
        """Say how many gaps there are, if any."""
        count = int((self.panel.gaps > 1.0).sum())
        if not count:
            return []
        return [f"Gaps in {self.panel.time_name}: {count}; errors are correlated "
                "across them by rho to the power of the distance."]  # fmt: skip
