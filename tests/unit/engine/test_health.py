"""Health: what the findings of the parts make of it."""

from __future__ import annotations

from fastapi_crons._util.part import Finding, listed
from fastapi_crons.engine.health import health_of


def test_health_puts_failures_first_and_summaries_leave_out_their_causes() -> None:
    health = health_of([Finding("look"), Finding("no store", failure=True, cause="password wrong")])
    assert health.status == "unhealthy"
    assert health.findings == ("no store: password wrong", "look")
    assert health.summaries == ("no store", "look")
    assert health_of([Finding("look")]).status == "degraded"
    assert health_of([]).status == "ok"


def test_a_finding_lists_five_names_at_most() -> None:
    assert listed(list("abcde")) == "'a', 'b', 'c', 'd', 'e'"
    assert listed(list("abcdefg")) == "'a', 'b', 'c', 'd', 'e' and 2 more"
