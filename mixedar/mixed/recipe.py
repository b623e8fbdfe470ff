"""
How a model was written, to write it again: for other rows, with other residuals.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixedar._types import Unchanged
from mixedar.data.elsewhere import check_weights
from mixedar.data.formula import capture_namespace
from mixedar.data.formula.spec import dump_variable, load_variable
from mixedar.data.model_data import ModelData
from mixedar.data.residual_model import (
    ResidualModel,
    as_columns,
    default_residual,
    residual_from_arrays,
    residual_from_names,
)
from mixedar.data.rows import resolve
from mixedar.engine.residuals import variance_of
from mixedar.exceptions import UnsupportedError
from mixedar.residual import ResidualStructure, combine

# Arguments with one value a row: of other rows they are known by name only.
_BY_ROW = ("groups", "time", "series", "offset", "weights")


@dataclass(frozen=True)
class Recipe:
    """
    How a model was written, to write it again for other rows.

    Attributes
    ----------
    options : mapping of str to Any
        Arguments of ``from_formula``, but for the data and which of its rows.
    words : frozenset of str
        Names in its formulas and arguments.
    namespace : mapping of str to Any
        The caller's variables among them.
    """

    options: Mapping[str, Any]
    words: frozenset[str]
    namespace: Mapping[str, Any]

    @classmethod
    def of(cls, namespace: Mapping[str, Any], **options: Any) -> Recipe:
        """That of a model from a formula, with the caller's variables."""
        components = (options["vc_formula"] or {}).values()
        residual = default_residual(options["residual"], options["time"])
        formulas = residual_from_names(residual, options["weights"]).formulas
        texts = [options["formula"], options["re_formula"], *components, *formulas]
        columns = [v for v in map(options.get, _BY_ROW) if isinstance(v, str)]
        texts = [text for text in [*texts, *columns] if text]
        words = frozenset(re.findall(r"[^\W\d]\w*", " ".join(texts)))
        used = {name: namespace[name] for name in words if name in namespace}
        return cls(options, words | set(columns), used)

    def changed(self, namespace: Mapping[str, Any], **options: Any) -> Recipe:
        """The recipe with other options, whose variables the caller has now."""
        known = {**namespace, **self.namespace}
        return self.of(known, **{**self.options, **options})

    def arguments(self) -> dict[str, Any]:
        """
        Arguments of ``from_formula`` for the rows of another frame.

        Raises
        ------
        UnsupportedError
            If some are arrays of the model's own rows.
        """
        for name in _BY_ROW:
            given = self.options[name]
            if np.ndim(given) and not isinstance(given, (list, tuple)):
                raise UnsupportedError(
                    f"{name}= of the model is an array of its own rows, which says "
                    "nothing of other rows: make it a column of the data, and name it"
                )
        return {**self.options, "eval_env": self.namespace}

    def __getstate__(self) -> dict[str, Any]:
        stored = {name: dump_variable(v) for name, v in self.namespace.items()}
        return {"options": self.options, "words": self.words, "stored": stored}

    def __setstate__(self, state: dict[str, Any]) -> None:
        formula = str(state["options"]["formula"])
        namespace = {}
        for name, content in state["stored"].items():
            if not content:
                continue
            with suppress(UnsupportedError):  # said where it is missed
                namespace[name] = load_variable(name, content, formula)
        kept = {name: state[name] for name in ("options", "words")}
        self.__dict__.update(kept, namespace=namespace)


def residual_for(
    arrays: ModelData,
    residual: str | type | ResidualStructure | None,
    weights: object,
    residual_data: object,
) -> ResidualModel:
    """Another structure for the rows of a model, and the columns that it reads."""
    kept, columns, specs = None, dict(arrays.residual_data), {}
    if isinstance(weights, Unchanged):
        weights = None
        if arrays.weighted:
            # its formulas are columns already
            kept, specs = variance_of(arrays.residual), dict(arrays.variance_specs)
    frame = arrays.frame
    if frame is None or residual_data is not None:
        data = columns
        if residual_data is not None:
            data = {**columns, **as_columns(residual_data)}
        found = residual_from_arrays(residual, weights, data, arrays.nobs, arrays.index)
    else:
        check_weights(weights, frame)
        wanted, namespace = residual_from_names(residual, weights), capture_namespace()
        values = {
            name: resolve("residual= or weights", column, frame).values
            for name, column in wanted.needed(frame.columns, namespace).items()
        }
        found = wanted.evaluated(frame, values, namespace)
    if kept is None:
        return found
    read = {mark.column for mark in kept.marks}
    columns = {name: values for name, values in columns.items() if name in read}
    structure = combine(found.structure, kept)
    return ResidualModel(structure, {**columns, **found.columns}, (), specs)
