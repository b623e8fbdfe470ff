"""
Mixed models as an estimator of scikit-learn; needs ``pip install 'mixedar[sklearn]'``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixedar.data.checks import as_pandas, check_labels
from mixedar.data.formula.bars import read_bars
from mixedar.data.formula.names import read_formula, split_formula
from mixedar.data.rows import as_term
from mixedar.exceptions import (
    UnknownColumnError,
    UnsupportedError,
    check_choice,
    listing,
    shown,
)
from mixedar.mixed import MixedLMAR
from mixedar.prediction.predict import LEVELS
from mixedar.residual import ResidualStructure

try:
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.utils import column_or_1d
    from sklearn.utils.validation import (
        check_consistent_length,
        check_is_fitted,
        validate_data,
    )
except ImportError as error:
    raise ImportError(
        "mixedar.sklearn needs scikit-learn 1.6 or later: "
        "pip install 'mixedar[sklearn]'"
    ) from error

__all__ = ["MixedRegressor"]

if TYPE_CHECKING:
    from typing_extensions import Self

    from mixedar._types import FloatArray

# The one group of rows that have none; no formula can name it by accident.
_NO_GROUPS = "all rows"
# Options that may name a column which is no regressor.
_ROLES = ("series", "weights", "offset")


class MixedRegressor(RegressorMixin, BaseEstimator):
    """
    A linear mixed model for scikit-learn's cross-validation, searches and pipelines.

    The groups are a column of `X`.  Rows of groups that were fitted are predicted with
    their random effects, rows of other groups by the mean of the population.

    Parameters
    ----------
    formula : str, optional
        Fixed effects, ``"x + C(arm)"``, and random effects in bars if there are any,
        ``"x + (1 + x | school)"``.  A response may be named, ``"y ~ x"``; it is what
        `fit` gets as `y`.  By default all columns of `X` are regressors, texts and
        categoricals as factors, but for `groups`, columns that `options` names, and
        `time` unless `re_formula` has it.
    groups : str or int, optional
        Column of the labels of groups: its name, or its number in an array, whose
        columns formulas call ``x0``, ``x1``, ...  May be left out where the formula
        has bars, and with ``re_formula="0"``, where all rows are one group.
    time : str or int, optional
        Column of times within groups.
    re_formula : str, optional
        Random effects of the groups, ``"~x"``; a random intercept by default, ``"0"``
        for none.
    residual : str or ResidualStructure
        Residual structure, as in ``mixedlm``: AR(1) by default if there is `time`.
    reml : bool
        Restricted maximum likelihood, or maximum likelihood.
    level : {"group", "population", "forecast"}
        What is predicted, as in ``get_prediction``: with the random effects of known
        groups; without; or given their residuals too.
    options : mapping, optional
        Further arguments of ``mixedlm``: ``{"weights": "w", "re_cov": "diagonal"}``.

    Attributes
    ----------
    results_ : MixedLMARResults
        The fit, with all that may be asked of one.
    n_features_in_ : int
        Columns of `X`.
    feature_names_in_ : ndarray of str, shape (k,)
        Their names, if these are texts.

    See Also
    --------
    mixedar.selection.validation.cross_validate : left-out groups and later times,
        by proper scores of the whole predictive distribution.

    Notes
    -----
    Folds of rows leave rows of a group on both sides, and judge predictions of known
    groups; ``GroupKFold`` leaves whole groups out, and judges predictions of new ones.

    scikit-learn's ``check_estimator`` passes for ``MixedRegressor(re_formula="0")``;
    its tables have no column of groups.  Sample weights are not taken: a row of weight
    two is not two rows of its group, and known precisions are a column,
    ``options={"weights": "w"}``.

    Formulas find NumPy as ``np`` and no other variable of the caller.

    Examples
    --------
    >>> from sklearn.model_selection import GroupKFold, cross_val_score
    >>> from mixedar.datasets import load_orthodont
    >>> from mixedar.sklearn import MixedRegressor
    >>> teeth = load_orthodont()
    >>> y = teeth.pop("distance")
    >>> model = MixedRegressor("age * sex", groups="subject", time="occ")
    >>> model.fit(teeth, y).predict(teeth.head(2)).round(1).tolist()
    [20.1, 21.0]
    >>> folds = GroupKFold(9)
    >>> scores = cross_val_score(model, teeth, y, groups=teeth["subject"], cv=folds)
    >>> scores.shape
    (9,)
    """

    def __init__(
        self,
        formula: str | None = None,
        *,
        groups: str | int | None = None,
        time: str | int | None = None,
        re_formula: str | None = None,
        residual: str | ResidualStructure | None = "auto",
        reml: bool = True,
        level: str = "group",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.formula, self.re_formula = formula, re_formula
        self.groups, self.time = groups, time
        self.residual, self.reml = residual, reml
        self.level, self.options = level, options

    def fit(self, X: Any, y: Any) -> Self:
        """
        Estimate the model.

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, k)
            Regressors, groups and times.  Frames of polars and Arrow tables are frames.
        y : array_like, shape (n,)
            Response.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For data that cannot be used; the package's own errors are ValueErrors.

        Examples
        --------
        >>> from mixedar.datasets import load_orthodont
        >>> from mixedar.sklearn import MixedRegressor
        >>> teeth = load_orthodont()
        >>> y = teeth.pop("distance")
        >>> fitted = MixedRegressor("age", groups="subject").fit(teeth, y)
        >>> fitted.results_.fe_params.round(2).to_dict()
        {'Intercept': 16.76, 'age': 0.66}
        """
        check_choice("level", self.level, LEVELS)
        X = as_pandas(X)
        frame, values = self._fitted_table(X, y)
        options = self._further_options()
        groups, time = self._column(self.groups, frame), self._column(self.time, frame)
        if groups is None and not self._has_bars:
            if self.re_formula not in ("0", "~0"):
                raise UnsupportedError(
                    "MixedRegressor needs groups=, the column of X with their labels, "
                    'or random effects in the formula, as in "x + (1 | school)"; '
                    're_formula="0" is for a regression without groups'
                )
            groups, frame = _NO_GROUPS, frame.assign(**{_NO_GROUPS: 0})
        name, right = self._formula_of(frame, y, {groups, time}, options)
        model = MixedLMAR.from_formula(
            f"{name} ~ {right}",
            frame.assign(**{name: values}),
            groups=groups,
            time=time,
            re_formula=self.re_formula,
            residual=self.residual,
            eval_env={"np": np},
            **options,
        )
        self.results_ = model.fit(reml=self.reml)
        return self

    def predict(
        self, X: Any, return_std: bool = False
    ) -> FloatArray | tuple[FloatArray, FloatArray]:
        """
        Predict rows, of known and of new groups.

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, k)
            With the columns of the fit.
        return_std : bool
            Also return the standard deviation of an observation about its prediction,
            the uncertainty of the fixed and random effects included.

        Returns
        -------
        ndarray, shape (n,), or two of them

        Examples
        --------
        >>> import pandas as pd
        >>> from mixedar.datasets import load_orthodont
        >>> from mixedar.sklearn import MixedRegressor
        >>> teeth = load_orthodont()
        >>> y = teeth.pop("distance")
        >>> fitted = MixedRegressor("age", groups="subject").fit(teeth, y)
        >>> new = teeth.head(1).assign(subject="somebody else")
        >>> rows = pd.concat([teeth.head(1), new])
        >>> mean, std = fitted.predict(rows, return_std=True)
        >>> mean.round(1).tolist(), std.round(1).tolist()
        ([19.7, 22.0], [1.6, 2.6])
        """
        check_is_fitted(self)
        frame = self._new_table(as_pandas(X))
        if self.results_.fit.data.groups_name == _NO_GROUPS:
            frame = frame.assign(**{_NO_GROUPS: 0})
        found = self.results_.get_prediction(
            frame, level=self.level, unknown="population"
        )
        mean = np.asarray(found.predicted_mean)
        return (mean, np.asarray(found.se_obs)) if return_std else mean

    @property
    def _has_bars(self) -> bool:
        return bool(self.formula and read_bars(self.formula)[1])

    def _fitted_table(self, X: Any, y: Any) -> tuple[pd.DataFrame, FloatArray]:
        """Columns by name, and the response."""
        if not _has_names(X):
            least: dict[str, Any] = {"y_numeric": True, "ensure_min_samples": 2}
            values, y = validate_data(self, X, y, **least)
            return _numbered(values), y
        validate_data(self, X, y, skip_check_array=True)
        values = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        check_labels("y", y, X.index, "X")
        return X, values

    def _new_table(self, X: Any) -> pd.DataFrame:
        """Columns of rows to predict, which have to be those of the fit."""
        if not _has_names(X):
            return _numbered(validate_data(self, X, reset=False))
        validate_data(self, X, reset=False, skip_check_array=True)
        return X

    def _further_options(self) -> dict[str, Any]:
        """Arguments of the model that are no parameters here."""
        if not isinstance(self.options or {}, Mapping):
            raise UnsupportedError(
                f"options={shown(self.options)}: give a mapping of arguments of "
                "mixedlm to values, such as {'weights': 'w'}"
            )
        options = dict(self.options or {})
        taken = sorted({*self.get_params(), "data", "eval_env"} & set(options))
        if taken:
            raise UnsupportedError(
                f"options= holds {listing(list(map(repr, taken)))}: parameters of "
                "MixedRegressor stand outside of it, and data and scope are its own"
            )
        return options

    def _column(self, given: str | int | None, frame: pd.DataFrame) -> str | None:
        """The name of a column that is given by name or number."""
        if given is None or isinstance(given, str):
            return given
        if hasattr(self, "feature_names_in_"):
            raise UnsupportedError(
                f"column {shown(given)}: X has names of columns; give one of them, "
                f"such as {shown(frame.columns[0])}"
            )
        try:
            return str(frame.columns[given])
        except (IndexError, TypeError):
            raise UnknownColumnError(
                f"column {shown(given)}: X has {frame.shape[1]} columns, which are "
                "counted from 0"
            ) from None

    def _formula_of(
        self,
        frame: pd.DataFrame,
        y: object,
        roles: set[str | None],
        options: Mapping[str, Any],
    ) -> tuple[str, str]:
        """The name of the response, and the right side of the formula."""
        left, right = split_formula(self.formula or "1")
        if left is not None and not left.isidentifier():
            raise UnsupportedError(
                f"the response of the formula is {left!r}: predictions are of y as it "
                "is passed, so name it alone, and transform y by scikit-learn's "
                "TransformedTargetRegressor"
            )
        label = str(getattr(y, "name", None) or "y")
        free = (n for n in (label, "y", "response", "response_") if n not in frame)
        name = left or next(n for n in free if as_term(n) == n)
        if self.formula is not None:
            return name, right
        named = read_formula(split_formula(self.re_formula or "1")[1], {}).names
        roles = {*roles, *(options.get(role) for role in _ROLES)} - named
        terms = [as_term(column) for column in frame.columns if column not in roles]
        return name, " + ".join(["1", *terms])


def _has_names(X: object) -> bool:
    """Whether it is a frame whose columns have texts for names."""
    return isinstance(X, pd.DataFrame) and all(isinstance(name, str) for name in X)


def _numbered(values: FloatArray) -> pd.DataFrame:
    """Columns of an array as a frame, as scikit-learn names them."""
    return pd.DataFrame(values, columns=[f"x{k}" for k in range(values.shape[1])])
