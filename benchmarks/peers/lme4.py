"""lme4 (R): the classic for independent residuals."""

from __future__ import annotations

from benchmarks.peers.rpeer import RPeer


class LME4(RPeer):
    """``lmer`` with its default optimiser; no residual correlation."""

    name = "lme4"
    package = "lme4"


PEER = LME4()
