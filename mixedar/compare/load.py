"""
Fits that were saved, read again.
"""

from __future__ import annotations

import pickle
from os import PathLike
from typing import Any

from mixedar._lazy import with_near_names
from mixedar.exceptions import UnsupportedError


@with_near_names
def load(path: str | PathLike[str]) -> Any:
    """
    Read a fit that was saved.

    Parameters
    ----------
    path : str or path
        A file that ``fit.save(path)`` or ``pickle`` wrote.  Loading a pickle can run
        any code: load none that comes from people you do not trust.

    Returns
    -------
    results or model
        What was saved.

    Raises
    ------
    UnsupportedError
        If the file holds no pickle, or nothing of this package.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="occ")
    >>> fit = model.fit()
    >>> fit.save("teeth.pickle")
    >>> mar.load("teeth.pickle").llf == fit.llf
    True
    """
    with open(path, "rb") as file:
        try:
            found = pickle.load(file)
        except (pickle.UnpicklingError, EOFError, ImportError, AttributeError) as error:
            raise UnsupportedError(
                f"load: {str(path)!r} cannot be read ({error}); it is no pickle, or "
                "was written by a version of the package that has other names"
            ) from error
    if type(found).__module__.partition(".")[0] != "mixedar":
        raise UnsupportedError(
            f"load: {str(path)!r} holds an object of type {type(found).__name__}, no "
            "fit of this package"
        )
    return found
