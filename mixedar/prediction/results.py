"""
What a prediction answers: means, standard errors, intervals.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.exceptions import MixedARError, check_alpha, check_flags
from mixedar.hypotheses.df import t_isf
from mixedar.summary import Printed, ResultFrame, ResultsSummary, SummaryTable

_TITLES = {
    "population": "Population predictions",
    "group": "Predictions for groups",
    "forecast": "Forecasts",
}


@dataclass(frozen=True, eq=False, repr=False)
class PredictionResults(Printed):
    """
    Predictions of k rows, in the order of the rows asked for.

    Names and meanings are those of statsmodels' ``PredictionResults``.

    Attributes
    ----------
    predicted_mean : ndarray, shape (k,)
        Predictions.
    var_pred_mean : ndarray, shape (k,)
        Variance of the error of `predicted_mean` as a prediction of the mean:
        ``X beta``, ``X beta + Z b``, or the conditional mean that a forecast
        estimates.
    var_resid : ndarray, shape (k,)
        What the variance of an observation adds to it; NaN where the rows do not
        have what it depends on.
    df : ndarray, shape (k,)
        Degrees of freedom of the intervals; infinite for the normal
        distribution.
    row_labels : Index
        Labels of the rows.
    level : str
        ``"population"``, ``"group"`` or ``"forecast"``.
    notes : tuple of str
        What a reader has to know.
    lacking : MixedARError or None
        Why `var_resid` is not known.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> predicted = fit.get_prediction(teeth.head(2))
    >>> predicted.predicted_mean.round(1).tolist()
    [22.0, 23.4]
    """

    predicted_mean: FloatArray
    var_pred_mean: FloatArray
    var_resid: FloatArray
    df: FloatArray
    row_labels: pd.Index
    level: str
    notes: tuple[str, ...] = ()
    lacking: MixedARError | None = None

    @property
    def se_mean(self) -> FloatArray:
        """Standard errors of the means, shape (k,)."""
        return np.sqrt(self.var_pred_mean)

    @property
    def se_obs(self) -> FloatArray:
        """
        Standard errors of the means as predictions of observations.

        Raises
        ------
        MixedARError
            If their variance is not known; the message says what is missing.
        """
        if self.lacking is not None:
            raise self.lacking
        return np.sqrt(self.var_pred_mean + self.var_resid)

    def conf_int(self, obs: bool = False, alpha: float = 0.05) -> FloatArray:
        """
        Intervals.

        Parameters
        ----------
        obs : bool
            For an observation instead of the mean.
        alpha : float
            1 - coverage.

        Returns
        -------
        ndarray, shape (k, 2)
            NaN where no degrees of freedom are left.

        Raises
        ------
        UnsupportedError
            If `alpha` is not between 0 and 1.
        MixedARError
            For observations of which the variance is not known; the message says
            what is missing.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> predicted = fit.get_prediction(teeth.head(2))
        >>> predicted.conf_int(obs=True).shape
        (2, 2)
        """
        check_flags(obs=obs)
        return self._interval(self.se_obs if obs else self.se_mean, alpha)

    def _interval(self, se: FloatArray, alpha: float) -> FloatArray:
        # degrees of freedom repeat, and quantiles of t are slow
        distinct, where = np.unique(self.df, return_inverse=True)
        half = t_isf(check_alpha(alpha) / 2.0, distinct)[where] * se
        return np.column_stack([self.predicted_mean - half, self.predicted_mean + half])

    def summary_frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """
        All of it in one table.

        Parameters
        ----------
        alpha : float
            1 - coverage of the intervals.

        Returns
        -------
        DataFrame
            ``mean``, ``mean_se``, ``mean_ci_lower``, ``mean_ci_upper``,
            ``obs_ci_lower``, ``obs_ci_upper``, with the rows' own index; NaN in
            the last two where the variance of an observation is not known.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> predicted = fit.get_prediction(teeth.head(2))
        >>> predicted.summary_frame().columns.tolist()
        ['mean', 'mean_se', 'mean_ci_lower', 'mean_ci_upper', 'obs_ci_lower',
         'obs_ci_upper']
        """
        mean = self.conf_int(False, alpha)
        obs = self._interval(np.sqrt(self.var_pred_mean + self.var_resid), alpha)
        return ResultFrame(
            {
                "mean": self.predicted_mean,
                "mean_se": self.se_mean,
                "mean_ci_lower": mean[:, 0],
                "mean_ci_upper": mean[:, 1],
                "obs_ci_lower": obs[:, 0],
                "obs_ci_upper": obs[:, 1],
            },
            index=self.row_labels,
        )

    def summary(self, alpha: float = 0.05, max_rows: int = 30) -> ResultsSummary:
        """
        The table, printed.

        Parameters
        ----------
        alpha : float
            1 - coverage of the intervals.
        max_rows : int
            How many rows to print at most.

        Returns
        -------
        ResultsSummary

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> predicted = fit.get_prediction(teeth.head(2))
        >>> page = predicted.summary().as_text()
        """
        count = len(self.predicted_mean)
        frame = self._head(max(int(max_rows), 0)).summary_frame(alpha)
        frame = frame.rename(
            columns={
                "mean": "Mean",
                "mean_se": "Std.Err.",
                "mean_ci_lower": f"Mean [{alpha / 2:.4g}",
                "mean_ci_upper": f"{1 - alpha / 2:.4g}]",
                "obs_ci_lower": f"Obs. [{alpha / 2:.4g}",
                "obs_ci_upper": f"{1 - alpha / 2:.4g}] ",
            }
        )
        notes = list(self.notes)
        if len(frame) < count:
            notes.append(
                f"The first {len(frame)} of {count} rows; summary_frame() has all."
            )
        table = SummaryTable(frame, title="Row", name="predictions")
        return ResultsSummary(
            title=_TITLES[self.level],
            header={"Level:": self.level, "No. rows:": count},
            tables=[table],
            notes=notes,
        )

    def _head(self, count: int) -> PredictionResults:
        rows = "predicted_mean", "var_pred_mean", "var_resid", "df", "row_labels"
        return replace(self, **{name: getattr(self, name)[:count] for name in rows})

    def __len__(self) -> int:
        return len(self.predicted_mean)


def prediction_notes(
    unknown: int, include_theta: bool | str, reason: MixedARError | None
) -> tuple[str, ...]:
    """
    What a reader of predictions has to know.

    Of so many rows of unknown groups, the uncertainty that standard errors include, and
    why the variance of an observation is not known.
    """
    notes = []
    if unknown:
        notes.append(
            f"{unknown} {'row belongs' if unknown == 1 else 'rows belong'} to groups "
            "that are not in the fit: random effects are predicted by zero."
        )
    if include_theta:
        twice = ", twice (Prasad and Rao)" if include_theta == "prasad-rao" else ""
        notes.append(
            "Standard errors include the uncertainty of the covariance parameters"
            f"{twice}."
        )
    if reason is not None:
        notes.append(f"No intervals for observations: {reason}.")
    return tuple(notes)
