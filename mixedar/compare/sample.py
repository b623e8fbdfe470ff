"""
Which fits may stand side by side, and which of their likelihoods.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mixedar.compare.record import FitRecord, Likelihood, Sample
from mixedar.exceptions import UnsupportedError, shown
from mixedar.panel.checks import listing

_REMEDY = (
    "Fit all models to the same rows (a missing value in a regressor of one model "
    "drops a row from that model only), or pass allow_different_samples=True"
)


class SampleMismatchError(UnsupportedError):
    """Fits differ in rows or response.  Fit all of them to the same rows."""


def sample_classes(
    records: Mapping[str, FitRecord], allow: bool
) -> tuple[list[int], list[str]]:
    """
    Number the different samples.

    Parameters
    ----------
    records : mapping of str to FitRecord
    allow : bool
        Tolerate differences.

    Returns
    -------
    classes : list of int
        Number of the sample of each fit, from 0.
    notes : list of str
        What differs.

    Raises
    ------
    SampleMismatchError
        If they differ and that is not allowed.
    """
    names = list(records)
    samples = [record.sample for record in records.values()]
    classes: list[int] = []
    firsts: list[int] = []
    notes = []
    for k, sample in enumerate(samples):
        found = next((c for c, f in enumerate(firsts) if _same(samples[f], sample)), -1)
        if found < 0:
            found = len(firsts)
            firsts.append(k)
            if k:
                message = _difference(names[0], samples[0], names[k], sample)
                if not allow:
                    raise SampleMismatchError(
                        f"compare: mismatch: {message}. {_REMEDY}"
                    )
                notes.append(f"Different samples: {message}.")
        classes.append(found)
    return classes, notes


def _same(a: Sample, b: Sample) -> bool:
    if a.size != b.size:
        return False
    if a.y is None or b.y is None:
        return a.name == b.name
    size = float(np.abs(a.y).max(initial=0.0))
    return bool(np.allclose(a.y, b.y, rtol=1e-9, atol=1e-12 * size))


def _difference(name: str, a: Sample, other: str, b: Sample) -> str:
    """Say in what two samples differ."""
    if a.name != b.name:
        sizes = "" if a.size == b.size else f", with {a.size} and {b.size} rows"
        return (
            f"{name!r} has the response {a.name!r} and {other!r} the response "
            f"{b.name!r}{sizes}"
        )
    text = f"{name!r} has {a.size} rows and {other!r} {b.size}"
    if a.size == b.size:
        text = f"{name!r} and {other!r} have {a.size} different rows of {a.name!r}"
    if a.index is None or b.index is None or a.index.nlevels != b.index.nlevels:
        return text
    for one, left, right in ((name, a.index, b.index), (other, b.index, a.index)):
        only = left[~left.isin(right)]
        if 0 < len(only) < len(left):
            plural = "s" if len(only) > 1 else ""
            labels = listing([shown(label) for label in only[:6]])
            return f"{text}; row{plural} {labels} only in {one!r}"
    return text


def comparable(
    records: Mapping[str, FitRecord], classes: list[int]
) -> tuple[list[str], list[str]]:
    """
    Choose the likelihoods that may be compared with one another.

    They belong to the same response and rows, and are either all likelihoods or
    all restricted likelihoods of models with the same coefficients.  Of several
    such sets the largest is chosen.

    Parameters
    ----------
    records : mapping of str to FitRecord
    classes : list of int
        From :func:`sample_classes`.

    Returns
    -------
    names : list of str
        The fits of which log-likelihood, AIC and BIC are shown.
    notes : list of str
    """
    sets: list[list[str]] = []
    kinds: dict[str, tuple[int, Likelihood]] = {}
    for (name, record), sample in zip(records.items(), classes, strict=True):
        if record.likelihood is None:
            continue
        kinds[name] = (sample, record.likelihood)
        home = next((s for s in sets if _match(kinds[s[0]], kinds[name])), None)
        if home is None:
            sets.append([name])
        else:
            home.append(name)
    if not sets:
        return [], []
    # of sets of one size, likelihoods go before restricted ones
    best = max(sets, key=lambda s: (len(s), kinds[s[0]][1].kind == "ML"))
    left = [s for s in sets if s is not best]
    others = [s[0] for s in left]
    if len(best) < 2 and len(records) > 1:
        note = (
            f"Of these fits only {best[0]} has a likelihood of the response: there is "
            "none to compare it with."
        )
        if others:
            reasons = "; ".join(_reasons(kinds, best[0], others))
            note = f"Log-likelihood, AIC and BIC are not shown: {reasons}."
        return [], [note]
    if not left:
        return best, []
    out = listing([name for s in left for name in s])
    reasons = "; ".join(_reasons(kinds, best[0], others))
    return best, [f"Log-likelihood, AIC and BIC of {out} are left out: {reasons}."]


def _match(a: tuple[int, Likelihood], b: tuple[int, Likelihood]) -> bool:
    if a[0] != b[0] or a[1].kind != b[1].kind:
        return False
    return a[1].kind == "ML" or a[1].same_design(b[1])


def _reasons(
    kinds: Mapping[str, tuple[int, Likelihood]], best: str, others: list[str]
) -> list[str]:
    found = []
    sample, likelihood = kinds[best]
    for name in others:
        there, other = kinds[name]
        if there != sample:
            found.append("likelihoods of different data cannot be compared")
        elif other.kind != likelihood.kind:
            found.append(
                "a restricted likelihood (REML) cannot be compared with a likelihood "
                "(refit with reml=False)"
            )
        else:
            found.append(
                "restricted likelihoods (REML) of models with different fixed effects "
                "cannot be compared (refit with reml=False)"
            )
    return list(dict.fromkeys(found))
