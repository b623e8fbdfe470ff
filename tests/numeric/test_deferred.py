"""Second derivatives that are written out when they are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from mixedar.numeric.autodiff import Deferred, Jet, concatenate, embed, variables

U = np.array([0.3, -0.7])


def written_out():
    u = variables(U)
    return np.exp(concatenate([u * u[::-1], u[:1] / u[1:]]))


def deferred():
    jet = written_out()
    return Deferred(jet.value, jet.first, jet.along)


@pytest.mark.parametrize(
    "what",
    [
        lambda x: x[np.array([2, 0, 0])],
        lambda x: x[1],
        lambda x: x * np.array([2.0, 0.0, -1.0]) + np.arange(3.0),
        lambda x: 1.0 + x,
        lambda x: np.sqrt(x) * x,
        lambda x: embed(x, 1, 4),
        lambda x: concatenate([embed(x, 1, 4), embed(variables(U[:1]), 0, 4)]),
        lambda x: x.weighted(np.array([1.0, 2.0, 3.0])),
    ],
)
def test_they_are_those_of_jets(what):
    found, expected = what(deferred()), what(written_out())
    for order in ("value", "first", "second"):
        np.testing.assert_allclose(getattr(found, order), getattr(expected, order))
    weights = np.random.default_rng(0).normal(size=expected.shape)
    plain = Jet(expected.value, expected.first, expected.second)
    np.testing.assert_allclose(found.along(weights), plain.along(weights))
    sums = (expected.second * weights).reshape(expected.k, expected.k, -1).sum(axis=2)
    np.testing.assert_allclose(found.along(weights), sums)
