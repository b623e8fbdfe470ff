"""One adapter module per rival; the order is the order of the report."""

from __future__ import annotations

from benchmarks.peers import (
    glmmtmb,
    interlace_lme,
    lme4,
    mixedar,
    mixedlm,
    mixedlm_rs,
    nlme,
    statsmodels_mixedlm,
)
from benchmarks.peers.base import Peer

__all__ = ["PEERS"]

PEERS: dict[str, Peer] = {
    module.PEER.name: module.PEER
    for module in (
        mixedar,
        nlme,
        glmmtmb,
        interlace_lme,
        lme4,
        mixedlm_rs,
        mixedlm,
        statsmodels_mixedlm,
    )
}
