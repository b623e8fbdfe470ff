"""
Residual structures and the registry that finds them by name.

``resolve("ar1")`` gives ``AR1()``; aliases from nlme, SAS and glmmTMB are
understood.
"""

from __future__ import annotations

import difflib

from mixedar.exceptions import UnsupportedError
from mixedar.residual.ar1 import AR1
from mixedar.residual.base import ResidualStructure
from mixedar.residual.car1 import CAR1
from mixedar.residual.independent import Independent
from mixedar.residual.markov import MarkovStructure

__all__ = [
    "AR1",
    "CAR1",
    "STRUCTURES",
    "Independent",
    "MarkovStructure",
    "ResidualStructure",
    "resolve",
]

STRUCTURES: dict[str, type[ResidualStructure]] = {
    cls.code: cls for cls in (Independent, AR1, CAR1)
}

_ALIASES = {
    "iid": "independent",
    "id": "independent",
    "none": "independent",
    "vc": "independent",
    "ar(1)": "ar1",
    "corar1": "ar1",
    "car(1)": "car1",
    "corcar1": "car1",
    "ou": "car1",
}


def resolve(residual: str | ResidualStructure | type | None) -> ResidualStructure:
    """
    Turn what a user passes as ``residual=`` into a structure.

    Parameters
    ----------
    residual : str, ResidualStructure, class or None
        A registry name or alias (case does not matter), an instance, a class,
        or None for independent residuals.

    Returns
    -------
    ResidualStructure

    Raises
    ------
    UnsupportedError
        If nothing of that name exists; the message lists what does.
    """
    if residual is None:
        return Independent()
    if isinstance(residual, ResidualStructure):
        return residual
    if isinstance(residual, type) and issubclass(residual, ResidualStructure):
        return residual()
    if isinstance(residual, str):
        key = residual.strip().lower()
        key = _ALIASES.get(key, key)
        if key in STRUCTURES:
            return STRUCTURES[key]()
        known = sorted(STRUCTURES)
        near = difflib.get_close_matches(key, [*known, *_ALIASES], n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise UnsupportedError(
            f"residual={residual!r} is not a residual structure{hint}; "
            f"there are {', '.join(repr(k) for k in known)}"
        )
    raise UnsupportedError(
        "residual= takes a name such as 'ar1', a structure such as AR1(0.5), or "
        f"None; got {type(residual).__name__}"
    )
