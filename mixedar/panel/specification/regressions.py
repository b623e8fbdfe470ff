"""
The regressions that specification tests start from, each computed once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mixedar._types import BoolArray, FloatArray
from mixedar.by_group.least_squares import GroupLeastSquares, fit_groups
from mixedar.exceptions import UnsupportedError, check_choice
from mixedar.panel.algebra import Regression, column_sizes, regress
from mixedar.panel.data import PanelData
from mixedar.panel.results import PanelResults


@dataclass(eq=False)
class PanelRegressions:
    """
    Pooled, within and first-difference regressions of a panel.

    Parameters
    ----------
    panel : PanelData
    kind : str
        Kind of the fit that is tested: ``"pooled"``, ``"fe"``, ``"re"``, ...
    theta : ndarray, shape (N,), optional
        Fractions of the means that random effects subtract.
    effects : tuple of str
        Effects that the fit removes; only those of periods matter here.

    Attributes
    ----------
    x : ndarray, shape (n, p)
        Regressors; with a constant all others are centred, which changes neither
        residuals nor slopes.
    sizes : ndarray, shape (p,)
        Lengths of the columns of `x`.
    """

    panel: PanelData
    kind: str = "pooled"
    theta: FloatArray | None = None
    effects: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.x = self.panel.centred
        self.sizes = column_sizes(self.x)
        self._removed: dict[tuple[str, ...], tuple[FloatArray, Regression]] = {}

    @cached_property
    def pooled(self) -> Regression:
        """Plain least squares."""
        return regress(self.x, self.panel.y, self.sizes)

    @property
    def within(self) -> Regression:
        """Least squares on entity-demeaned data."""
        return self.removed(("entity",))[1]

    def removed(self, effects: tuple[str, ...]) -> tuple[FloatArray, Regression]:
        """Slopes' regressors without the given effects, and the regression on them."""
        if effects not in self._removed:
            y = self.panel.y - self.panel.y.mean()
            both = np.column_stack([self.slopes, y])
            both = self.panel.remove_effects(both, effects)
            x = both[:, :-1]
            fit = regress(x, both[:, -1], column_sizes(self.slopes))
            self._removed[effects] = x, fit
        return self._removed[effects]

    @cached_property
    def separate(self) -> GroupLeastSquares:
        """Least squares of each entity on its own, with an intercept."""
        x = np.column_stack([np.ones(self.panel.nobs), self.slopes])
        return fit_groups(x, self.panel.y, self.panel.offsets)

    @property
    def df_within(self) -> int:
        """Degrees of freedom of the within residuals."""
        return self.panel.nobs - self.panel.n_entities - self.within.rank

    @cached_property
    def quasi(self) -> tuple[FloatArray, Regression]:
        """Quasi-demeaned regressors and the regression on them, of random effects."""
        if self.theta is None:
            raise UnsupportedError("the fit has no random effects to be removed")
        x = self.panel.quasi_demean(self.x, self.theta)
        y = self.panel.quasi_demean(self.panel.y, self.theta)
        return x, regress(x, y, self.sizes)

    @property
    def of_fit(self) -> tuple[FloatArray, Regression]:
        """The transformed regression that belongs to the kind of the fit."""
        if self.kind.startswith("fe"):
            return self.removed(self.effects or ("entity",))
        if self.kind.startswith("re") and self.theta is not None:
            return self.quasi
        return self.x, self.pooled

    @cached_property
    def follows(self) -> BoolArray:
        """
        Whether the row before is the same entity one unit of time earlier, shape (n,).

        Times on no grid have no unit: the row before is then the lag, however far.
        """
        panel = self.panel
        return panel.neighbours if panel.on_grid else panel.gaps > 0.0

    @property
    def no_lags(self) -> str | None:
        """Why no row has a lag of one unit of time; None if one has."""
        if not self.panel.on_grid:
            return "the times do not lie on a grid of equal steps"
        return None if self.follows.any() else self.panel.no_neighbours()

    def has_lag(self, gaps: str) -> BoolArray:
        """Rows with a lag: :attr:`follows`, or with ``gaps="previous"`` any before."""
        check_choice("gaps", gaps, ("skip", "previous"))
        return self.follows if gaps == "skip" else self.panel.gaps > 0.0

    @property
    def lag_note(self) -> str | None:
        """What lags are, unless they are one unit of time."""
        if self.panel.on_grid:
            return " ".join(self.panel.order_notes) or None
        return "Times lie on no grid: the observation before counts as the lag."

    @property
    def slopes(self) -> FloatArray:
        """Regressors without the constant, shape (n, k)."""
        return self.x[:, self.panel.slopes]

    def differences(
        self, rows: BoolArray, drift: bool
    ) -> tuple[FloatArray, Regression]:
        """Differences of `rows` to the row before them, and the regression on them."""
        here = np.flatnonzero(rows)
        slopes = self.slopes
        x = slopes[here] - slopes[here - 1]
        y = self.panel.y[here] - self.panel.y[here - 1]
        sizes = column_sizes(slopes)
        if drift:
            x = np.column_stack([np.ones(len(here)), x])
            sizes = np.append(np.sqrt(len(here)), sizes)
        return x, regress(x, y, sizes)


#: What a test takes; the regressions themselves if several tests share them.
Tested = PanelResults | PanelData | PanelRegressions


def regressions_of(fit: Tested) -> PanelRegressions:
    """The regressions of a fit's panel; refuses what is no panel fit."""
    if isinstance(fit, PanelRegressions):
        return fit
    if isinstance(fit, PanelData):
        return PanelRegressions(fit)
    if not isinstance(fit, PanelResults):
        raise UnsupportedError(
            f"specification tests need a panel fit (fixed_effects, random_effects, "
            f"pooled, ...), not {type(fit).__name__}"
        )
    fit.panel.check_rows()
    if fit.panel.weights is not None:
        raise UnsupportedError(
            "specification tests are defined here for fits without weights=; test the "
            "unweighted fit, or write weights into a mixed model"
        )
    return PanelRegressions(
        fit.panel, fit.kind, fit.estimate.theta, fit.estimate.effects
    )
