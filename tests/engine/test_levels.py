"""Several levels against dense matrices: values, slopes, curvatures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from mixedar.api import AR1, CompoundSymmetry, Independent
from mixedar.engine.compress import TermRows, compress
from mixedar.engine.covariance import RandomCovariance, TermLayout
from mixedar.engine.problem import LikelihoodProblem
from mixedar.residual import ResidualStructure
from tests.helpers.random_designs import slopes_of

STRUCTURES = {"ind": Independent(), "ar1": AR1(), "cs": CompoundSymmetry()}


@dataclass
class Case:
    """A problem, and the matrices behind it."""

    problem: LikelihoodProblem
    clusters: np.ndarray
    z: np.ndarray
    x: np.ndarray
    y: np.ndarray
    terms: tuple[TermRows, ...]


def make(kind: str, structure: str, reml: bool, seed: int = 0) -> Case:
    """Rows of clusters with two further terms, crossed or nested."""
    rng = np.random.default_rng(seed)
    m = 14
    sizes = rng.integers(2, 7, m)
    n = int(sizes.sum())
    clusters = np.repeat(np.arange(m), sizes)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    gaps = np.ones(n)
    gaps[offsets[:-1]] = 0.0
    slopes = np.column_stack([np.ones(n), rng.normal(size=n)])
    if kind == "crossed":
        first, second = rng.integers(0, 5, n), rng.integers(0, 3, n)
    elif kind == "nested":
        first, second = clusters // 3, clusters // 6
    else:  # one part of the clusters is crossed, the others are on their own
        first = np.where(clusters < 8, rng.integers(0, 4, n), clusters - 4)
        second = np.where(clusters < 8, rng.integers(0, 2, n), clusters - 6)
    first = np.unique(first, return_inverse=True)[1]
    second = np.unique(second, return_inverse=True)[1]
    terms = (TermRows(first, slopes), TermRows(second, np.ones((n, 1))))
    z = np.column_stack([np.ones(n), rng.normal(size=n)])
    x = np.column_stack([np.ones(n), rng.normal(size=n)])
    y = x @ [1.0, 0.5] + rng.normal(size=m)[clusters] + rng.normal(size=5)[first % 5]
    y += rng.normal(size=n)
    rows = compress(z, x, y, gaps, offsets, None, terms)
    bound = STRUCTURES[structure].bind(gaps[gaps > 0.0])
    layout = RandomCovariance.free(2, (), (TermLayout(2), TermLayout(1)))
    problem = LikelihoodProblem(rows, n, bound, layout, reml=reml)
    return Case(problem, clusters, z, x, y, terms)


def correlation(structure: ResidualStructure, size: int, u: np.ndarray) -> np.ndarray:
    """Residual correlation of `size` rows one unit apart."""
    params = structure.from_unconstrained(u)
    lag = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    if isinstance(structure, AR1):
        return params[0] ** lag
    if isinstance(structure, CompoundSymmetry):
        return np.where(lag == 0, 1.0, params[0])
    return np.eye(size)


def dense(case: Case, theta: np.ndarray) -> float:
    """The profiled log-likelihood from matrices of the size of the data."""
    problem, n = case.problem, len(case.y)
    _, u = problem.split(theta)
    root = problem.z_map @ problem.factor(theta)
    h = np.zeros((n, n))
    for i in np.unique(case.clusters):
        here = np.flatnonzero(case.clusters == i)
        zr = case.z[here] @ root
        block = correlation(problem.structure, len(here), u) + zr @ zr.T
        h[np.ix_(here, here)] = block
    for term, factor, term_map in zip(
        case.terms, problem.term_factors(theta), problem.term_maps, strict=True
    ):
        effects = term.columns @ term_map @ factor
        h += (term.codes[:, None] == term.codes) * (effects @ effects.T)
    inverse = np.linalg.inv(h)
    precision = case.x.T @ inverse @ case.x
    e = case.y - case.x @ np.linalg.solve(precision, case.x.T @ inverse @ case.y)
    df = n - 2 if problem.reml else n
    scale = e @ inverse @ e / df
    llf = np.linalg.slogdet(h)[1] + df * (1.0 + np.log(2.0 * np.pi * scale))
    if problem.reml:
        llf += np.linalg.slogdet(precision)[1]
    return -0.5 * llf


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("kind", ["crossed", "nested", "mixed"])
def test_likelihood_of_several_levels(kind: str, structure: str, reml: bool) -> None:
    case = make(kind, structure, reml)
    rng = np.random.default_rng(1)
    for singular in (False, True):
        theta = 0.5 * rng.normal(size=case.problem.k_theta)
        if singular:  # a term without variance, and a singular block
            theta[[2, 5, 6]] = 0.0
        point = case.problem.evaluate(theta, derivatives=True)
        np.testing.assert_allclose(point.llf, dense(case, theta), rtol=1e-11)
        short = case.problem.evaluate(theta, derivatives=False)
        np.testing.assert_allclose(short.llf, point.llf, rtol=1e-13)

        def value(x: np.ndarray) -> np.ndarray:
            return np.array(dense(case, x))

        def gradient(x: np.ndarray) -> np.ndarray:
            return case.problem.evaluate(x, derivatives=True).gradient

        numeric = slopes_of(value, theta)
        np.testing.assert_allclose(point.gradient, numeric, rtol=1e-5, atol=1e-5)
        numeric = slopes_of(gradient, theta)
        np.testing.assert_allclose(point.hessian, numeric, rtol=1e-5, atol=1e-5)
