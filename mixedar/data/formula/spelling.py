"""
How formulas of other programs are written here: what error messages say of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from mixedar.data.rows import near_matches

_QUOTED = re.compile(r"`[^`]*`|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'")
_NUMPY = "log log2 log10 log1p exp expm1 sqrt abs sin cos tan floor ceil"
_SHIFTED = {
    "lag": ".shift(1)",
    "L": ".shift(1)",
    "lead": ".shift(-1)",
    "F": ".shift(-1)",
    "diff": ".diff()",
    "D": ".diff()",
}
# What to write for a call; {x} is its first argument, {all} are all of them.
_CALLS = {
    **dict.fromkeys(_NUMPY.split(), "np.{name}({all}), after import numpy as np"),
    **dict.fromkeys(("factor", "ordered", "dummy", "i"), "C({x})"),
    "poly": "{x} + I({x}**2), or bs({x}, df=4)",
    **dict.fromkeys(
        ("ns", "rcs", "s", "te"),
        "cr({x}, df=4, constraints='center'), a natural spline, or bs({x}, df=5)",
    ),
    "relevel": "C({x}, Treatment('the reference'))",
    "ifelse": "np.where({all}), after import numpy as np",
    "cut": "C(bin), after data['bin'] = pandas.cut(data['{x}'], 3)",
    "offset": "nothing, and pass offset= to mixedlm, or subtract it from the response, "
    "as in I(y - {x}) ~ ...",
    "interaction": "the names with : between them, as in a:b",
    **dict.fromkeys(
        ("re", "random", "ranef"), "(1 | g) for random intercepts of g, in mixedlm"
    ),
    **dict.fromkeys(
        ("ar1", "corAR1", "us", "cs"), "nothing, and pass residual= to mixedlm"
    ),
}
_NAMES = {
    "EntityEffects": "nothing, and pass entity= and effects='entity' to fixed_effects",
    "TimeEffects": "nothing, and pass effects='time' to fixed_effects, or 'twoways'",
    "FixedEffects": "nothing, and pass entity= and effects='entity' to fixed_effects",
    "contr": "Sum, Treatment, Helmert or Poly, as in C(a, Sum)",
    "np": "import numpy as np above the call, or pass eval_env={'np': numpy}",
    "pd": "import pandas as pd above the call, or pass eval_env={'pd': pandas}",
}
# What a formula that the engine cannot read may have meant.
_PATTERNS = (
    (r"\bas\.(factor|ordered|character)\(", "C(x) for as.factor(x)"),
    (r"\bas\.\w+\(", "x for as.numeric(x), after pandas.to_numeric(data['x'])"),
    (r"\bib?\w*\.\w", "C(t) for i.t, C(t, Treatment(2)) for ib2.t"),
    (r"#", "a:b for a#b, a*b for a##b, C(t) for i.t and x for c.x"),
    (r"%in%", "b:a for a %in% b"),
    (r"\^", "** for powers, as in I(x**2) or (a + b)**2"),
    (r"(^|[\s~+])\.($|\s)", "the names of the columns, for a dot"),
)


def unknown_name(name: str, formula: str, available: Iterable[Any]) -> str:
    """Say that a name of a formula means nothing, and what it may have meant."""
    formula = formula.removeprefix("0 + ")  # as a response is written
    return (
        f"{name!r} in the formula {formula!r} is neither a column of the data nor a "
        f"variable.{_spelled_here(name, formula) or near_matches(name, available)}"
    )


def _spelled_here(name: str, formula: str) -> str:
    """A sentence that says what to write for an unknown name; may be empty."""
    prefix = name.split(".")[0]
    dotted = re.search(rf"(?<![\w.]){re.escape(prefix)}\.(\w+)", formula)
    stata = re.fullmatch(r"(L|F|D|lag|lead|diff)(\d*)", prefix)
    first, everything = _arguments(prefix, formula)
    found = ""
    if stata and (dotted or first):
        column = dotted[1] if dotted and not first else first
        steps = stata[2] or "".join(re.findall(r",\s*(\d+)$", everything)) or "1"
        change = _SHIFTED[stata[1]].replace("1", steps)
        found = (
            f"a column that is made before: data['{column}_{stata[1]}'] = "
            f"data.groupby('id')['{column}']{change}, of rows in the order of time"
        )
    elif dotted and re.fullmatch(r"ib?(\d*|n)", prefix):
        base = prefix.strip("ibn")
        found = f"C({dotted[1]}, Treatment({base}))" if base else f"C({dotted[1]})"
    elif dotted and prefix == "c":
        found = dotted[1]
    elif first and prefix in _CALLS:
        found = _CALLS[prefix].format(x=first, all=everything, name=prefix)
    elif prefix in _NAMES:
        found = _NAMES[prefix]
    return f" Here write {found}." if found else ""


def spelled_in_patterns(formula: str) -> str:
    """A sentence on signs of other programs in a formula; may be empty."""
    if "`" in formula:
        return " Here write Q('a name') for `a name`."
    text = _QUOTED.sub("", formula)
    found = next((here for sign, here in _PATTERNS if re.search(sign, text)), "")
    return f" Here write {found}." if found else ""


def bar_message(what: str, formula: str) -> str:
    """What a formula with a bar outside of brackets may have meant."""
    group = re.sub(r"\W.*", "", formula.rpartition("|")[2].strip()) or "g"
    return (
        f"{what}: the formula {formula!r} has a bar. The groups are named by "
        f"groups={group!r}; random effects of mixedlm are a term in brackets, "
        f"+ (1 | {group}), or re_formula='~t'; fixed effects of a panel are not "
        f"written, entity={group!r} and effects='entity' take them out (inside I() a "
        "bar is Python's 'or')"
    )


def _arguments(name: str, formula: str) -> tuple[str, str]:
    """The first argument of a call, and all of them as they are written."""
    match = re.search(rf"(?<![\w.]){re.escape(name)}\(", formula)
    if match is None:
        return "", ""
    depth, first = 1, None
    for k in range(match.end(), len(formula)):
        depth += (formula[k] in "([{") - (formula[k] in ")]}")
        if formula[k] == "," and depth == 1 and first is None:
            first = formula[match.end() : k]
        if depth == 0:
            everything = formula[match.end() : k]
            return (first or everything).strip(), everything.strip()
    return "", ""
