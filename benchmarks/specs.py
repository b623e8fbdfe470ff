"""Models in words that every adapter can translate."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "LevelsSpec",
    "MarginalSpec",
    "ModelSpec",
    "PanelSpec",
    "RelatedSpec",
    "SmoothSpec",
]


@dataclass(frozen=True)
class ModelSpec:
    """A linear mixed model.

    Attributes
    ----------
    response : str
        Column of the response.
    fixed : tuple of str
        Columns of the fixed effects; an intercept is always added.
    groups : str
        Column that names the clusters.
    slopes : tuple of str
        Columns with a random slope; a random intercept is always added, and
        all random effects are correlated.
    time : str
        Column of the times within a cluster.
    residual : str
        ``"ar1"``, ``"car1"``, ...: the correlation of the residuals of a cluster.
    """

    response: str
    fixed: tuple[str, ...]
    groups: str
    slopes: tuple[str, ...]
    time: str
    residual: str

    @property
    def formula(self) -> str:
        """Fixed part of the formula, as statsmodels and R read it."""
        return f"{self.response} ~ {' + '.join(self.fixed)}"

    @property
    def re_formula(self) -> str:
        """Right-hand side of the random part, ``"1"`` or ``"1 + x"``."""
        return " + ".join(("1", *self.slopes))

    @property
    def lme4_formula(self) -> str:
        """The whole model without its residual structure, as lme4 reads it."""
        return f"{self.formula} + ({self.re_formula} | {self.groups})"

    @property
    def design_columns(self) -> int:
        """Columns of X and Z."""
        return len(self.fixed) + len(self.slopes) + 2


@dataclass(frozen=True)
class MarginalSpec(ModelSpec):
    """A model without random effects: the residual structure has it all.

    Attributes
    ----------
    marginal : bool
        Tells it from other models in files.
    """

    marginal: bool = True

    @property
    def re_formula(self) -> str:
        """No random effects."""
        return "0"

    @property
    def lme4_formula(self) -> str:
        """The fixed part alone."""
        return self.formula

    @property
    def design_columns(self) -> int:
        """Columns of X."""
        return len(self.fixed) + 1


@dataclass(frozen=True)
class SmoothSpec(ModelSpec):
    """A mixed model with a smooth of a covariate.

    Attributes
    ----------
    smooth : str
        As mgcv writes it, ``"s(age, by=arm, k=10)"``.
    """

    smooth: str

    @property
    def formula(self) -> str:
        """Fixed effects and the smooth, as mgcv reads them."""
        return f"{self.response} ~ {' + '.join([*self.fixed, self.smooth])}"


@dataclass(frozen=True)
class RelatedSpec(ModelSpec):
    """A mixed model with effects of related levels.

    Attributes
    ----------
    related : str
        Their term, as brms writes it; `A` is the pedigree of the data.
    """

    related: str

    @property
    def lme4_formula(self) -> str:
        """Fixed effects and the term."""
        return f"{self.formula} + {self.related}"


@dataclass(frozen=True)
class LevelsSpec(ModelSpec):
    """A mixed model with random effects of several factors.

    All factors have an intercept and the same ``slopes``, correlated with it;
    residuals are correlated within the levels of ``groups``.

    Attributes
    ----------
    others : tuple of str
        Columns of the further factors.
    nested : bool
        Whether every level of ``groups`` lies in one of each of the others.
    """

    others: tuple[str, ...]
    nested: bool = False

    @property
    def lme4_formula(self) -> str:
        """The whole model without its residual structure, as lme4 reads it."""
        factors = (self.groups, *self.others)
        bars = [f"({self.re_formula} | {factor})" for factor in factors]
        return " + ".join([self.formula, *bars])

    @property
    def design_columns(self) -> int:
        """Columns of X, and of Z as they stand in a row."""
        effects = (len(self.slopes) + 1) * (len(self.others) + 1)
        return len(self.fixed) + 1 + effects


@dataclass(frozen=True)
class PanelSpec(ModelSpec):
    """A panel regression with effects of entities, and what to do with it.

    ``groups`` are the entities, ``slopes`` is empty and ``residual`` is
    ``"independent"``.

    Attributes
    ----------
    task : str
        A key of :data:`~benchmarks.panel_problems.TASKS`.
    """

    task: str

    @property
    def design_columns(self) -> int:
        """Columns of X with its constant."""
        return len(self.fixed) + 1
