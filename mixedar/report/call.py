"""
The call that makes a fit again, as Python code.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from inspect import Parameter, signature
from typing import Any

import numpy as np

from mixedar.residual import DataLayout

_WIDTH = 76


def call_text(fit: Any) -> str:
    """
    The call that made a fit.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    str
        Python code; ``data`` stands for the caller's DataFrame, and names of
        the constructor's arguments for arrays.
    """
    fit = getattr(fit, "_results", fit)
    model = fit.model
    objects: list[Any] = []
    lines = []
    if getattr(model, "formula", None) is None:
        name, given = "MixedLMAR", _array_arguments(model)
        lines.append("from mixedar import MixedLMAR")
    else:
        name, given = "mar.mixedlm", _formula_arguments(model)
        lines.append("import mixedar.formula.api as mar")
    told = _residual_arguments(model)
    for what, value in told.items():
        given.append(f"{what}={value_text(value, what, objects)}")
    if model.re_cov != "unstructured":
        given.append(f"re_cov={model.re_cov!r}")
    lines += sorted({f"from {_home(one)} import {one.__name__}" for one in objects})
    options = [] if fit.reml else ["reml=False"]
    if fit.freepat is not None:
        options.append("free=free")
    return (
        "\n".join(lines)
        + "\n\n"
        + _laid_out(f"model = {name}", given)
        + f"fit = model.fit({', '.join(options)})"
    )


def _residual_arguments(model: Any) -> dict[str, Any]:
    """What was given for the residuals and for the choice of rows."""
    given = getattr(model, "given", None)
    if given is not None:  # the caller's own words
        return {
            what: value
            for what, value in given.items()
            if what == "residual" or not _is_default(what, value)
        }
    structure = model.residual
    if hasattr(structure, "variance"):
        return {"residual": structure.structure, "weights": structure.variance}
    return {"residual": structure}


def _is_default(what: str, value: Any) -> bool:
    return value is None or (what == "missing" and value == "none")


def _formula_arguments(model: Any) -> list[str]:
    groups = getattr(model, "groups_name", None)
    frame = getattr(model.data, "frame", None)
    given = [repr(model.formula), "data", f"groups={_column(frame, groups, 'groups')}"]
    if model.re_formula is not None:
        given.append(f"re_formula={model.re_formula!r}")
    if model.vc_formula:
        given.append(f"vc_formula={dict(model.vc_formula)!r}")
    if model.time is not None:
        given.append(f"time={_column(frame, model.time_name, 'time')}")
    if model.series is not None:
        name = getattr(model.series, "name", None)
        given.append(f"series={_column(frame, name, 'series')}")
    return given


def _column(frame: Any, name: Any, fallback: str) -> str:
    """A column's name, or the name of an array that was passed."""
    if frame is not None and (name in frame.columns or name in frame.index.names):
        return repr(name)
    return fallback


def _array_arguments(model: Any) -> list[str]:
    given = ["endog", "exog", "groups"]
    plain = (
        model.exog_re is not None
        and model.exog_re.shape[1] == 1
        and bool(np.all(model.exog_re == 1.0))
    )
    if model.exog_re is not None and not plain:
        given.append("exog_re=exog_re")
    if model.k_vc:
        given.append("exog_vc=exog_vc")
    given += [
        f"{name}={name}"
        for name in ("time", "series")
        if getattr(model, name) is not None
    ]
    return given


def value_text(value: Any, what: str, objects: list[Any]) -> str:
    """
    An argument as it is written in a call.

    Parameters
    ----------
    value : object
        A text, a number, a residual structure or a variance function; what
        else there may be goes by the argument's name.
    what : str
        The argument.
    objects : list of type
        Classes that have to be imported are added.

    Returns
    -------
    str
        A structure's code, such as ``"'ar1'"``, unless it has arguments.
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        return repr(value)
    if isinstance(value, (tuple, list)):
        inner = [value_text(one, what, objects) for one in value]
        return f"({', '.join(inner)}{',' if len(inner) == 1 else ''})"
    if isinstance(value, dict):
        pairs = [f"{k!r}: {value_text(v, what, objects)}" for k, v in value.items()]
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, type):
        objects.append(value)
        return value.__name__
    if not is_dataclass(value):
        return what
    kind = type(value)
    told = []
    filled_in = _filled_in(kind)
    for one in fields(value):
        part = getattr(value, one.name)
        if not (one.init and one.repr) or one.name in filled_in:
            continue
        if _is_spread(kind):
            told += [value_text(each, one.name, objects) for each in part]
        elif not _same(part, one.default):
            told.append(f"{one.name}={value_text(part, one.name, objects)}")
    code = getattr(value, "code", None)
    if not told and what == "residual" and isinstance(code, str):
        return repr(code)
    objects.append(kind)
    return f"{kind.__name__}({', '.join(told)})"


def _is_spread(kind: type) -> bool:
    """Whether a class takes its parts one after another, without names."""
    parameters = signature(kind).parameters.values()
    return any(one.kind is Parameter.VAR_POSITIONAL for one in parameters)


def _same(value: Any, default: Any) -> bool:
    return value is default or (
        isinstance(value, (str, bool, int, float, tuple)) and value == default
    )


def _filled_in(kind: Any) -> set[str]:
    """Fields that binding to data fills in, and nobody writes."""
    try:
        plain = kind()
        marks = len(plain.marks)
        example = DataLayout(
            np.array([6.0, 10.0]),
            3,
            16.0,
            np.tile(np.arange(3.0)[:, None], marks),
            (("a", "b", "c"),) * marks,
        )
        bound = plain.bind_layout(example)
    except (AttributeError, IndexError, TypeError, ValueError):
        return set()
    return {
        one.name
        for one in fields(plain)
        if hasattr(bound, one.name)
        and not _same(getattr(bound, one.name), getattr(plain, one.name))
    }


def _home(kind: type) -> str:
    """The module that offers a class to users."""
    own = kind.__module__.partition(".")[0] == "mixedar"
    return "mixedar.api" if own else kind.__module__


def _laid_out(function: str, given: list[str]) -> str:
    line = f"{function}({', '.join(given)})"
    if len(line) <= _WIDTH:
        return line + "\n"
    inside = "".join(f"    {one},\n" for one in given)
    return f"{function}(\n{inside})\n"
