"""glmmTMB (R): AR(1) as one more random effect, residual variance zero."""

from __future__ import annotations

from benchmarks.peers.base import Facts
from benchmarks.peers.rpeer import RPeer


class GlmmTMB(RPeer):
    """``ar1(0 + factor(time) | id)`` with ``dispformula = ~0``.

    glmmTMB's own vignette describes this as the way to a residual AR(1); the
    AR(1) variance then stands in for the residual variance.  So does the
    covariance of ``us(0 + factor(time) | id)``, which is unstructured.
    """

    name = "glmmTMB"
    package = "glmmTMB"
    residuals = ("ar1", "un")

    def refuse(self, facts: Facts) -> str | None:
        """Irregular times: a dense covariance matrix over all distinct times."""
        if facts.model.residual == "car1":
            return "needs a dense covariance over all distinct times"
        if facts.model.residual == "arma11":
            return "has no ARMA(1,1)"
        return None


PEER = GlmmTMB()
