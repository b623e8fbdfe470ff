"""Newton's method within a trust region, and within the ranges of parameters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from mixedar.engine.newton import newton
from mixedar.engine.problem import ThetaEvaluation

Array = NDArray[np.float64]
ENDS = np.array([[-2.0, -np.inf, -3.0], [2.0, np.inf, 3.0]])


def quadratic(top: Array, information: Array) -> Callable[[Array], ThetaEvaluation]:
    def evaluate(theta: Array) -> ThetaEvaluation:
        away = theta - top
        slope = -information @ away
        return ThetaEvaluation(float(0.5 * away @ slope), slope, -information)

    return evaluate


@pytest.mark.parametrize("top", [(0.5, 40.0, 1.0), (5.0, 1.0, 0.0), (5.0, 1.0, -4.0)])
def test_a_maximum_within_ranges(top: tuple[float, ...]) -> None:
    """What is at an end stays there, the others are the best beside it."""
    information = np.array([[2.0, 0.9, 0.5], [0.9, 1.0, -0.2], [0.5, -0.2, 1.5]])
    evaluate = quadratic(np.array(top), information)
    found = newton(evaluate, np.array([-7.0, 0.0, 2.5]), ends=ENDS)
    assert found.converged
    assert (ENDS[0] <= found.theta).all()
    assert (found.theta <= ENDS[1]).all()
    slope = evaluate(found.theta).gradient
    inside = (ENDS[0] < found.theta) & (found.theta < ENDS[1])
    np.testing.assert_allclose(slope[inside], 0.0, atol=1e-7)
    # outwards: none would gain by going back
    assert (slope * found.theta)[~inside].min(initial=1.0) > 0.0


def test_a_likelihood_that_rises_towards_an_end() -> None:
    """Beyond the end the value stays, whatever derivatives say: nothing is there."""
    seen = []

    def evaluate(theta: Array) -> ThetaEvaluation:
        a, b = min(theta[0], 8.0), theta[1]
        seen.append(theta[0])
        fall, off = np.exp(-a), b + a
        first = np.array([fall - off, -off])
        second = np.array([[-fall - 1.0, -1.0], [-1.0, -1.0]])
        return ThetaEvaluation(float(-fall - 0.5 * off**2), first, second)

    ends = np.array([[-8.0, -np.inf], [8.0, np.inf]])
    found = newton(evaluate, np.array([1.0, 3.0]), ends=ends)
    assert found.converged
    np.testing.assert_allclose(found.theta, [8.0, -8.0], atol=1e-6)
    assert max(seen) <= 8.0
    assert found.evaluations <= 10
