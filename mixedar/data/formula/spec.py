"""
Matrices of formulas, for the rows of the data and for new ones.
"""

from __future__ import annotations

import importlib
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.formula._manager import FormulaManager

from mixedar.data.formula.columns import (
    ColumnStore,
    EmptyCells,
    FixedPart,
    check_no_date,
    plain_columns,
    spelled_in_patterns,
    unknown_name,
    why_not_evaluated,
)
from mixedar.data.formula.names import FormulaUse, in_calls
from mixedar.data.formula.products import FEW, DesignColumns, checked
from mixedar.data.rows import (
    as_frame,
    check_matrix,
    recode,
    table_column,
)
from mixedar.exceptions import (
    MixedARError,
    UnknownColumnError,
    UnsupportedError,
    listing,
    shown,
)


def na_action(manager: FormulaManager, drop: bool) -> Any:
    """Leave out rows with missing values, or let NaN pass through."""
    if drop:
        return manager.get_na_action("drop")
    if manager.engine == "patsy":
        return manager.get_na_action("raise", types=[])
    return "ignore"


@contextmanager
def engine_errors(use: FormulaUse, available: list[Any]) -> Iterator[None]:
    """
    Turn the engines' many exceptions into the package's.

    Parameters
    ----------
    use : FormulaUse
        The formula being evaluated.
    available : list
        Names of the columns, to suggest near matches.

    Raises
    ------
    UnknownColumnError
        If a name of the formula is not defined.
    MixedARError
        For any other failure.
    """
    try:
        yield
    except MixedARError:
        raise
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, NameError):
            cause = cause.__cause__ or cause.__context__
        if isinstance(cause, NameError):
            # patsy's Q() raises NameError without the attribute.
            name = cause.name or "".join(re.split("['`]", str(cause))[1:2])
            known = use.names | use.functions
            name = name if name in known else name.split(".")[0]
            if name in known:
                message = unknown_name(name, use.formula, available)
                raise UnknownColumnError(message) from error
        raise MixedARError(why_not_evaluated(error, use.formula)) from error


def dump_variable(value: object) -> bytes:
    """Pickle a variable on its own; empty when that is impossible."""
    if isinstance(value, ModuleType):
        return pickle.dumps(("module", value.__name__))
    try:
        return pickle.dumps(("value", value))
    except Exception:  # anything can go wrong in a foreign __reduce__
        return b""


def load_variable(name: str, content: bytes, formula: str) -> Any:
    """
    Restore what :func:`dump_variable` has stored.

    Parameters
    ----------
    name : str
        Name of the variable.
    content : bytes
        What was stored.
    formula : str
        Formula that needs it.

    Returns
    -------
    object
        The variable.

    Raises
    ------
    UnsupportedError
        If it could not be stored or cannot be restored here.
    """
    try:
        kind, value = pickle.loads(content)
        if kind == "module":
            return importlib.import_module(value)
        return value
    except Exception as error:
        raise UnsupportedError(
            f"{name!r}, used by the formula {formula!r}, could not be saved with the "
            "model: define it at the top level of an importable module."
        ) from error


BLOCK = 65_536  # rows evaluated at a time: bounds what the engine copies
# Up to this many rows a second call of the engine costs more than it saves.
_AT_ONCE = 50_000
_SAMPLE = 2


class FormulaSpec:
    """
    A formula with everything needed to build its matrix for new rows.

    Unlike the engines' own specifications it can be pickled: it keeps the
    formula, the levels of categorical columns and the caller's functions that
    the formula names (by reference); formulas with transforms that depend on
    all rows, such as ``center(x)``, keep the columns they were built from.

    Parameters
    ----------
    use : FormulaUse
        The formula and its names.
    engine : {"patsy", "formulaic"}
        Formula engine.
    training : pandas.DataFrame
        Rows from which the engine can build its specification.
    namespace : Mapping[str, object]
        Variables of the caller that the formula uses.
    rowwise : bool
        Whether `training` is a mere sample.
    parsed : object, optional
        The engine's parsed formula, used instead of the text.

    Attributes
    ----------
    formula : str
        The right-hand side.
    column_names : list[str]
        Names of the matrix's columns.
    empty_cells : EmptyCells or None
        What the formula's matrix has beyond these columns.
    unused : dict[str, list]
        Levels of categorical columns that have no rows and are left out.
    variables : list[str]
        Columns that new data must have.
    levels : dict[str, list]
        Levels of the categorical columns.
    """

    def __init__(
        self,
        use: FormulaUse,
        engine: str,
        training: pd.DataFrame,
        namespace: Mapping[str, Any],
        rowwise: bool,
        parsed: object = None,
    ) -> None:
        self.use = use
        self.formula = use.formula
        self.engine = engine
        self.rowwise = rowwise
        self.variables: list[str] = list(training.columns)
        self.own_variables = self.variables
        self.direct = use.direct & set(self.variables)
        self.dtypes = dict(training.dtypes)
        self.levels = {
            name: list(dtype.categories)
            for name, dtype in self.dtypes.items()
            if isinstance(dtype, pd.CategoricalDtype)
        }
        self.column_names: list[str] = []
        self.empty_cells: EmptyCells | None = None
        self.unused: dict[str, list[Any]] = {}
        self.smooths: tuple[FixedPart, ...] = ()
        self.available: list[Any] = list(self.variables)
        self._training = training.iloc[:_SAMPLE] if rowwise else training
        self._namespace: dict[str, Any] | None = dict(namespace)
        self._stored: dict[str, bytes] = {}
        self._parsed = parsed
        self._spec: Any = None
        self._columns: list[DesignColumns | None] = []

    # The engine -----------------------------------------------------------

    @property
    def engine_spec(self) -> Any:
        """Return patsy's DesignInfo or formulaic's ModelSpec, built when needed."""
        if self._spec is None:
            self._fit(self._training)
        return self._spec

    def _fit(self, training: pd.DataFrame) -> tuple[np.ndarray, np.ndarray | None]:
        """Build the engine's specification; return matrix, missing rows."""
        manager = FormulaManager(self.engine)
        action = na_action(manager, drop=not self.rowwise)
        if not training.index.is_unique:  # formulaic finds missing rows by label
            training = training.reset_index(drop=True)
        with engine_errors(self.use, self.available):
            result = manager.get_matrices(
                self.formula if self._parsed is None else self._parsed,
                training,
                eval_env=self.namespace,
                pandas=True,
                na_action=action,
            )
        names = list(manager.get_column_names(manager.spec))
        known = self.all_names
        if known and names != known:
            raise MixedARError(
                f"The formula {self.formula!r} now gives the columns {names}, not "
                f"{known}: was statsmodels.formula.options changed?"
            )
        self._spec, self.column_names = manager.spec, self.column_names or names
        for factor, info in getattr(manager.spec, "factor_infos", {}).items():
            if info.type == "categorical" and not factor.name().startswith("C("):
                levels = pd.Series(list(info.categories))
                check_no_date(levels, factor.name(), self.use)
        missing = manager.missing_mask
        mask = None if missing is None else np.asarray(missing, dtype=bool)
        return self._floats(result), mask

    def _apply(self, frame: pd.DataFrame, drop: bool) -> np.ndarray:
        """Evaluate the formula; rows with missing values become NaN."""
        spec = self.engine_spec
        frame = frame.reset_index(drop=True) if drop else frame
        manager = FormulaManager(self.engine)
        missing: np.ndarray | None = None
        with engine_errors(self.use, self.available):
            if self.engine == "patsy":
                action = na_action(manager, drop)
                matrix = manager.get_matrices(
                    spec, frame, self.namespace, pandas=False, na_action=action
                )
                missing = manager.missing_mask if drop else None
            else:
                matrix = spec.get_model_matrix(
                    frame,
                    context=self.namespace,
                    output="pandas" if drop else "numpy",
                    na_action="drop" if drop else "ignore",
                )
                if drop:
                    missing = ~frame.index.isin(matrix.index)
        values = self._floats(matrix)
        return _with_gaps(values, missing, len(frame))

    def _floats(self, matrix: object) -> np.ndarray:
        dtypes = getattr(matrix, "dtypes", [getattr(matrix, "dtype", None)])
        if any(getattr(dtype, "kind", "f") == "c" for dtype in dtypes):
            raise MixedARError(why_not_evaluated("complex numbers", self.formula))
        return np.asarray(matrix, dtype=float)

    # Names of the caller --------------------------------------------------

    @property
    def namespace(self) -> dict[str, Any]:
        """The caller's variables that the formula uses."""
        if self._namespace is None:
            self._namespace = {
                name: load_variable(name, content, self.formula)
                for name, content in self._stored.items()
            }
        return self._namespace

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.update(_spec=None, _namespace=None, _parsed=None, _columns=[])
        if self._namespace is not None:
            state["_stored"] = {k: dump_variable(v) for k, v in self._namespace.items()}
        return state

    def __copy__(self) -> FormulaSpec:
        return self  # nothing in it is ever changed

    def __deepcopy__(self, memo: dict[int, Any]) -> FormulaSpec:
        return self

    def __repr__(self) -> str:
        return f"FormulaSpec({self.formula!r}, columns={self.column_names})"

    # Matrices -------------------------------------------------------------

    @property
    def all_names(self) -> list[str]:
        """Names of the formula's columns, of those without a coefficient too."""
        gone = self.empty_cells
        return self.own_names if gone is None else gone.all_names

    @property
    def own_names(self) -> list[str]:
        """Names of the columns that are not of smooths."""
        count = sum(len(part.fixed_names) for part in self.smooths)
        return self.column_names[: len(self.column_names) - count]

    def with_smooths(self, smooths: Sequence[FixedPart]) -> FormulaSpec:
        """The same formula, and after its columns those of smooths."""
        other = object.__new__(FormulaSpec)
        other.__dict__ = {**self.__dict__, "smooths": tuple(smooths)}
        names = [name for part in smooths for name in part.fixed_names]
        read = [name for part in smooths for name in part.variables]
        other.column_names = [*self.column_names, *names]
        other.variables = list(dict.fromkeys([*self.variables, *read]))
        other.own_variables = self.own_variables
        return other

    def without(self, empty_cells: EmptyCells) -> FormulaSpec:
        """The same formula less the columns of empty cells."""
        other = object.__new__(FormulaSpec)
        other.__dict__ = {**self.__dict__, "empty_cells": empty_cells}
        other.column_names = [empty_cells.all_names[j] for j in empty_cells.kept]
        return other

    def notes(self) -> list[str]:
        """Sentences on levels, and combinations of levels, that have no rows."""
        out = [
            f"Levels of {name} without rows, left out: {listing(levels)}."
            for name, levels in self.unused.items()
        ]
        if self.empty_cells is not None:
            out.append(
                "Columns left out, as combinations of levels have no rows: "
                f"{listing(self.empty_cells.names)}."
            )
        return out

    def matrix(self, new_data: object) -> np.ndarray:
        """
        The matrix of the formula for new rows.

        Parameters
        ----------
        new_data : DataFrame, dict, Series or structured array
            The rows; only the columns in ``variables`` are looked at.

        Returns
        -------
        ndarray, (n, p)
            NaN in rows where a used column is missing.

        Raises
        ------
        UnknownColumnError
            If a column is not in `new_data`.
        UnsupportedError
            If a categorical column has a level the model was not built with.
        MixedARError
            If the formula cannot be evaluated.
        """
        values = self._own_matrix(new_data)
        if not self.smooths:
            return values
        return np.column_stack([values, self.smooth_columns(as_frame(new_data))])

    def smooth_columns(self, table: pd.DataFrame) -> np.ndarray:
        """Columns of the fixed parts of smooths, the last of :meth:`matrix`."""
        none = np.empty((len(table), 0))
        return np.hstack([none, *(part.fixed(table) for part in self.smooths)])

    def _own_matrix(self, new_data: object) -> np.ndarray:
        """The matrix without smooths."""
        values = self.all_columns(new_data)
        if self.empty_cells is None:
            return values
        unknown = ~self.empty_cells.determined(values) & np.isfinite(values).all(axis=1)
        if unknown.any():
            row = int(np.argmax(unknown))
            index = as_frame(new_data).index
            raise UnsupportedError(
                f"the fit says nothing of row {shown(index[row])} of the new rows: no "
                "row of the data has its combination of levels (left out: "
                f"{listing(self.empty_cells.names)}); predict other combinations, or "
                "fit a formula without the interaction"
            )
        return np.ascontiguousarray(values[:, self.empty_cells.kept])

    def all_columns(self, new_data: object) -> np.ndarray:
        """As :meth:`matrix`, with the columns of ``all_names``."""
        table = as_frame(new_data)
        raw = {name: table_column(table, name) for name in self.own_variables}
        frame = pd.DataFrame(
            {
                name: recode(column, self.dtypes[name], name)
                for name, column in raw.items()
            },
            index=table.index,
            copy=False,
        )
        missing = np.zeros(len(table), dtype=bool)
        for name in self.direct:
            missing |= frame[name].isna().to_numpy()
        if not len(table) or missing.all():
            return np.full((len(table), len(self.all_names)), np.nan)
        if missing.any():
            values = self._evaluate(frame.iloc[np.flatnonzero(~missing)])
            return _with_gaps(values, missing, len(table))
        return self._evaluate(frame)

    def complete_matrix(self, table: pd.DataFrame) -> np.ndarray:
        """As :meth:`matrix`, of which no value may be missing or infinite."""
        # the check says more than a warning
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            matrix = self.matrix(table)
        finite = np.isfinite(matrix)
        if not finite.all():
            row = int(np.argmin(finite.all(axis=1)))
            for variable in self.variables:  # a column of the data, if it is at fault
                if pd.isna(table_column(table, variable).iloc[row]):
                    check_matrix(matrix, [str(variable)] * matrix.shape[1], table.index)
            check_matrix(matrix, self.column_names, table.index)
        return matrix

    def _evaluate(self, frame: pd.DataFrame) -> np.ndarray:
        if not self.rowwise:
            return self._apply(frame, drop=True)
        if self.engine == "patsy" and len(frame) > FEW:
            if not self._columns:
                few, spec = frame.iloc[:FEW], self.engine_spec
                self._columns = [checked(spec, few, self._apply(few, drop=False))]
            if self._columns[0] is not None:
                return self._columns[0].matrix(frame)
        if len(frame) <= BLOCK:
            return np.ascontiguousarray(self._apply(frame, drop=False))
        matrix = np.empty((len(frame), len(self.all_names)))
        for start in range(0, len(frame), BLOCK):
            rows = slice(start, start + BLOCK)
            matrix[rows] = self._apply(frame.iloc[rows], drop=False)
        return matrix


def fit_formula(
    use: FormulaUse,
    columns: ColumnStore,
    namespace: Mapping[str, Any],
    parsed: object = None,
) -> tuple[FormulaSpec, np.ndarray]:
    """
    Build the matrix of a one-sided formula.

    Parameters
    ----------
    use : FormulaUse
        The formula, as read by ``read_formula``.
    columns : ColumnStore
        The data's columns.
    namespace : Mapping[str, object]
        The caller's variables.
    parsed : object, optional
        The engine's parsed formula, used instead of the text.

    Returns
    -------
    FormulaSpec
        For new rows.
    ndarray, (n, p)
        The matrix; NaN where a value is missing.

    Raises
    ------
    UnknownColumnError
        If a name is neither a column nor a variable.
    MixedARError
        If the formula cannot be evaluated.
    """
    engine = FormulaManager().engine  # statsmodels' current choice
    powers = in_calls(use.formula, "^")
    if any(powers) or (powers and engine == "patsy"):
        raise UnsupportedError(
            f"the formula {use.formula!r} has a ^, which is Python's exclusive or."
            f"{spelled_in_patterns(use.formula)}"
        )
    frame = columns.frame(use)
    alone = re.search(r"(^|\+)\s*0\s*(\+|$)|-\s*1\b", use.formula)
    if "Intercept" in use.terms & set(frame.columns) and not alone:
        raise UnsupportedError(
            f"the formula {use.formula!r}: the column 'Intercept' has the name of the "
            "constant; rename the column, or leave the constant out by 0 +"
        )
    names = [n for n in use.names | use.functions if n not in frame.columns]
    # formulaic's lag knows no groups
    unknown = [n for n in use.direct | {"lag"} if n in names and n not in namespace]
    if unknown:
        raise UnknownColumnError(
            unknown_name(sorted(unknown)[0], use.formula, columns.available)
        )
    rowwise = use.is_rowwise(list(frame.columns)) and columns.is_separable(frame, use)
    own = {name: namespace[name] for name in names if name in namespace}
    spec = FormulaSpec(use, engine, frame, own, rowwise, parsed)
    spec.available = columns.available
    unused = {name: columns.unused(name, use) for name in frame.columns}
    spec.unused = {name: levels for name, levels in unused.items() if levels}
    plain = plain_columns(use, frame) if rowwise and parsed is None else None
    if plain is not None:
        spec.column_names, matrix = plain
        return spec, matrix
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if rowwise and len(frame) > _AT_ONCE:
            spec._fit(spec._training)
            return spec, spec._evaluate(frame)
        matrix, missing = spec._fit(frame)
    return spec, _with_gaps(matrix, missing, len(frame))


def _with_gaps(values: np.ndarray, missing: np.ndarray | None, n: int) -> np.ndarray:
    """Put back the rows that were left out, as NaN."""
    if missing is None or len(values) == n:
        return values
    out = np.full((n, values.shape[1]), np.nan)
    out[~missing] = values
    return out
