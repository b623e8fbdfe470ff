"""Import times in fresh interpreters, interleaved."""

from __future__ import annotations

import subprocess
import sys
import time

__all__ = ["STATEMENTS", "measure_imports"]

#: Label -> statement; the first is what the others are compared with.
STATEMENTS = {
    "MixedLM": "from statsmodels.regression.mixed_linear_model import MixedLM",
    "mixedar": "import mixedar",
    "mixedar.formula.api": "import mixedar.formula.api",
    "statsmodels.formula.api": "import statsmodels.formula.api",
    "bare Python": "pass",
}


def measure_imports(
    repeat: int, environment: dict[str, str]
) -> dict[str, list[float] | str]:
    """Wall seconds of ``python -c STATEMENT``, `repeat` rounds over all.

    Parameters
    ----------
    repeat : int
        Rounds; one round more comes first, unmeasured, to fill the caches.
    environment : dict
        Environment of the interpreters.

    Returns
    -------
    dict of str to list of float or str
        Seconds by label, or the last line of the error.
    """
    seconds: dict[str, list[float] | str] = {}
    for turn in range(repeat + 1):
        for label, statement in STATEMENTS.items():
            if isinstance(seconds.get(label), str):
                continue
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", statement],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            elapsed = time.perf_counter() - start
            if done.returncode:
                seconds[label] = done.stderr.strip().splitlines()[-1]
            elif turn:
                walls = seconds.setdefault(label, [])
                assert isinstance(walls, list)
                walls.append(elapsed)
    return seconds
