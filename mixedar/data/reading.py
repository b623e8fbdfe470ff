"""
What a formula reads of a source: found before any of its rows, and then row by row.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Number
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.data.formula import Design, FormulaSpec, build_design
from mixedar.data.formula.build import response_of
from mixedar.data.formula.columns import ColumnStore
from mixedar.data.formula.names import (
    FormulaUse,
    ModelFormulas,
    formula_columns,
    read_formulas,
)
from mixedar.data.formula.spec import dump_variable, load_variable
from mixedar.data.given import check_missing, missing_error, subset_rows
from mixedar.data.survey import Survey, survey
from mixedar.exceptions import (
    EmptyDataError,
    MissingDataError,
    MixedARError,
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
    listing,
    shown,
)
from mixedar.streams import Source

Result = TypeVar("Result")

# What a condition on the columns of one row is made of.
_OF_ONE_ROW = (
    ast.Expression,
    ast.BoolOp,
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.Name,
    ast.Constant,
    ast.List,
    ast.Tuple,
    ast.operator,
    ast.boolop,
    ast.unaryop,
    ast.cmpop,
    ast.expr_context,
)


def named_column(role: str, given: object) -> str:
    """The column of an argument."""
    if isinstance(given, str):
        return given
    raise UnsupportedError(
        f"{role}= of a source is the name of one of its columns, not "
        f"{type(given).__name__}"
    )


def check_condition(subset: object) -> None:
    """Raise unless a condition says of each row by itself whether it is used."""
    if subset is None:
        return
    try:
        nodes = list(ast.walk(ast.parse(str(subset).replace("@", ""), mode="eval")))
    except SyntaxError:
        nodes = []
    rowwise = bool(nodes) and all(isinstance(node, _OF_ONE_ROW) for node in nodes)
    if not (isinstance(subset, str) and rowwise):
        raise UnsupportedError(
            f"subset={shown(subset)}: of a source, rows are chosen by a condition on "
            'the columns of each row, without functions, as in "age > 8 and sex == '
            "'F'\"; choose others where the data are held"
        )


def check_rowwise(
    uses: Sequence[FormulaUse], known: Sequence[str], namespace: Mapping[str, object]
) -> None:
    """Raise for names that are no columns, and formulas that look at many rows."""
    numbers = {name for name, v in namespace.items() if isinstance(v, Number)}
    for use in uses:
        lost = sorted(use.direct - set(known) - set(namespace))
        if lost:
            raise UnknownColumnError(
                f"{lost[0]!r} in the formula {use.formula!r} is neither a column "
                f"of the data nor a variable. Columns: {listing(known, 8)}."
            )
        if not use.is_rowwise({*known, *(use.direct & numbers)}):
            raise UnsupportedError(
                f"the formula {use.formula!r} has a function that may look at "
                "several rows at once, which come in batches: make a column of it "
                "where the data are held, and name that, or write the numbers that it "
                "takes of all rows, as in I(x - 3.5) for center(x)"
            )


def variables_of(
    uses: Sequence[FormulaUse], condition: str, namespace: Mapping[str, object]
) -> dict[str, object]:
    """The caller's variables that rows are evaluated with."""
    names = set(re.findall(r"@(\w+)", condition))
    names = names.union(*(use.names | use.functions for use in uses))
    return {name: v for name, v in namespace.items() if name in names}


class NotKept:
    """
    An attribute that has one value a row, of rows that were read and not kept.

    Parameters
    ----------
    message : str
        What to do instead.
    """

    def __init__(self, message: str) -> None:
        self.message = message

    def __get__(self, owner: object, kind: type | None = None) -> Any:
        if owner is None:
            return self
        raise NotComputedError(self.message)

    def __set__(self, owner: object, value: object) -> None:
        """Nothing is kept."""


@dataclass(frozen=True)
class UsedRows:
    """
    Which rows of a table a model uses, and their responses.

    Attributes
    ----------
    response : FormulaUse
    drop : tuple of str
        Columns of which rows with missing values are left out.
    subset : str or None
        Condition for the rows that are used.
    namespace : mapping of str to object
        The caller's variables.
    """

    response: FormulaUse
    drop: tuple[str, ...]
    subset: str | None
    namespace: Mapping[str, Any]

    def __getstate__(self) -> dict[str, Any]:
        stored = {name: dump_variable(v) for name, v in self.namespace.items()}
        return {**vars(self), "namespace": stored}

    def __setstate__(self, state: dict[str, Any]) -> None:
        stored, formula = state["namespace"], state["response"].formula
        namespace = {k: load_variable(k, v, formula) for k, v in stored.items() if v}
        self.__dict__.update(state, namespace=namespace)

    def chosen(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows that the condition holds for."""
        if self.subset is None:
            return table
        try:
            return table.iloc[subset_rows(self.subset, table, self.namespace)]
        except EmptyDataError:
            return table.iloc[:0]

    def complete(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows less those that may be left out because of missing values."""
        return table.dropna(subset=list(self.drop)) if self.drop else table

    def responses(self, table: pd.DataFrame) -> FloatArray:
        """Responses of the rows, shape (n,)."""
        columns = formula_columns([self.response], table, self.namespace)
        store = ColumnStore(columns, table.index, list(table.columns))
        return response_of(self.response, store, self.namespace)[0]


def check_no_missing(table: pd.DataFrame) -> None:
    """Raise for columns with missing values."""
    masks = {f"{name!r}": c.isna().to_numpy() for name, c in table.items()}
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    if masks:
        raise missing_error(masks.items(), table.index, "Missing")


class ReadRows(NamedTuple):
    """
    Rows that a formula has read.

    Attributes
    ----------
    table : DataFrame
        The rows that are used.
    endog : ndarray, shape (n,)
    exog : ndarray, shape (n, p)
    given : DataFrame
        Those of the condition, rows with missing values included.
    """

    table: pd.DataFrame
    endog: FloatArray
    exog: FloatArray
    given: pd.DataFrame

    @property
    def n_dropped(self) -> int:
        """Rows left out because of missing values."""
        return len(self.given) - len(self.table)


@dataclass(frozen=True)
class FormulaReader:
    """
    Reads rows of a table as the response and the regressors of a formula.

    Attributes
    ----------
    spec : FormulaSpec
        Of the regressors.
    rows : UsedRows
    """

    spec: FormulaSpec
    rows: UsedRows

    def read(self, table: pd.DataFrame) -> ReadRows:
        """
        Response and regressors of the rows that are used.

        Raises
        ------
        MissingDataError
            If values are missing or infinite in rows that may not be left out.
        """
        table = self.rows.chosen(table)
        used = self.rows.complete(table)
        if not len(used):
            empty = np.empty((0, len(self.spec.column_names)))
            return ReadRows(used, np.empty(0), empty, table)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            endog, exog = self.rows.responses(used), self.spec.matrix(used)
        good = np.isfinite(endog) & np.isfinite(exog).all(axis=1)
        if not good.all():
            self._check(used, endog, exog)
            used, endog, exog = used[good], endog[good], exog[good]
        return ReadRows(used, endog, np.ascontiguousarray(exog), table)

    def _check(self, table: pd.DataFrame, endog: FloatArray, exog: FloatArray) -> None:
        """Raise unless rows in which a formula gives no number may be left out."""
        check_no_missing(table)
        values = np.column_stack([endog, exog])
        if np.isinf(values).any():
            names = ["the response", *map(repr, self.spec.column_names)]
            infinite = [(n, np.isinf(v)) for n, v in zip(names, values.T, strict=True)]
            found = [(name, mask) for name, mask in infinite if mask.any()]
            raise missing_error(found, table.index, "Infinite")
        if not self.rows.drop:
            raise MissingDataError("a formula gives no number in some of its rows")


@dataclass(frozen=True)
class Stream:
    """
    A source that was read once: what it holds, and how its rows are read again.

    Attributes
    ----------
    source : Source
        With the rows of each group together.
    columns : tuple of str
        All that is read.
    key : str
        Of the groups.
    survey : Survey
    rows : UsedRows
    """

    source: Source
    columns: tuple[str, ...]
    key: str
    survey: Survey
    rows: UsedRows

    @classmethod
    def of(
        cls,
        source: Source,
        key: str,
        formulas: ModelFormulas,
        named: Sequence[str],
        *,
        learned: Collection[str | None],
        unlearned: Collection[str | None] = (),
        subset: object,
        missing: object,
        namespace: Mapping[str, Any],
    ) -> Stream:
        """
        Read a source once, for what has to be known before rows are encoded.

        Parameters
        ----------
        source : Source
        key : str
            Column of the groups.
        formulas : ModelFormulas
        named : sequence of str
            Columns of other arguments.
        learned : collection of str
            Columns of which the distinct values are wanted, beside levels of factors.
        unlearned : collection of str
            Columns of which they are not, as of that of the groups.
        subset : object
            Condition for the rows that are used, or None.
        missing : {"none", "raise", "drop"}
        namespace : mapping of str to object
            The caller's variables.

        Raises
        ------
        SourceError
            If rows cannot be read, or those of a group are apart and nothing sorts
            them.
        UnsupportedError
            If the formulas, or the condition, need all rows at once.
        """
        uses = formulas.uses()
        source.check_columns([key, *named])
        check_rowwise(uses, source.columns, namespace)
        check_condition(subset)
        empty = pd.DataFrame(columns=source.columns, dtype=float)
        inside = map(str, formula_columns(uses, empty, namespace))
        drop = tuple(dict.fromkeys([*inside, key, *named]))
        condition = [c for c in source.columns if c in str(subset or "")]
        columns = tuple(dict.fromkeys([*drop, *condition]))
        coded = set().union(*(use.coded for use in uses))
        wanted = {*coded, *source.level_columns, *learned} - {key, *unlearned}
        seen = survey(source, columns, key, [c for c in columns if c in wanted])
        return cls(
            source if seen.together else source.sorted_by(key),
            columns,
            key,
            seen,
            UsedRows(
                formulas.left,
                drop if missing == "drop" else (),
                None if subset is None else str(subset),
                variables_of(uses, str(subset or ""), namespace),
            ),
        )

    @cached_property
    def sample(self) -> pd.DataFrame:
        """Rows in which all that was learned occurs."""
        return self.survey.sample(self.key)

    def again(
        self,
        function: Callable[[pd.DataFrame], Result],
        merge: Callable[[Sequence[Result]], Result],
    ) -> tuple[Result, Stream]:
        """
        What a function makes of all rows, and the source with what was seen of them.

        Parameters
        ----------
        function : callable
            Of a table of whole groups.
        merge : callable
            Of some results.

        Raises
        ------
        SourceError
            If the rows have changed since.
        """
        survey = self.survey
        read = self.columns, self.key, survey.seen
        order = "" if survey.together else f", sorted by {self.key!r}"
        with _said_of_source(f"{self.source.counted}{order}"):
            found, seen = self.source.noted(function, merge, *read)
        return found, replace(self, survey=replace(survey, seen=seen))


@contextmanager
def _said_of_source(counted: str) -> Iterator[None]:
    """Let errors about new rows name the source, and say how its rows are counted."""
    try:
        yield
    except MixedARError as error:
        text = str(error).replace("the new rows", "the source")
        if counted and re.search(r"\brows? \d", text):
            text += f" (Rows are counted from 0{counted}.)"
        error.args = (text,)
        raise


class Found(NamedTuple):
    """
    What the first reading of a source has found for a formula.

    Attributes
    ----------
    stream : Stream
    design : Design
        Of a few rows in which all levels occur.
    reader : FormulaReader
    """

    stream: Stream
    design: Design
    reader: FormulaReader


@dataclass(frozen=True)
class Reading:
    """
    A formula of fixed effects, for rows that are not read yet.

    Attributes
    ----------
    source : Source
    formula : str
    key : str
        Column of the groups.
    named : mapping of str to str
        Columns of other arguments, by the name of the argument.
    subset : object
    missing : {"none", "raise", "drop"}
    namespace : mapping of str to object
        The caller's variables.
    """

    source: Source
    formula: str
    key: str
    named: Mapping[str, str]
    subset: object
    missing: str
    namespace: Mapping[str, Any]

    def read(self) -> Found:
        """Read the source once; raises as :meth:`Stream.of`."""
        check_missing(self.missing)
        time = self.named.get("time")
        stream = Stream.of(
            self.source,
            self.key,
            read_formulas(self.formula, "0", None, self.namespace),
            list(self.named.values()),
            learned=[time],
            subset=self.subset,
            missing=self.missing,
            namespace=self.namespace,
        )
        design = build_design(
            self.formula,
            stream.sample,
            groups=self.key,
            re_formula="0",
            time=time,
            eval_env=self.namespace,
            all_cells=True,
        )
        return Found(stream, design, FormulaReader(design.model_spec, stream.rows))
