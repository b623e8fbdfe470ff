"""
Tensor products, and smooths of each level of a factor, as fixed and random effects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from mixedar._types import BoolArray, FloatArray
from mixedar.numeric.autodiff import Jet, clip
from mixedar.relations.base import LevelCovariance
from mixedar.residual.base import Link
from mixedar.smooths.basis import Basis, Split, learn, penalised, sums_to_zero

# Bases whose coefficients are no values of the function, in tensor products turned to
# such as are.
_TURNED = ("ps", "tp")
_LARGEST = 23.0  # of the logarithm of a ratio of smoothing parameters


class Margin(Basis):
    """
    One of the bases of a tensor product: combinations of the functions of another.

    Parameters
    ----------
    basis : Basis
    turn : ndarray, shape (k, l)
    """

    def __init__(self, basis: Basis, turn: FloatArray) -> None:
        self._basis, self._turn = basis, turn
        self.penalty = np.asarray(turn.T @ basis.penalty @ turn)

    @classmethod
    def learned(
        cls, x: FloatArray, bs: str, k: int, label: str, *, centred: bool = False
    ) -> Margin:
        """
        A margin for data.

        What is penalised along one covariate depends on the coefficients along the
        other: they are values of the function, of P-splines and thin plate splines at
        evenly spaced places (Wood, 2006).

        Parameters
        ----------
        x : ndarray, shape (n, 1)
        bs : str
        k : int
        label : str
            For messages.
        centred : bool
            Whether its functions sum to zero over the rows.

        Raises
        ------
        UnsupportedError
            If there are too few distinct values, or `k` is too small.

        References
        ----------
        Wood, S. N. (2006), Low-rank scale-invariant tensor product smooths for
        generalized additive mixed models, Biometrics 62, 1025-1036.
        """
        basis = learn(x, bs, k, label)
        turn = sums_to_zero(basis.own_columns(x), centred)
        if bs in _TURNED:
            places = np.linspace(x.min(), x.max(), turn.shape[1])[:, None]
            turn = turn @ np.linalg.inv(basis.columns(places) @ turn)
        return cls(basis, turn)

    def columns(self, x: FloatArray) -> FloatArray:
        """See :class:`Basis`."""
        return np.asarray(self._basis.columns(x) @ self._turn)


class TensorProduct(Basis):
    """
    Products of the functions of two bases (mgcv's ``te``; ``ti`` of centred ones).

    Attributes
    ----------
    penalties : tuple of ndarray, each of shape (k, k)
        Along each covariate.
    """

    def __init__(self, parts: Sequence[Basis]) -> None:
        self._parts = tuple(parts)
        sizes = [len(part.penalty) for part in parts]
        out = []
        for at, part in enumerate(parts):
            own = part.penalty / np.linalg.eigvalsh(part.penalty)[-1]
            before = int(np.prod(sizes[:at], dtype=int))
            after = int(np.prod(sizes[at + 1 :], dtype=int))
            out.append(np.kron(np.kron(np.eye(before), own), np.eye(after)))
        self.penalties = tuple(out)
        self.penalty = np.asarray(out[0] + out[1], dtype=np.float64)

    def columns(self, x: FloatArray) -> FloatArray:
        """See :class:`Basis`."""
        first, *others = (part.columns(x[:, [k]]) for k, part in enumerate(self._parts))
        for other in others:
            first = (first[:, :, None] * other[:, None, :]).reshape(len(x), -1)
        return first


class PenaltyBalance(LevelCovariance):
    """
    ``K = (S_1 + ratio S_2)^-1``: how much more one direction is penalised.

    Parameters
    ----------
    first, second : ndarray, shape (k, k)
        Penalties along the two covariates; their sum has an inverse.
    """

    param_names: ClassVar[tuple[str, ...]] = ("ratio",)
    link: ClassVar[Link] = "log"

    def __init__(self, first: FloatArray, second: FloatArray) -> None:
        self._first, self._second = first, second

    @property
    def n_levels(self) -> int:
        """See :class:`LevelCovariance`."""
        return len(self._first)

    def start_grid(self) -> Sequence[FloatArray]:
        """See :class:`Parametric`."""
        return [np.array([t]) for t in (0.0, 3.0, -3.0)]

    def to_unconstrained(self, params: ArrayLike) -> FloatArray:
        """See :class:`Parametric`."""
        return np.log(np.asarray(params, dtype=np.float64))

    def from_variables(self, u: Jet) -> Jet:
        """See :class:`Parametric`."""
        return np.exp(clip(u, -_LARGEST - 1.0, _LARGEST + 1.0))

    def at_end(self, params: ArrayLike) -> BoolArray:
        """See :class:`Parametric`."""
        logs = np.log(np.asarray(params, dtype=np.float64))
        return np.asarray(np.abs(logs) > _LARGEST)

    def matrix(self, u: FloatArray) -> Jet:
        """See :class:`LevelCovariance`."""
        ratio = float(np.exp(np.clip(u[0], -_LARGEST - 1.0, _LARGEST + 1.0)))
        slope = ratio * self._second
        k = np.linalg.inv(self._first + slope)
        k = (k + k.T) / 2.0
        first = -k @ slope @ k
        second = first + 2.0 * k @ slope @ k @ slope @ k
        return Jet(k, first[None], second[None, None])


def tensor_split(
    basis: TensorProduct, columns: FloatArray, *, centred: bool = True
) -> tuple[Split, PenaltyBalance]:
    """
    Fixed and random parts of a tensor product, and how the latter are related.

    Parameters
    ----------
    basis : TensorProduct
    columns : ndarray, shape (n, k)
        Its columns for the data.
    centred : bool
        Whether the function sums to zero over the rows.

    Returns
    -------
    Split
    PenaltyBalance
    """
    seen, _, free = penalised(basis.penalty, sums_to_zero(columns, centred))
    random = seen / np.sqrt(((columns @ seen) ** 2).sum(axis=1).mean())
    first, second = (random.T @ penalty @ random for penalty in basis.penalties)
    return Split(basis, free, random), PenaltyBalance(first, second)


@dataclass(frozen=True, eq=False)
class LevelSplit:
    """
    Parts of a smooth that each level of a factor has for itself.

    Attributes
    ----------
    basis : Basis
    maps : tuple of ndarray, each of shape (k, r)
        To columns with a variance of their own: what the penalty sees, then a constant
        and a line.
    names : tuple of str
    """

    basis: Basis
    maps: tuple[FloatArray, ...]
    names: tuple[str, ...]

    def columns(self, x: FloatArray, part: int) -> FloatArray:
        """Columns of a part, shape (n, r)."""
        return np.asarray(self.basis.columns(x) @ self.maps[part])


def level_split(basis: Basis, columns: FloatArray) -> LevelSplit:
    """
    A smooth of each level: its wiggly part, and each function the penalty does not see.

    All are orthogonal over the rows.  Of what the penalty does not see the constant
    comes first; mgcv's ``"fs"`` takes a rotation of constant and line that depends on
    rounding, and so do its variances.

    Parameters
    ----------
    basis : Basis
    columns : ndarray, shape (n, k)
        Its columns for the data.

    Returns
    -------
    LevelSplit
    """
    back = np.linalg.inv(np.linalg.qr(columns, mode="r"))
    wiggly, values, plain = penalised(basis.penalty, back)
    wiggly = wiggly / np.sqrt(values)
    wiggly = wiggly / np.sqrt(((columns @ wiggly) ** 2).mean())
    seen = columns @ plain
    ones = np.ones((len(columns), 1))
    constant = np.asarray(np.linalg.lstsq(seen, ones, rcond=None)[0], dtype=np.float64)
    rest = []
    count = plain.shape[1] - 1
    if count:
        along = seen - seen.mean(axis=0)
        _, _, right = np.linalg.svd(along, full_matrices=False)
        rest = [
            _centred(plain, seen, right[k][:, None], constant) for k in range(count)
        ]
    names = ("", "constant", *(("line",) if count == 1 else map(str, range(count))))
    return LevelSplit(basis, (wiggly, plain @ constant, *rest), names)


def _centred(
    plain: FloatArray, seen: FloatArray, weights: FloatArray, constant: FloatArray
) -> FloatArray:
    """A combination with mean zero and unit mean square over the rows."""
    values = seen @ weights
    weights = weights - float(values.mean()) * constant
    size = float(np.sqrt(((seen @ weights) ** 2).mean()))
    return np.asarray(plain @ weights / size)
