"""Backfills: the ticks of a span that did not run are run again; every instance knows of them."""

from fastapi_crons.engine.backfills.backfills import Backfill, Backfills
from fastapi_crons.engine.backfills.plan import BackfillPlan, Span, begun

__all__ = ["Backfill", "BackfillPlan", "Backfills", "Span", "begun"]
