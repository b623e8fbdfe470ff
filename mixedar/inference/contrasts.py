"""
Linear combinations of fixed effects as a table: means, slopes, and their contrasts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.multitest import multipletests

from mixedar._lazy import load
from mixedar._types import FloatArray
from mixedar.exceptions import (
    LengthError,
    MissingDataError,
    NotComputedError,
    UnsupportedError,
    check_alpha,
    check_positive,
)
from mixedar.fit import Fit
from mixedar.hypotheses.df import t_isf, t_sf
from mixedar.inference.wald import population_tests
from mixedar.summary import ResultFrame

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIDES = {
    **dict.fromkeys(("two-sided", "both"), 0),
    **dict.fromkeys((">", "greater", "noninferiority"), 1),
    **dict.fromkeys(("<", "less", "nonsuperiority"), -1),
}


class Estimates(NamedTuple):
    """
    Estimates of combinations of coefficients.

    Attributes
    ----------
    effect, sd, df : ndarray, shape (k,)
        Values, standard errors, and degrees of freedom, infinite for the normal.
    """

    effect: FloatArray
    sd: FloatArray
    df: FloatArray


@dataclass(frozen=True)
class Combined:
    """
    How combinations of coefficients are estimated.

    Attributes
    ----------
    estimates : callable
        From a matrix, one combination a row, to :class:`Estimates`.
    df : str
        The method of degrees of freedom.
    cov_type : str or None
        The kind of the robust covariance, None for the model's own.
    """

    estimates: Callable[[FloatArray], Estimates]
    df: str
    cov_type: str | None

    @classmethod
    def of(cls, fit: Fit) -> Combined:
        """Those of a fit, by its degrees of freedom."""
        robust = None if fit.robust is None else fit.robust.cov_type
        return cls(partial(_estimates, fit), fit.df_method.name, robust)


def _estimates(fit: Fit, matrix: FloatArray) -> Estimates:
    test = population_tests(fit, matrix)
    effect = np.ravel(test.effect)
    df = np.inf if fit.df_method.name == "normal" else test.df_denom
    df = np.broadcast_to(np.asarray(df, float), effect.shape)
    return Estimates(effect, np.ravel(test.sd), df)


class Hypothesis(NamedTuple):
    """
    What is asked of a difference.

    Attributes
    ----------
    margin : float
        Differences up to it do not matter; zero for tests of no difference.
    side : {0, 1, -1}
        Both sides, greater or less.
    """

    margin: float = 0.0
    side: int = 0

    @classmethod
    def of(cls, delta: float | None, side: str) -> Hypothesis:
        """What a user wrote."""
        if side not in _SIDES:
            raise UnsupportedError(
                f"side={side!r}: choose 'two-sided', '>' (non-inferiority with delta=) "
                "or '<' (non-superiority)"
            )
        margin = 0.0 if delta is None else check_positive("delta", delta)
        return cls(margin, _SIDES[side])

    def tests(self, found: Estimates, alpha: float) -> dict[str, FloatArray]:
        """Intervals, t statistics and p-values."""
        effect, sd, df = found
        margin, side = self
        one_sided = bool(side or margin)
        width = sd * t_isf(alpha if one_sided else alpha / 2.0, df)
        if side:
            t = (effect + side * margin) / sd
            p = t_sf(side * t, df)
        elif margin:  # the larger p-value of two one-sided tests
            t = (np.abs(effect) - margin) / sd
            p = t_sf(-t, df)
        else:
            t = effect / sd
            p = 2.0 * t_sf(np.abs(t), df)
        return {
            "lower": np.full_like(effect, -np.inf) if side < 0 else effect - width,
            "upper": np.full_like(effect, np.inf) if side > 0 else effect + width,
            "t": t,
            "p": p,
        }

    @property
    def text(self) -> str:
        """The null hypothesis, empty for no difference."""
        if not (self.margin or self.side):
            return ""
        m = f"{self.margin:g}"
        if not self.side:
            return f"|difference| >= {m}"
        if not self.margin:
            return "difference <= 0" if self.side > 0 else "difference >= 0"
        return f"difference <= -{m}" if self.side > 0 else f"difference >= {m}"


@dataclass(frozen=True)
class MarginalMeans:
    """
    Population means at a grid of values, averaged over the other factors.

    Attributes
    ----------
    grid : DataFrame, shape (k, number of variables)
        One row a mean.
    matrix : ndarray, shape (k, p)
        The means are ``matrix @ fe_params``; with smooths the columns of their
        coefficients follow.
    by : list of str
        Variables within whose values pairs are formed.
    at : dict
        Values at which the other variables are held or averaged over.
    combined : Combined
        How rows such as those of `matrix` are estimated.
    notes : tuple of str
        What is averaged over, and interactions that averages hide.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age * sex", teeth, groups="subject", time="occ"
    ... )
    >>> fit = model.fit()
    >>> means = fit.marginal_means("sex", at={"age": 14})
    >>> means.to_frame()["mean"].round(1).tolist()
    [24.1, 27.3]
    """

    grid: pd.DataFrame
    matrix: FloatArray
    by: list[str]
    at: dict[str, Any]
    combined: Combined
    notes: tuple[str, ...] = ()

    #: what is estimated, the name of its column
    what: ClassVar[str] = "mean"

    @property
    def df(self) -> str:
        """The method of degrees of freedom."""
        return self.combined.df

    @property
    def cov_type(self) -> str | None:
        """The kind of the robust covariance, None for the model's own."""
        return self.combined.cov_type

    def _table(
        self,
        matrix: FloatArray,
        alpha: float,
        name: str,
        hypothesis: Hypothesis | None = None,
    ) -> pd.DataFrame:
        """Estimates, errors, DF, tests and intervals of contrasts; NaN if unknown."""
        known = np.isfinite(matrix).all(axis=1)
        if not known.any():
            raise NotComputedError(
                f"no such {self.what} can be estimated: combinations of levels that it "
                "averages over have no rows; choose levels that have with at="
            )
        if not known.all():
            table = self._table(matrix[known], alpha, name, hypothesis)
            return table.set_axis(np.flatnonzero(known)).reindex(range(len(matrix)))
        found = self.combined.estimates(matrix)
        tests = (hypothesis or Hypothesis()).tests(found, check_alpha(alpha))
        first = {name: found.effect, "se": found.sd, "df": found.df}
        return pd.DataFrame(first | tests)

    def to_frame(self, alpha: float = 0.05) -> ResultFrame:
        """
        The means.

        Parameters
        ----------
        alpha : float
            1 - coverage of the intervals.

        Returns
        -------
        DataFrame
            The grid's columns, ``mean`` (of slopes ``slope``), ``se``, ``df``,
            ``lower``, ``upper``.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm(
        ...     "distance ~ age * sex", teeth, groups="subject", time="occ"
        ... )
        >>> fit = model.fit()
        >>> means = fit.marginal_means("sex", at={"age": 14})
        >>> means.to_frame(alpha=0.1).columns.tolist()
        ['sex', 'mean', 'se', 'df', 'lower', 'upper']
        """
        table = self._table(self.matrix, alpha, self.what).drop(columns=["t", "p"])
        out = pd.concat([self.grid, table], axis=1)
        return ResultFrame.of(out, dict.fromkeys(self.grid, "number"))

    def pairwise(
        self,
        adjust: str | None = "holm",
        alpha: float = 0.05,
        *,
        delta: float | None = None,
        side: str = "two-sided",
    ) -> pd.DataFrame:
        """
        All differences of two means, within the values of `by`.

        Parameters
        ----------
        adjust : str, optional
            Multiplicity adjustment within each value of `by`: ``"tukey"``
            (studentized range, as emmeans), or a method of
            :func:`statsmodels.stats.multitest.multipletests`; None for none.
        alpha : float
            1 - coverage of the intervals, which are adjusted for ``"tukey"``,
            ``"bonferroni"`` and ``"sidak"``, and not for the others.
        delta : float, optional
            A margin within which differences do not matter.  Without `side` the
            test is one of equivalence: small p-values say that the difference lies
            between -delta and delta (two one-sided tests); the interval is that of
            coverage 1 - 2 alpha, which lies within the margins where p < alpha.
        side : {"two-sided", ">", "<"}
            One-sided tests.  With `delta` ``">"`` is non-inferiority, against
            differences of -delta and less, and ``"<"`` non-superiority, against
            delta and more.  Intervals are one-sided.

        Returns
        -------
        DataFrame
            ``contrast``, the values of `by`, ``difference``, ``se``, ``df``,
            ``lower``, ``upper``, ``t``, ``p`` and, adjusted, ``p_adjusted``.  With
            `delta` or `side` its ``attrs["null"]`` says what was tested.

        Raises
        ------
        NotComputedError
            If there is no pair.
        UnsupportedError
            For ``"tukey"`` with `delta` or `side`, and options that are not known.

        References
        ----------
        Schuirmann, D. J. (1987), A comparison of the two one-sided tests procedure
        and the power approach for assessing the equivalence of average
        bioavailability, Journal of Pharmacokinetics and Biopharmaceutics 15, 657-680.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm(
        ...     "distance ~ age * sex", teeth, groups="subject", time="occ"
        ... )
        >>> fit = model.fit()
        >>> means = fit.marginal_means("sex", at={"age": 14})
        >>> means.pairwise()["difference"].round(1).tolist()
        [-3.2]

        Girls' distances are smaller by no more than 6 mm:

        >>> bool(means.pairwise(delta=6, side=">")["p"].iloc[0] < 0.01)
        True
        """
        hypothesis = Hypothesis.of(delta, side)
        names = [name for name in self.grid if name not in self.by]
        labels = [
            " ".join(str(value) for value in row)
            for row in self.grid[names].itertuples(index=False)
        ]
        within = self._within()
        rows, titles, blocks = [], [], []
        for members in within:
            for i, j in combinations(members, 2):
                rows.append(self.matrix[i] - self.matrix[j])
                titles.append(f"{labels[i]} - {labels[j]}")
                blocks.append(self.grid.iloc[i][self.by].to_list())
        if not rows:
            raise NotComputedError("there is one mean only: no pair to compare")
        count = len(within[0])
        return self._contrasts(
            np.array(rows), titles, adjust, alpha, hypothesis, blocks, count
        )

    def contrast(
        self,
        weights: Mapping[str, Sequence[float]] | Sequence[float],
        adjust: str | None = None,
        alpha: float = 0.05,
        *,
        delta: float | None = None,
        side: str = "two-sided",
    ) -> pd.DataFrame:
        """
        Linear combinations of the means.

        Parameters
        ----------
        weights : mapping of name to sequence, or sequence of float
            One weight a row of `grid`.
        adjust, alpha, delta, side
            As in :meth:`pairwise`.

        Returns
        -------
        DataFrame
            As :meth:`pairwise`.

        Raises
        ------
        LengthError
            If there are more or fewer weights than means.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm(
        ...     "distance ~ age * sex", teeth, groups="subject", time="occ"
        ... )
        >>> fit = model.fit()
        >>> means = fit.marginal_means("sex", at={"age": 14})
        >>> means.contrast([-1, 1])["difference"].round(1).tolist()
        [3.2]
        """
        hypothesis = Hypothesis.of(delta, side)
        if not isinstance(weights, Mapping):
            weights = {"contrast": weights}
        if not weights:
            raise UnsupportedError("name at least one contrast")
        for row in weights.values():
            labels = getattr(row, "index", None)
            if isinstance(labels, pd.Index) and not labels.equals(self.grid.index):
                raise UnsupportedError(
                    "the labels of the weights are not those of the rows of `grid`; "
                    "bring them into its order and pass weights.to_numpy()"
                )
        try:
            table = np.array([np.asarray(row, dtype=float) for row in weights.values()])
        except (TypeError, ValueError) as error:
            raise UnsupportedError(
                "a contrast is a list of numbers, one for each mean, or a mapping of "
                f"names to such lists; this is {weights!r}"
            ) from error
        if table.ndim != 2 or table.shape[1] != len(self.matrix):
            raise LengthError(
                f"a contrast needs {len(self.matrix)} weights, one for each mean"
            )
        if not np.isfinite(table).all():
            raise MissingDataError("a weight of the contrast is missing or infinite")
        unknown = np.asarray(np.isnan(self.matrix).any(axis=1))
        matrix = without_rounding(table @ np.where(unknown[:, None], 0.0, self.matrix))
        matrix[(table[:, unknown] != 0.0).any(axis=1)] = np.nan
        return self._contrasts(matrix, list(weights), adjust, alpha, hypothesis)

    def _within(self) -> list[list[int]]:
        if not self.by:
            return [list(range(len(self.grid)))]
        found: dict[tuple[Any, ...], list[int]] = {}
        for k, row in enumerate(self.grid[self.by].itertuples(index=False)):
            found.setdefault(tuple(row), []).append(k)
        return list(found.values())

    def _contrasts(
        self,
        matrix: FloatArray,
        titles: list[str],
        adjust: str | None,
        alpha: float,
        hypothesis: Hypothesis,
        blocks: Sequence[list[Any]] = (),
        count: int | None = None,
    ) -> pd.DataFrame:
        """
        Tests of contrasts, adjusted within families.

        Those are all pairs of `count` means, within the values of `by` in `blocks`;
        without them all contrasts.
        """
        level = check_alpha(alpha)
        if adjust == "tukey" and any(hypothesis):
            raise UnsupportedError(
                "adjust='tukey' is for two-sided tests of no difference; with delta= "
                "or side= choose 'holm', 'bonferroni' or 'sidak'"
            )
        family = len(matrix) if count is None else count * (count - 1) // 2
        if adjust == "bonferroni":
            level = level / family
        elif adjust == "sidak":
            level = 1.0 - (1.0 - level) ** (1.0 / family)
        table = self._table(without_rounding(matrix), level, "difference", hypothesis)
        if adjust == "tukey" and count is not None:
            width, p = studentized_range(table["t"], table["df"], count, alpha)
            table["lower"] = table["difference"] - width * table["se"]
            table["upper"] = table["difference"] + width * table["se"]
            table["p_adjusted"] = p
        elif adjust is not None:
            adjusted = np.full(len(table), np.nan)
            p = table["p"].to_numpy()
            for first in range(0, len(table), family):
                here = np.arange(first, min(first + family, len(p)))
                here = here[np.isfinite(p[here])]
                if not len(here):
                    continue
                try:
                    adjusted[here] = multipletests(p[here], method=adjust)[1]
                except (AttributeError, KeyError, TypeError, ValueError) as error:
                    raise UnsupportedError(
                        f"adjust={adjust!r}: choose a method of statsmodels' "
                        "multipletests, such as 'holm', 'bonferroni' or 'fdr_bh', or "
                        "for all pairs 'tukey'"
                    ) from error
            table["p_adjusted"] = adjusted
        left = pd.DataFrame({"contrast": titles})
        if self.by and blocks:
            left[self.by] = pd.DataFrame(blocks, columns=self.by)
        out = pd.concat([left, table], axis=1)
        if hypothesis.text:
            out.attrs["null"] = hypothesis.text
        return ResultFrame.of(out, dict.fromkeys(self.by, "number"))

    def plot(self, ax: Axes | None = None, alpha: float = 0.05) -> Axes:
        """
        Draw the estimates with their intervals.

        The first variable of the grid goes along the axis, joined by lines if it is
        numeric; combinations of the others have a colour each.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        alpha : float
            1 - coverage of the intervals.

        Returns
        -------
        matplotlib.axes.Axes

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm(
        ...     "distance ~ age * sex", teeth, groups="subject", time="occ"
        ... )
        >>> fit = model.fit()
        >>> means = fit.marginal_means(["age", "sex"])
        >>> means.plot().get_xlabel()
        'age'
        """
        draw = load("mixedar.plotting.coefficients", "plot_means")
        names = list(self.grid.columns)
        return draw(self.to_frame(alpha), self.what, names, alpha, ax)

    def __repr__(self) -> str:
        table = self.to_frame().as_printed()
        return "\n".join([table.to_string(index=False), *self.notes])

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return self.to_frame().as_printed().to_html(index=False) + notes


@dataclass(frozen=True, repr=False)
class MarginalSlopes(MarginalMeans):
    """
    Slopes of the population mean along a numeric variable.

    Made by ``fit.marginal_slopes``; everything is that of :class:`MarginalMeans`,
    with slopes in place of means.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age * sex", teeth, groups="subject", time="occ"
    ... )
    >>> fit = model.fit()
    >>> slopes = fit.marginal_slopes("age", by="sex")
    >>> slopes.pairwise()["difference"].round(2).tolist()
    [-0.31]
    """

    what: ClassVar[str] = "slope"


def without_rounding(matrix: FloatArray) -> FloatArray:
    """
    Set to zero what is rounding beside the largest entry of its row.

    Containment asks which coefficients a contrast involves.

    Parameters
    ----------
    matrix : ndarray, shape (k, p)

    Returns
    -------
    ndarray, shape (k, p)
    """
    size = np.abs(matrix).max(axis=1, initial=0.0)[:, None]
    return np.where(np.abs(matrix) < 1e-13 * size, 0.0, matrix)


def studentized_range(
    t: ArrayLike, df: ArrayLike, count: int, alpha: float
) -> tuple[FloatArray, FloatArray]:
    """
    Tukey's adjustment for all pairs of several means (Kramer's if unbalanced).

    Parameters
    ----------
    t, df : array_like, shape (k,)
        Statistics of the differences, and their degrees of freedom.
    count : int
        Number of means.
    alpha : float
        1 - coverage of all intervals together.

    Returns
    -------
    width : ndarray, shape (k,)
        Half widths of the intervals in standard errors.
    p : ndarray, shape (k,)

    References
    ----------
    Kramer, C. Y. (1956), Extension of multiple range tests to group means with
    unequal numbers of replications, Biometrics 12, 307-310.
    """
    t, df = np.asarray(t, dtype=float), np.asarray(df, dtype=float)
    # quantiles are found by iteration: once for each degrees of freedom
    distinct, where = np.unique(df, return_inverse=True)
    points = np.array(
        [stats.studentized_range.isf(check_alpha(alpha), count, v) for v in distinct]
    )
    p = [
        stats.studentized_range.sf(np.sqrt(2.0) * abs(x), count, v)
        for x, v in zip(t, df, strict=True)
    ]
    return points[where] / np.sqrt(2.0), np.clip(p, 0.0, 1.0)
