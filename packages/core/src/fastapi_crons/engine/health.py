"""Health: whether a scheduler does its work, and what an operator should look at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from fastapi_crons._util.part import Finding

Status = Literal["ok", "degraded", "unhealthy"]


@dataclass(frozen=True, slots=True)
class Health:
    """How a scheduler is. `unhealthy`: it does not do its work; `degraded`: it does, and something is to be looked at."""

    status: Status
    findings: tuple[str, ...] = ()
    """One sentence each; without secrets."""
    summaries: tuple[str, ...] = ()
    """The same without the texts of errors, for those who are not shown them."""


def health_of(findings: Iterable[Finding]) -> Health:
    """The health of a scheduler by what its parts found; failures come first."""
    found = sorted(findings, key=lambda finding: not finding.failure)
    status: Status = "ok" if not found else "unhealthy" if found[0].failure else "degraded"
    return Health(
        status,
        tuple(f"{finding.text}: {finding.cause}" if finding.cause else finding.text for finding in found),
        tuple(finding.text for finding in found),
    )
