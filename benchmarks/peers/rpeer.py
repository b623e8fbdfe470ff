"""Adapters whose program is an R package, run by a script beside this file."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.peers.base import Job, Peer

__all__ = ["RPeer"]

_ASK = (
    'for (p in c("nlme", "lme4", "glmmTMB", "mgcv", "plm", "collapse")) '
    "cat(p, tryCatch(as.character(packageVersion(p)), "
    'error = function(e) ""), "\\n"); '
    'cat("R", as.character(getRversion()), "\\n"); '
    'cat("R-BLAS", basename(extSoftVersion()[["BLAS"]]), "\\n")'
)


@functools.cache
def _installed() -> dict[str, str]:
    """Versions of R and the packages in question; empty without R."""
    rscript = shutil.which("Rscript")
    if rscript is None:
        return {}
    asked = subprocess.run(
        [rscript, "--vanilla", "-e", _ASK],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    pairs = (line.split(maxsplit=1) for line in asked.stdout.splitlines())
    return {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}


class RPeer(Peer):
    """An R package; the time is taken inside R, around fit and summary."""

    package: ClassVar[str]
    #: The script, in the folder of this file.
    script: ClassVar[str] = "fit.R"
    #: Packages that the program stands on, for the versions.
    stands_on: ClassVar[tuple[str, ...]] = ()
    needs_csv = True

    def missing(self) -> str | None:
        """Why the package cannot run here, or None."""
        if shutil.which("Rscript") is None:
            return "Rscript is not on the PATH"
        if self.package not in _installed():
            return f"the R package {self.package} is not installed"
        return None

    def versions(self) -> dict[str, str]:
        """Versions of the package, of R and of the BLAS that R uses."""
        found = _installed()
        wanted = (self.package, *self.stands_on, "R", "R-BLAS")
        return {name: found[name] for name in wanted if name in found}

    def arguments(self, job: Job) -> dict[str, object]:
        """What the script is told of the model."""
        model = job.facts.model
        return {
            "random": model.re_formula,
            "others": " ".join(getattr(model, "others", ())),
            "residual": model.residual,
            "responses": job.facts.responses,
            "refit_seconds": job.refit_seconds,
        }

    def command(self, job: Job) -> list[str]:
        """``Rscript`` with the job as ``key=value`` arguments."""
        model = job.facts.model
        arguments = {
            "package": self.package,
            "folder": job.folder,
            "out": job.out,
            "formula": model.formula,
            "groups": model.groups,
            "time": model.time,
            "response": model.response,
            "at_least": job.at_least,
            **self.arguments(job),
        }
        rscript = shutil.which("Rscript") or "Rscript"
        script = Path(__file__).with_name(self.script)
        pairs = [f"{key}={value}" for key, value in arguments.items()]
        return [rscript, "--vanilla", str(script), *pairs]

    def read(self, job: Job) -> dict[str, Any]:
        """The tab-separated lines that the script wrote."""
        result: dict[str, Any] = {}
        for line in job.out.read_text().splitlines():
            key, *values = line.split("\t")
            if key == "note":
                result[key] = values[0]
                continue
            numbers = [None if v in ("NA", "NaN") else float(v) for v in values]
            if key in ("params", "bse"):
                # A single NA: a test, which has no coefficients to show.
                result[key] = [] if numbers == [None] else numbers
            else:
                result[key] = numbers[0]
        for key in ("fits", "failed", "peak_bytes"):
            result[key] = int(result[key])
        return result
