"""
The contract that every within-cluster residual structure fulfils.

A structure says which correlation two residuals of a series have, with its
derivatives by few parameters, and how these parameters move on the real line.
Matrices, their factors, whitening and the likelihood follow from that in
:mod:`mixedar.engine`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixedar._lazy import Question
from mixedar._types import ArrayOrJet, BoolArray, FloatArray
from mixedar.exceptions import UnsupportedError
from mixedar.numeric.autodiff import Jet, chain, concatenate, embed, variables
from mixedar.residual.states import Innovations, StateSpace

#: Scales for intervals: as it is, the logarithm, Fisher's z, or the logit.
Link = Literal["identity", "log", "correlation", "share"]


#: Methods that say which correlations a structure has.
_CORRELATIONS = frozenset({"cells", "cell_values", "correlations", "decay"})
#: Methods that say which process it is, if it is one.
_PROCESS = _CORRELATIONS | {"state_space", "natural", "from_variables"}


@dataclass(frozen=True)
class Mark:
    """
    What a structure reads of a row beside its distance in time.

    Attributes
    ----------
    kind : {"level", "number", "stratum"}
        The occasion, by its place among all occasions; a number, such as a
        coordinate; or the number of a category.
    column : str or None
        The column of the data; None stands for the time variable.
    """

    kind: Literal["level", "number", "stratum"]
    column: str | None


@dataclass(frozen=True)
class DataLayout:
    """
    What a structure learns of the data before the search begins.

    Attributes
    ----------
    gaps : ndarray
        Distances between neighbouring times of a series, all series together.
    longest : int
        Rows of the longest series.
    span : float
        Longest distance of two times of a series.
    marks : ndarray, shape (n, c)
        Values of the structure's :attr:`~ResidualStructure.marks`.
    labels : tuple of (tuple of str or None)
        For each mark the names of its levels or strata, None for numbers.
    starts : ndarray of int, shape (m,)
        First row of each series, in the order of `marks`.
    """

    gaps: FloatArray
    longest: int
    span: float
    marks: FloatArray
    labels: tuple[tuple[str, ...] | None, ...]
    starts: tuple[int, ...] | NDArray[np.intp] = (0,)

    def part(self, which: slice) -> DataLayout:
        """The layout as one sees it who reads some of the marks only."""
        return replace(self, marks=self.marks[:, which], labels=self.labels[which])


def check_number(name: str, argument: str, value: object) -> float:
    """Return a user's argument as a number, or raise."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise UnsupportedError(f"{name}: {argument}={value!r} is not a number")
    return float(value)


def is_whole(value: object) -> bool:
    """Whether a user's argument is a whole number."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


class Parametric(ABC):
    """
    Parameters as users read them, and on the real line where the search moves.

    Attributes
    ----------
    code : str
        The name by which the registry finds it, such as ``"ar1"``.
    label : str
        The name that summaries print.
    param_names : tuple of str
        Names of the parameters, on the scale that users read.
    fixed : bool
        Whether the parameters are held at their starting values.
    link : {"identity", "log", "correlation", "share"}
        Scale on which they are roughly normal, if it is the same for all.
    limit : float
        Beyond plus and minus this unconstrained value parameters stay what they are.
    """

    code: ClassVar[str]
    label: ClassVar[str]
    param_names: ClassVar[tuple[str, ...]]
    fixed: bool = False
    link: ClassVar[Link] = "identity"
    limit: ClassVar[float] = np.inf

    @property
    def links(self) -> tuple[Link, ...]:
        """
        Scale on which each parameter is roughly normal.

        Where a parameter depends on several unconstrained ones, an interval
        cannot run along one of them.
        """
        return (self.link,) * self.k_params

    @property
    def k_params(self) -> int:
        """Number of parameters."""
        return len(self.param_names)

    @property
    def k_free(self) -> int:
        """Number of parameters to be estimated."""
        return 0 if self.fixed else self.k_params

    @property
    def held(self) -> FloatArray:
        """Values of the parameters if they are fixed, shape (k_params,)."""
        if self.k_params:
            raise TypeError(f"{type(self).__name__} cannot be held fixed")
        return np.empty(0)

    @abstractmethod
    def start_grid(self) -> Sequence[FloatArray]:
        """
        Unconstrained starting values: the best guess first, then others.

        Returns
        -------
        list of ndarray, each of shape (k_free,)
        """

    @abstractmethod
    def to_unconstrained(self, params: ArrayLike) -> FloatArray:
        """
        Map parameters to the real line, where the optimiser works.

        Parameters
        ----------
        params : array_like, shape (k_params,)

        Returns
        -------
        ndarray, shape (k_free,)
        """

    def from_unconstrained(self, u: ArrayLike) -> FloatArray:
        """
        Inverse of :meth:`to_unconstrained`; fixed parameters are filled in.

        Parameters
        ----------
        u : array_like, shape (k_free,)

        Returns
        -------
        ndarray, shape (k_params,)
        """
        u = np.asarray(u, dtype=np.float64)
        if self.k_free and type(self).natural is Parametric.natural:
            return self.from_variables(Jet.constant(u, 0)).value
        return self.natural(u).value

    def from_variables(self, u: Jet) -> Jet:
        """
        Parameters as functions of the unconstrained ones.

        It and :meth:`natural` say the same: a structure writes one of them, and the
        other follows.

        Parameters
        ----------
        u : Jet of shape (k_free,)

        Returns
        -------
        Jet of shape (k_params,)
        """
        return chain(self.natural(u.value), u)

    def natural(self, u: FloatArray) -> Jet:
        """
        Parameters on the user's scale with their derivatives by `u`.

        Parameters
        ----------
        u : ndarray, shape (k_free,) or, of several points, (k_free, ...)

        Returns
        -------
        Jet of shape (k_params,) or (k_params, ...)
        """
        if self.k_free == 0:
            u = np.asarray(u)
            held = self.held.reshape(-1, *(1,) * (u.ndim - 1))
            return Jet.constant(held + np.zeros(u.shape[1:]), 0)
        return self.from_variables(variables(np.asarray(u, dtype=np.float64)))

    @property
    def is_free(self) -> BoolArray:
        """
        Which parameters are estimated, shape (k_params,).

        Unconstrained ones stand in their order.
        """
        return np.full(self.k_params, self.k_free > 0)

    @property
    def ends(self) -> FloatArray:
        """
        Unconstrained values beyond which parameters stay what they are.

        Returns
        -------
        ndarray, shape (2, k_free)
            The lowest and the highest, infinite where there is none.
        """
        return np.outer([-self.limit, self.limit], np.ones(self.k_free))

    def at_end(self, params: ArrayLike) -> BoolArray:
        """
        Which parameters lie at an end of their range, shape (k_params,).

        A structure writes this, or :meth:`at_boundary` for all of them together.
        """
        if type(self).at_boundary is Parametric.at_boundary:
            return np.zeros(self.k_params, dtype=bool)
        return np.full(self.k_params, self.at_boundary(params))

    def at_boundary(self, params: ArrayLike) -> bool:
        """Whether a parameter lies at an end of its range."""
        return bool(self.at_end(params).any())


class WithoutParameters(Parametric):
    """What has no parameters."""

    param_names: ClassVar[tuple[str, ...]] = ()

    def start_grid(self) -> Sequence[FloatArray]:
        return [np.empty(0)]

    def to_unconstrained(self, params: ArrayLike) -> FloatArray:
        return np.empty(0)


class Composite(Parametric):
    """Parameters of several parts, one part's after the other's."""

    @property
    @abstractmethod
    def parts(self) -> Sequence[Parametric]:
        """What has parameters of its own."""

    def places(self) -> Iterator[tuple[Parametric, slice, slice]]:
        """Each part, where its free parameters are, and where all of its own."""
        free = every = 0
        for part in self.parts:
            ends = free + part.k_free, every + part.k_params
            yield part, slice(free, ends[0]), slice(every, ends[1])
            free, every = ends

    @property
    def fixed(self) -> bool:  # type: ignore[override]
        return self.k_free == 0

    @property
    def k_free(self) -> int:
        return sum(part.k_free for part in self.parts)

    @property
    def links(self) -> tuple[Link, ...]:
        return tuple(link for part in self.parts for link in part.links)

    def start_grid(self) -> Sequence[FloatArray]:
        grids = [part.start_grid() for part in self.parts]
        first = [grid[0] for grid in grids]
        others = [
            [*first[:place], u, *first[place + 1 :]]
            for place, grid in enumerate(grids)
            for u in grid[1:]
        ]
        return [np.concatenate(point) for point in (first, *others)]

    def to_unconstrained(self, params: ArrayLike) -> FloatArray:
        params = np.asarray(params, dtype=np.float64)
        return np.concatenate(
            [part.to_unconstrained(params[own]) for part, _, own in self.places()]
        )

    def from_unconstrained(self, u: ArrayLike) -> FloatArray:
        u = np.asarray(u, dtype=np.float64)
        return np.concatenate(
            [part.from_unconstrained(u[free]) for part, free, _ in self.places()]
        )

    def natural(self, u: FloatArray) -> Jet:
        u = np.asarray(u, dtype=np.float64)
        return concatenate(
            [
                embed(part.natural(u[free]), free.start, len(u))
                for part, free, _ in self.places()
            ]
        )

    @property
    def is_free(self) -> BoolArray:
        return np.concatenate([part.is_free for part in self.parts])

    @property
    def ends(self) -> FloatArray:
        return np.concatenate([part.ends for part in self.parts], axis=1)

    def at_end(self, params: ArrayLike) -> BoolArray:
        params = np.asarray(params, dtype=np.float64)
        return np.concatenate(
            [part.is_free & part.at_end(params[own]) for part, _, own in self.places()]
        )


class Startable(Parametric):
    """Parameters that may be held, or given values from which the search starts."""

    @property
    def given(self) -> FloatArray | None:
        """Values that the user gave, shape (k_params,): arguments of their names."""
        values = [getattr(self, name) for name in self.param_names]
        return None if None in values else np.array(values, dtype=np.float64)

    @abstractmethod
    def _tried(self) -> Sequence[FloatArray]:
        """Unconstrained starting values."""

    @abstractmethod
    def _inverse(self, params: FloatArray) -> FloatArray:
        """Unconstrained parameters."""

    @property
    def held(self) -> FloatArray:
        return np.empty(0) if self.given is None else self.given

    def start_grid(self) -> Sequence[FloatArray]:
        if self.k_free == 0:
            return [np.empty(0)]
        if self.given is None:
            return self._tried()
        first = self.to_unconstrained(self.given)
        return [first, *(u for u in self._tried() if (u != first).any())]

    def to_unconstrained(self, params: ArrayLike) -> FloatArray:
        if self.k_free == 0:
            return np.empty(0)
        return self._inverse(np.atleast_1d(np.asarray(params, dtype=np.float64)))


class ResidualStructure(Parametric):
    """
    Correlation of the residuals within one series.

    Attributes
    ----------
    integer_time : bool
        Whether times have to lie on a grid of equal steps.
    counts_steps : bool
        Whether integer times count in their common step, whatever their unit.
    needs_distinct_times : bool
        Whether two observations of a series may not share their time.
    level_names : tuple of (tuple of str or None)
        For each of the marks the names of its levels or strata in the data that it
        is bound to.

    Examples
    --------
    >>> from mixedar.api import AR1, ResidualStructure, check_structure
    >>> isinstance(AR1(), ResidualStructure)
    True
    >>> check_structure(AR1(), positions=[0, 1, 3])
    AR1(rho=None, fixed=False, nugget=False, by=None, common_gap=1, typical_gap=1.5)
    """

    level_names: tuple[tuple[str, ...] | None, ...] = ()
    integer_time: ClassVar[bool] = False
    counts_steps: ClassVar[bool] = False
    needs_distinct_times: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        own = vars(cls).keys()
        # other correlations than its parent's do not pass through the parent's state
        if own & _CORRELATIONS and not own & {"n_states", "state_space"}:
            cls.n_states = 0  # type: ignore[method-assign, assignment]
        if own & _PROCESS and "innovations" not in own:
            cls.innovations = ResidualStructure.innovations  # type: ignore[method-assign]

    @property
    def uses_time(self) -> bool:
        """Whether distances in time matter; if not, times are not looked at."""
        return True

    @property
    def marks(self) -> tuple[Mark, ...]:
        """What it reads of each row beside the time."""
        return ()

    def cells(self, a: FloatArray, b: FloatArray) -> FloatArray:
        """
        What the correlation of two different rows of a series depends on.

        Parameters
        ----------
        a, b : ndarray, shape (l, 1 + c)
            Positions of the rows: time, then the marks.

        Returns
        -------
        ndarray, shape (l, f)
            The distance in time unless a structure says otherwise.
        """
        return np.abs(a[:, :1] - b[:, :1])

    @abstractmethod
    def cell_values(self, cells: FloatArray, u: FloatArray) -> Jet:
        """
        Correlations with their derivatives by the unconstrained parameters.

        Parameters
        ----------
        cells : ndarray, shape (l, f)
        u : ndarray, shape (k_free,)

        Returns
        -------
        Jet of shape (l,)
        """

    def correlations(self, cells: FloatArray, params: ArrayOrJet) -> ArrayOrJet:
        """
        Correlations by themselves, without derivatives.

        Parameters
        ----------
        cells : ndarray, shape (l, f)
        params : ndarray, shape (k_params,)

        Returns
        -------
        ndarray, shape (l,)
        """
        return self.cell_values(cells, self.to_unconstrained(params)).value

    def log_sd(self, positions: FloatArray, u: FloatArray) -> Jet | None:
        """
        Logarithm of the rows' standard deviations, relative to the first.

        Parameters
        ----------
        positions : ndarray, shape (l, 1 + c)
        u : ndarray, shape (k_free,)

        Returns
        -------
        Jet of shape (l,), or None if all rows have one variance
        """
        return None

    @property
    def n_states(self) -> int:
        """
        In how few numbers a row knows all earlier ones, 0 if that takes all of them.

        Where it is positive :meth:`state_space` tells the rest, and long series cost
        as much as they have rows.
        """
        return 0

    def state_space(self, cells: FloatArray, u: FloatArray) -> StateSpace:
        """
        The same correlations by a state that moves from row to row.

        Parameters
        ----------
        cells : ndarray, shape (l, f)
            Of neighbouring rows of a series.
        u : ndarray, shape (k_free,)

        Returns
        -------
        StateSpace
        """
        raise UnsupportedError(f"{self.label} residuals have no state of few numbers")

    def innovations(self, u: FloatArray) -> Innovations | None:
        """
        The same correlations, of rows one step apart, as an ARMA process has.

        Parameters
        ----------
        u : ndarray, shape (k_free,)

        Returns
        -------
        Innovations or None
            None if it is not written as one.
        """
        return None

    #: ``correlation(where, params)``: the correlation matrix of the rows of a series.
    correlation = Question("mixedar.residual.matrix", of="")

    def bind(self, gaps: FloatArray) -> ResidualStructure:
        """
        The structure adapted to the spacing of the data.

        Parameters
        ----------
        gaps : ndarray
            Distances between neighbouring times of a series, all series
            together.

        Returns
        -------
        ResidualStructure
            `self` unless the structure has a scale of its own.
        """
        return self

    def bind_layout(self, layout: DataLayout) -> ResidualStructure:
        """
        The structure adapted to all that it has to know of the data.

        Parameters
        ----------
        layout : DataLayout

        Returns
        -------
        ResidualStructure

        Raises
        ------
        MixedARError
            If the data cannot carry the structure.
        """
        return self.bind(layout.gaps)


class FormulaStructure(ResidualStructure):
    """
    A structure that is written down as a formula, in numpy's arithmetic.

    Exact derivatives follow by automatic differentiation.

    Examples
    --------
    >>> import numpy as np
    >>> from mixedar.api import FormulaStructure
    >>> class Fading(FormulaStructure):
    ...     code, label, param_names = "fading", "fading", ("rate",)
    ...     def correlations(self, cells, params):
    ...         return np.exp(-params[0] * cells[:, 0] ** 1.5)
    ...     def from_variables(self, u):
    ...         return np.exp(u)
    ...     def to_unconstrained(self, params):
    ...         return np.log(params)
    ...     def start_grid(self):
    ...         return [np.array([0.0]), np.array([-1.0])]
    >>> float(Fading().correlations(np.array([[1.0]]), [0.5])[0].round(2))
    0.61
    """

    @abstractmethod
    def correlations(self, cells: FloatArray, params: ArrayOrJet) -> ArrayOrJet:
        """
        Correlation of two different rows of a series.

        Parameters
        ----------
        cells : ndarray, shape (l, f)
            From :meth:`cells`.
        params : ndarray or Jet of shape (k_params,)

        Returns
        -------
        ndarray or Jet of shape (l,)
        """

    def cell_values(self, cells: FloatArray, u: FloatArray) -> Jet:
        params = self.natural(u)
        out = self.correlations(cells, params)
        return out if isinstance(out, Jet) else Jet.constant(out, params.k)
