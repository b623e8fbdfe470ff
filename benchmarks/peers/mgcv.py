"""mgcv (R): the reference for smooths, with the correlations of nlme."""

from __future__ import annotations

from benchmarks.peers.rpeer import RPeer


class MGCV(RPeer):
    """``gamm`` with ``corAR1``, by REML."""

    name = "mgcv"
    package = "mgcv"
    residuals = ("ar1",)


PEER = MGCV()
