"""
What statsmodels expects of the results of a mixed model.
"""

from __future__ import annotations

from collections.abc import (
    Callable,
    Hashable,
    ItemsView,
    Iterable,
    Iterator,
    ValuesView,
)
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from statsmodels.base.data import PandasData
from statsmodels.base.wrapper import union_dicts
from statsmodels.regression.mixed_linear_model import (
    MixedLMResults,
    MixedLMResultsWrapper,
)
from statsmodels.tools.validation import string_like

from mixedar._types import FloatArray
from mixedar.by_group.effects import effect_covariances
from mixedar.data.designs import matrix_rows
from mixedar.data.rows import as_frame
from mixedar.engine.compress import ClusterRows
from mixedar.engine.covariance import factor_entries
from mixedar.engine.problem import LikelihoodProblem
from mixedar.engine.search import find_modes
from mixedar.exceptions import UnsupportedError, check_flags
from mixedar.fit import Fit
from mixedar.inference.arguments import positions
from mixedar.mixed.statsmodels_model import MixedDistribution
from mixedar.prediction.batches import predictions
from mixedar.streams import Source
from mixedar.summary import ResultFrame

Table = TypeVar("Table")


class TablesByGroup(dict[Hashable, Table]):
    """
    A dict with a table for each group, which is made when it is asked for.

    Otherwise as any other dict; copies and pickles are ordinary ones.

    Parameters
    ----------
    labels : iterable
    make : callable
        Makes the table of a group from its number.
    """

    def __init__(
        self, labels: Iterable[Hashable], make: Callable[[int], Table]
    ) -> None:
        super().__init__()
        places: dict[Hashable, Any] = {g: _NotMade(i) for i, g in enumerate(labels)}
        self.update(places)
        self._make = make

    def __getitem__(self, label: Hashable) -> Table:
        found = super().__getitem__(label)
        if isinstance(found, _NotMade):
            found = self[label] = self._make(int(found))
        return found

    # not the one of dict: who copies a dict asks for its items then
    def __iter__(self) -> Iterator[Hashable]:
        return super().__iter__()

    def get(self, label: Hashable, default: Any = None) -> Any:
        """The table of a group, or else the default."""
        try:
            return self[label]
        except KeyError:
            return default

    def values(self) -> ValuesView[Table]:  # type: ignore[override]
        """The tables."""
        return ValuesView(self)

    def items(self) -> ItemsView[Hashable, Table]:  # type: ignore[override]
        """Groups and their tables."""
        return ItemsView(self)

    def pop(self, label: Hashable, *default: Any) -> Any:
        """Take the table of a group away."""
        if label in self:
            self[label]
        return super().pop(label, *default)

    def popitem(self) -> tuple[Hashable, Table]:
        """Take the last group away."""
        for label in reversed(self):
            return label, self.pop(label)
        return super().popitem()

    def setdefault(self, label: Hashable, default: Any = None) -> Any:
        """The table of a group, which is the default from now on if there is none."""
        if label not in self:
            self[label] = default
        return self[label]

    def copy(self) -> dict[Hashable, Table]:
        """An ordinary dict of all tables."""
        return dict(self.items())

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    def __eq__(self, other: object) -> bool:
        return self.copy() == (other.copy() if isinstance(other, dict) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __repr__(self) -> str:
        return repr(self.copy())

    def __reduce__(self) -> tuple[type[dict[Hashable, Table]], tuple[Any]]:
        return dict, (self.copy(),)


class _NotMade(int):
    """The number of a group whose table has not been asked for."""


class ParentResults(MixedLMResults):
    """What statsmodels' results offer of groups, predictions and variances."""

    fit: Fit
    # tables of the data's length: not pickled, made again when asked for
    _row_caches = ("random_effects", "random_effects_cov")

    @cached_property
    def random_effects(self) -> dict[Hashable, pd.Series]:
        """
        Conditional means of the random effects given the data, by group.

        A Series is made when it is asked for; one table of all groups is
        ``random_effects_frame()``.
        """
        data, means = self.fit.data, self.fit.effects.means
        every = None if self.k_vc else pd.Index(data.random_names)

        def make(group: int) -> pd.Series:
            if every is not None:
                return pd.Series(means[group].copy(), every)
            columns, names = data.effect_columns(group)
            return pd.Series(means[group, columns], names)

        return TablesByGroup(data.group_labels, make)

    @cached_property
    def random_effects_cov(self) -> dict[Hashable, pd.DataFrame]:
        """
        Conditional covariance of the random effects given the data, by group.

        A table is made when it is asked for.
        """
        data, covariances = self.fit.data, self.scale * effect_covariances(self.fit)

        def make(group: int) -> pd.DataFrame:
            columns, names = data.effect_columns(group)
            own = covariances[group][np.ix_(columns, columns)]
            return pd.DataFrame(own, names, names)

        return TablesByGroup(data.group_labels, make)

    def predict(
        self, exog: Any = None, transform: bool = True, *args: Any, **kwargs: Any
    ) -> Any:
        """
        Population means: ``X beta``, smooths, and the offset of a model that has one.

        Parameters
        ----------
        exog : DataFrame, dict or array_like, optional
            New data for the model's formula (also frames of polars, pyarrow and
            narwhals), or a design matrix, whose columns are matched by name if
            they have names; the model's own rows by default.  Of a source, such as
            ``mar.scan("new/*.parquet")``, rows come batch by batch.
        transform : bool
            Whether a model from a formula transforms `exog` by it.
        *args, **kwargs
            ``offset=`` of a model with an offset, a column or values; its column in
            `exog` by default.  Of a source, ``level="group"`` predicts with the random
            effects of the row's group given its responses, and ``to=`` names a Parquet
            file to write.

        Returns
        -------
        Series or ndarray
            A pandas Series with the index of `exog`, if that is a table; NaN
            where a value is missing.  Of a source an iterator of frames, or the path
            of the file.

        Raises
        ------
        UnknownColumnError
            If `exog` lacks a column.
        LengthError
            If a matrix has more or fewer columns than the model.
        UnsupportedError
            For any other argument, such as ``level=`` of rows in memory.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> len(fit.predict(teeth.head(3)))
        3
        """
        if isinstance(exog, Source):
            return predictions(self.fit, exog, *args, **kwargs)
        offset = kwargs.pop("offset", None)
        if args or kwargs:
            what = next(iter(kwargs), "a third argument")
            raise UnsupportedError(
                f"predict() of rows in memory gives population means, and does not "
                f"know {what}; get_prediction(newdata, level='group') adds the random "
                "effects of the groups, and has standard errors"
            )
        if exog is None:
            return pd.Series(self.fitted_marginal, index=self.fit.data.index)
        check_flags(transform=transform)
        spec = self.fit.formula_spec
        smooths: FloatArray | float = 0.0
        if spec is None or not transform:
            self.fit.population.check_no_smooths("predict(exog)")
            matrix, index = matrix_rows(exog, self.fit.exog_names)
            rows = pd.RangeIndex(len(matrix)) if index is None else index
            table = exog if isinstance(exog, pd.DataFrame) else pd.DataFrame(index=rows)
        else:
            table = as_frame(exog)
            matrix, index = spec.matrix(table), table.index
            shared = self.fit.population
            smooths = shared.columns(table, gaps=True) @ shared.smooths
        values = (
            matrix @ self.fe_params + smooths + self.fit.encoder.offsets(offset, table)
        )
        return values if index is None else pd.Series(values, index=index)

    def get_distribution(self, exog: ArrayLike | None = None) -> MixedDistribution:
        """
        Distribution of the response at the estimates.

        Parameters
        ----------
        exog : array_like, shape (n, p), optional
            The model's by default.

        Returns
        -------
        MixedDistribution
            ``get_distribution().rvs(rng=1)`` simulates a response with random
            effects and correlated residuals.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
        >>> fit = model.fit()
        >>> fit.get_distribution().rvs(1).shape
        (108,)
        """
        params = np.concatenate(
            [
                self.fe_params,
                self.params[self.k_fe : self.k_fe + self.k_re2 + self.k_vc]
                / self.scale,
                self.fit.residual_params,
            ]
        )
        return self.model.get_distribution(params, self.scale, exog)

    def profile_re(
        self,
        re_ix: int | str,
        vtype: str,
        num_low: int = 5,
        dist_low: float = 1.0,
        num_high: int = 5,
        dist_high: float = 1.0,
        **fit_kwargs: Any,
    ) -> FloatArray:
        """
        Profile likelihood of a random-effects variance.

        A grid of variances is divided by the residual variance; each ratio is
        held while everything else, the residual variance included, is estimated
        again.

        Parameters
        ----------
        re_ix : int or str
            Index of the random effect, or name of the variance component, or of a
            random effect of another factor: ``"item"``, ``"time|item"``.
        vtype : {"re", "vc"}
        num_low, num_high : int
            Points below and above the estimate.
        dist_low, dist_high : float
            How far to go below and above.
        **fit_kwargs
            Passed on to the search.

        Returns
        -------
        ndarray, shape (num_low + num_high + 1, 2)
            The variance (ratio times the re-estimated residual variance) and the
            log-likelihood.

        Raises
        ------
        UnsupportedError
            If the grid would reach a variance of zero or less, or there is no such
            random effect.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> fit = mar.mixedlm(
        ...     "distance ~ age", teeth, groups="subject", re_formula="~age"
        ... ).fit()
        >>> fit.profile_re(0, "re", num_low=1, num_high=1).shape
        (3, 2)
        """
        vtype = string_like(vtype, "vtype", options=("re", "vc"), lower=False)
        fit = self.fit
        fit.check_scale_estimated("profile_re(), which divides by it,")
        estimate, effect = _profiled(fit, re_ix, vtype)
        if fit.layout.compound and effect < fit.k_re:
            name = fit.names[fit.k_fe]
            raise UnsupportedError(
                "profile_re() holds the variance of one random effect, and those of "
                f"this model share theirs: profile({name!r}) profiles it"
            )
        if estimate - dist_low <= 0.0:
            raise UnsupportedError(
                "dist_low is too large and would result in a negative variance. Try a "
                f"smaller value than {estimate:.6g}."
            )
        grid = np.concatenate(
            [
                np.linspace(estimate - dist_low, estimate, num_low + 1),
                np.linspace(estimate, estimate + dist_high, num_high + 1)[1:],
            ]
        )
        rows, position, start = _profile_start(fit, vtype, effect)
        curve = []
        for variance in grid:
            fixed = fit.layout.fixed.copy()
            fixed[position] = np.sqrt(variance / fit.scale)
            layout = replace(fit.layout, fixed=fixed)
            problem = LikelihoodProblem(
                rows, fit.nobs, fit.structure, layout, reml=fit.reml
            )
            theta = problem.theta_from(start, fit.estimate.residual_params)
            best = find_modes(problem, start=theta, **fit_kwargs)[0].estimate
            curve.append([best.cov_values[position], best.llf])
        return np.asarray(curve)


def _profiled(fit: Fit, re_ix: int | str, vtype: str) -> tuple[float, int]:
    """The variance that is profiled, and the number of its effect in `effect_names`."""
    names, first = list(fit.effect_names), fit.k_re + fit.k_vc
    others = names[first:]
    if vtype == "vc":
        components = names[fit.k_re : first]
        if re_ix not in components:
            raise UnsupportedError(
                f"re_ix={re_ix!r}: the variance components are {components}"
            )
        effect = fit.k_re + components.index(str(re_ix))
    elif re_ix in others:
        effect = first + others.index(str(re_ix))
    elif isinstance(re_ix, (int, np.integer)) and 0 <= re_ix < fit.k_re:
        effect = int(re_ix)
    else:
        named = f", and by name {others}" if others else ""
        raise UnsupportedError(
            f"re_ix={re_ix!r}: there are {fit.k_re} random effects, counted from 0"
            + named
        )
    return float(fit.effect_cov[effect, effect]), effect


def _profile_start(
    fit: Fit, vtype: str, effect: int
) -> tuple[ClusterRows, int, FloatArray]:
    """
    The rows, the entry of ``Lambda`` that is held, and all entries at the estimates.

    The effect comes first among those it may be correlated with: the first diagonal
    entry of a Cholesky factor is a standard deviation.
    """
    rows, k_re, position = fit.data.compressed, fit.k_re, 0
    order, unscaled = np.arange(k_re), fit.effect_cov / fit.scale
    if vtype == "vc":
        position = fit.k_re2 + effect - k_re
    elif effect < k_re:
        order[[0, effect]] = order[[effect, 0]]
        columns = np.concatenate([order, np.arange(k_re, rows.z.shape[1])])
        rows = replace(rows, z=rows.z[:, columns])
    own_cov = unscaled[np.ix_(order, order)]
    start = [fit.layout.root_entries(own_cov, fit.vcomp / fit.scale)]
    terms = list(rows.terms)
    for t, place in enumerate(fit.layout.term_places):
        own = np.arange(len(unscaled))[place.effects]
        order = np.arange(len(own))
        if effect in own:
            number = int(effect - own[0])
            order[[0, number]] = order[[number, 0]]
            position = place.entries.start
            columns = terms[t].columns
            copies = columns.reshape(len(columns), -1, len(own))[:, :, order]
            terms[t] = replace(terms[t], columns=copies.reshape(columns.shape))
        some = own[order]
        start.append(factor_entries(unscaled[np.ix_(some, some)], np.empty(0)))
    return replace(rows, terms=tuple(terms)), position, np.concatenate(start)


class MixedLMARResultsWrapper(MixedLMResultsWrapper):
    """Attaches names and the caller's index to the results' arrays."""

    _attrs: ClassVar[dict[str, str]] = {"fitted_marginal": "rows"}
    _wrap_attrs = union_dicts(MixedLMResultsWrapper._wrap_attrs, _attrs)
    # the rows of an interval depend on `cols`, which the parent's wrapper ignores
    _wrap_methods: ClassVar[dict[str, Any]] = {
        name: how
        for name, how in MixedLMResultsWrapper._wrap_methods.items()
        if name not in ("conf_int", "cov_params")
    }

    def __repr__(self) -> str:
        return repr(self._results)

    def __str__(self) -> str:
        return str(self._results)

    def cov_params(
        self, r_matrix: Any = None, column: Any = None, *args: Any, **kwargs: Any
    ) -> pd.DataFrame | FloatArray:
        """Covariance of parameters by name, or of combinations of them."""
        results = self._results
        values = results.cov_params(r_matrix, column, *args, **kwargs)
        named = isinstance(results.model.data, PandasData)
        if not named or r_matrix is not None or column is not None:
            return values
        names = list(results.fit.names)
        return ResultFrame.of(pd.DataFrame(values, names, names), "number")

    def conf_int(
        self, alpha: float = 0.05, cols: Any = None, **kwargs: Any
    ) -> pd.DataFrame | FloatArray:
        """Confidence intervals by name; see :meth:`WaldInference.conf_int`."""
        results = self._results
        values = results.conf_int(alpha, **kwargs)
        keep = slice(None) if cols is None else positions(cols, results.fit.names)
        if not isinstance(results.model.data, PandasData):
            return values[keep]
        frame = pd.DataFrame(values, index=results.fit.names)
        return ResultFrame.of(frame.iloc[keep])
