"""
Smooth terms of a formula, learned from the rows of a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.data.formula.smooth_calls import SmoothCall
from mixedar.data.formula.spec import FormulaSpec
from mixedar.data.rows import (
    Levels,
    check_present,
    table_column,
    without_categories,
)
from mixedar.exceptions import UnsupportedError, listing, shown
from mixedar.relations.base import LevelCovariance
from mixedar.smooths.basis import Split, learn, split
from mixedar.smooths.split import (
    LevelSplit,
    Margin,
    TensorProduct,
    level_split,
    tensor_split,
)


@dataclass(frozen=True, eq=False)
class Smooth:
    """
    A smooth of the model, learned from its rows.

    Attributes
    ----------
    label : str
        ``"s(time)"``, ``"s(time):armb"`` of one level.
    call : SmoothCall
    spec : FormulaSpec
        Evaluates the covariates, and a numeric ``by`` after them.
    parts : Split or LevelSplit
    levels : Levels or None
        Those of a factor in ``by`` or of ``"fs"``.
    level : int
        Which one it is the smooth of, or -1.
    between : LevelCovariance or None
        Of the coefficients of a tensor product.
    """

    label: str
    call: SmoothCall
    spec: FormulaSpec
    parts: Split | LevelSplit
    levels: Levels | None = None
    level: int = -1
    between: LevelCovariance | None = None

    @property
    def variables(self) -> list[str]:
        """Columns that new rows must have."""
        own = [self.call.by] if self.levels is not None and self.call.by else []
        return list(dict.fromkeys([*self.spec.variables, *own]))

    @property
    def fixed_names(self) -> list[str]:
        """Names of the fixed effects, as gamm's."""
        if isinstance(self.parts, LevelSplit):
            return []
        count = self.parts.to_fixed.shape[1]
        return [f"{self.label}Fx{k + 1}" for k in range(count)]

    @property
    def plain(self) -> str:
        """What it is where the variance of its coefficients is zero."""
        call = self.call
        cyclic = set(call.bases) == {"cc"}
        if isinstance(self.parts, LevelSplit):
            each = "a constant" if cyclic else "a straight line"
            return f"{each} for each level of {call.factor}"
        if call.is_product and "cc" not in call.bases:
            return "a product of straight lines"
        if not call.is_product and len(call.covariates) > 1:
            return "a plane"
        return "constant" if cyclic else "a straight line"

    @property
    def random_parts(self) -> list[RandomPart]:
        """Its coefficients, by variance."""
        count = len(self.parts.names) if isinstance(self.parts, LevelSplit) else 1
        return [RandomPart(self, k) for k in range(count)]

    def _at(self, table: pd.DataFrame) -> tuple[FloatArray, FloatArray]:
        """Covariates of rows, and what their columns are multiplied by."""
        values = self.spec.matrix(table)
        if self.level >= 0:
            assert self.levels is not None
            labels = table_column(table, self.call.by)
            codes, missing = self.levels.numbers(labels), labels.isna().to_numpy()
            unknown = np.flatnonzero((codes < 0) & ~missing)
            if len(unknown):
                raise UnsupportedError(
                    f"{self.call.label}: the level {shown(labels.iloc[unknown[0]])} of "
                    f"{self.call.by!r} in row {shown(table.index[unknown[0]])} of the "
                    "new rows has no smooth in the fit; there are "
                    f"{listing(self.levels.values.tolist())}"
                )
            by = np.where(codes == self.level, 1.0, 0.0)
            return values, np.where(missing, np.nan, by)
        d = len(self.call.covariates)
        return values[:, :d], values[:, d] if self.call.by else np.ones(len(values))

    def fixed(self, table: pd.DataFrame) -> FloatArray:
        """Columns of the fixed part for rows, shape (n, f)."""
        if isinstance(self.parts, LevelSplit):
            return np.empty((len(table), 0))
        x, by = self._at(table)
        return _by(self.parts.fixed, x, by)

    def random(self, table: pd.DataFrame, part: int = 0) -> FloatArray:
        """Columns of the random part for rows, shape (n, r)."""
        x, by = self._at(table)
        if isinstance(self.parts, LevelSplit):
            own = self.parts
            return _by(lambda x: own.columns(x, part), x, by)
        return _by(self.parts.random, x, by)


def _by(columns: Any, x: FloatArray, by: FloatArray) -> FloatArray:
    """Columns times a factor; NaN where the covariates are missing."""
    there = np.asarray(np.isfinite(x).all(axis=1))
    some = columns(np.where(there[:, None], x, x[there][:1] if there.any() else 0.0))
    some[~there] = np.nan
    return np.asarray(some * by[:, None])


@dataclass(frozen=True, eq=False)
class LearnedSmooth:
    """
    A smooth, and its columns for the rows that it was learned from.

    Attributes
    ----------
    smooth : Smooth
    fixed : ndarray, shape (n, f)
    random : tuple of ndarray, each of shape (n, r)
        By variance.
    """

    smooth: Smooth
    fixed: FloatArray
    random: tuple[FloatArray, ...]

    @classmethod
    def of(cls, smooth: Smooth, columns: FloatArray, by: FloatArray) -> LearnedSmooth:
        """The columns of its basis in rows, and what they are multiplied by."""
        parts, there = smooth.parts, np.flatnonzero(by)
        whole = len(there) == len(by)
        some = columns if whole else columns[there]
        own = by[there][:, None]

        def image(turn: FloatArray) -> FloatArray:
            values = (some @ turn) * own
            if whole:
                return values
            out = np.zeros((len(by), turn.shape[1]))
            out[there] = values
            return out

        if isinstance(parts, LevelSplit):
            none = np.empty((len(by), 0))
            return cls(smooth, none, tuple(image(turn) for turn in parts.maps))
        return cls(smooth, image(parts.to_fixed), (image(parts.to_random),))


@dataclass(frozen=True, eq=False)
class RandomPart:
    """
    The random part of a smooth where the formula of a term stands.

    Attributes
    ----------
    smooth : Smooth
    part : int
        Which of the parts with a variance of their own.
    """

    smooth: Smooth
    part: int = 0

    @property
    def name(self) -> str:
        """``"s(time)"``; of each level ``"s(time,id)"``, ``"s(time,id) constant"``."""
        parts, label = self.smooth.parts, self.smooth.label
        if not isinstance(parts, LevelSplit):
            return label
        return f"{label} {parts.names[self.part]}".strip()

    @property
    def variables(self) -> list[str]:
        """Columns that new rows must have."""
        return self.smooth.variables

    def complete_matrix(self, table: pd.DataFrame) -> FloatArray:
        """Columns for rows, of which no covariate may be missing."""
        smooth = self.smooth
        smooth.spec.complete_matrix(table)
        if smooth.levels is not None and smooth.call.by:
            labels = table_column(table, smooth.call.by)
            column = f"column {smooth.call.by!r}"
            check_present(column, labels.isna().to_numpy(), table.index)
        return smooth.random(table, self.part)


def learned_smooths(
    calls: Sequence[SmoothCall],
    covariates: Sequence[tuple[FormulaSpec, FloatArray]],
    labels: Sequence[pd.Series | None],
) -> list[LearnedSmooth]:
    """All smooths of a formula; see :func:`learn_smooths`."""
    found = [
        smooth
        for call, (spec, columns), own in zip(calls, covariates, labels, strict=True)
        for smooth in learn_smooths(call, spec, columns, own)
    ]
    check_apart(found)
    return found


def learn_smooths(
    call: SmoothCall,
    spec: FormulaSpec,
    covariates: FloatArray,
    labels: pd.Series | None,
) -> Iterator[LearnedSmooth]:
    """
    Learn a smooth from the rows of a model.

    Parameters
    ----------
    call : SmoothCall
    spec : FormulaSpec
        Of the covariates.
    covariates : ndarray, shape (n, d)
        With a numeric ``by`` after them.
    labels : Series or None
        The factor of each row.

    Yields
    ------
    LearnedSmooth
        One, or one for each level of ``by``.

    Raises
    ------
    UnsupportedError
        If the covariates have too few distinct values.
    """
    d = len(call.covariates)
    expected = d + (bool(call.by) and labels is None)
    if covariates.shape[1] != expected:
        raise UnsupportedError(
            f"{call.label}: covariates have to be numbers, one column each; "
            f"{call.formula.removeprefix('0 + ')!r} gives {covariates.shape[1]} columns"
        )
    x = covariates[:, :d]
    flat = np.flatnonzero(np.ptp(x, axis=0) == 0.0)
    if len(flat):
        raise UnsupportedError(
            f"{call.label}: {call.covariates[flat[0]]!r} has one value only, "
            f"{x[0, flat[0]]:g}"
        )
    levels = None
    if labels is not None:
        plain = without_categories(labels).infer_objects()
        levels = Levels(pd.Series(_sorted(plain), name=labels.name))
    if call.factor:
        basis = learn(x, call.bases[0], call.k[0], call.label)
        columns = basis.own_columns(x)
        smooth = Smooth(call.label, call, spec, level_split(basis, columns), levels)
        yield LearnedSmooth.of(smooth, columns, np.ones(len(x)))
        return
    centred = not (call.by and labels is None)
    between = None
    if call.is_product:
        inner = call.kind == "ti"
        parts = [
            Margin.learned(x[:, [k]], bs, size, call.label, centred=inner)
            for k, (bs, size) in enumerate(zip(call.bases, call.k, strict=True))
        ]
        basis = TensorProduct(parts)
        columns = basis.own_columns(x)
        own, between = tensor_split(basis, columns, centred=centred and not inner)
    else:
        basis = learn(x, call.bases[0], call.k[0], call.label)
        columns = basis.own_columns(x)
        own = split(basis, columns, centred=centred)
    if levels is None or labels is None:
        smooth = Smooth(call.label, call, spec, own, between=between)
        yield LearnedSmooth.of(
            smooth, columns, covariates[:, d] if call.by else np.ones(len(x))
        )
        return
    codes = levels.numbers(labels)
    first = _reference(labels)
    for k, name in enumerate(levels.names):
        if first is not None and levels.values.iloc[k] == first:
            continue
        by = np.where(codes == k, 1.0, 0.0)
        smooth = Smooth(f"{call.label}{name}", call, spec, own, levels, k, between)
        yield LearnedSmooth.of(smooth, columns, by)


def check_apart(learned: Sequence[LearnedSmooth]) -> None:
    """
    Raise if a smooth is part of others: of a surface, or of smooths of all levels.

    Raises
    ------
    UnsupportedError
        Saying how a surface is taken apart, and differences from one level are written.
    """
    calls = [one.smooth.call for one in learned]
    labels = {call.label for call in calls}
    numbers = {one.smooth.call.by for one in learned if one.smooth.levels is None} - {
        ""
    }
    for call in calls:
        _check_surface(call, calls, numbers)
    for one in learned:
        call, levels = one.smooth.call, one.smooth.levels
        whole = call.label.removesuffix(f":{call.by}")
        if levels is None or not call.by or whole not in labels:
            continue
        if calls.count(call) == len(levels.values):
            raise UnsupportedError(
                f"{whole} and {call.label}: the smooths of all levels add up to one of "
                f"all rows; leave {whole} out, or make {call.by!r} an ordered factor, "
                "pd.Categorical(..., ordered=True), whose first level has no smooth of "
                "its own"
            )


def _check_surface(
    surface: SmoothCall, calls: Sequence[SmoothCall], numbers: set[str]
) -> None:
    """Raise if a surface holds another smooth; `numbers` are the numeric ``by``."""
    if len(surface.covariates) == 1 or surface.kind == "ti":
        return
    for call in calls:
        inside = set(call.covariates) <= set(surface.covariates)
        apart = surface.by != call.by and {surface.by, call.by} & numbers
        if not inside or apart or call.factor or call == surface:
            continue
        by = f", by={surface.by}" if surface.by else ""
        parts = [f"s({name}{by})" for name in surface.covariates]
        parts.append(f"ti({', '.join(surface.covariates)}{by})")
        raise UnsupportedError(
            f"{call.label} is part of {surface.label}: leave it out, or write "
            f"{' + '.join(parts)} for curves and what they leave of the surface"
        )


def _reference(labels: pd.Series) -> object:
    """The first level of an ordered factor, which has no smooth of its own in mgcv."""
    dtype = labels.dtype
    if not isinstance(dtype, pd.CategoricalDtype) or not dtype.ordered:
        return None
    return labels.cat.remove_unused_categories().cat.categories[0]


def _sorted(labels: pd.Series) -> list[Any]:
    """Distinct labels, sorted if they can be."""
    distinct = list(pd.unique(labels))
    try:
        return sorted(distinct)
    except TypeError:
        return distinct
