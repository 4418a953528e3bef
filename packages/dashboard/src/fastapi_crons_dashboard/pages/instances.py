"""Instances: who is running, what runs there, and on which stores, plugins and settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

from fastapi import Depends
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.datastructures import ImmutableMultiDict

from fastapi_crons.api import form
from fastapi_crons.errors import InvalidArgumentError, StoreError
from fastapi_crons.locking import LiveInstance
from fastapi_crons.management import DrainView, RunLeft, SchedulerView, settings_of
from fastapi_crons_dashboard.serving.page import Pages, Showing, words_of

#: How many runs are listed of an instance, and how many instances of a fleet.
_MOST_RUNS, _MOST_INSTANCES = 10, 200


class Shown(NamedTuple):
    """An instance, as the template shows it."""

    live: LiveInstance
    is_own: bool
    state: str
    """A word for what it does."""
    tone: str
    group: str
    """A letter that instances with the same definitions share; empty for one that runs none."""
    runs: Sequence[RunLeft]
    more: int
    """How many runs it has besides."""
    can_drain: bool


def add_to(pages: Pages) -> None:
    @pages.get("/instances", "instances")
    async def instances(shown: Showing) -> HTMLResponse:
        management = shown.management
        try:
            view = await management.scheduler()
            living = view.instances[:_MOST_INSTANCES]
            looked = await management.drains.look([each.instance.owner for each in living])
            lost = None
        except StoreError as error:
            view, living, looked, lost = management.scheduler_without_stores(), [], [], words_of(error)
        groups = _groups(living)
        return shown.page(
            "instances.html",
            live=True,
            view=view,
            lost=lost,
            instances=_shown(view, living, looked, groups),
            others=len(view.instances) - len(living),
            groups=sorted(set(groups.values())),
            durable=management.has_durable_history,
            unshared=management.unshared_lock(),
            damaged=management.damaged() if shown.asked.details else [],
            obstacles=management.obstacles() if shown.asked.details else [],
            plugins=sorted(management.crons.plugins.list(), key=lambda plugin: plugin.name),
            settings=settings_of(management.crons) if shown.asked.details else None,
        )

    @pages.post("/instances/drain", "drain")
    async def drain(shown: Showing, fields: Annotated[ImmutableMultiDict[str, str], Depends(form)]) -> RedirectResponse:
        name = fields.get("instance", "")
        if not name:
            raise InvalidArgumentError("choose which instance is to drain")
        await shown.management.drains.drain(name)
        return RedirectResponse(shown.links.to("instances", {"said": "draining"}), 303)


def _groups(living: Sequence[LiveInstance]) -> dict[str, str]:
    """A letter for each digest of definitions, the most frequent first."""
    digests = [each.jobs for each in living if each.runs_ticks]
    ordered = sorted(dict.fromkeys(digests), key=digests.count, reverse=True)
    return {digest: chr(ord("A") + number) if number < 26 else "?" for number, digest in enumerate(ordered)}


def _shown(
    view: SchedulerView, living: Sequence[LiveInstance], looked: Sequence[DrainView], groups: dict[str, str]
) -> list[Shown]:
    runs = {each.instance.instance.owner: each.runs for each in looked}
    found = []
    for live in living:
        state, tone = _state(live)
        own = live.instance.id == view.instance_id
        left = runs.get(live.instance.owner, ())
        listed = left[:_MOST_RUNS]
        more = max(0, max(live.running, len(left)) - len(listed))
        found.append(Shown(live, own, state, tone, groups.get(live.jobs, ""), listed, more, live.runs_ticks))
    return found


def _state(live: LiveInstance) -> tuple[str, str]:
    """What an instance does, in words, and the class of their tone."""
    if live.is_draining:
        return (
            "draining: runs what it has, claims nothing more" if live.running else "drained: it can be stopped"
        ), "held"
    if live.is_to_drain:
        return "asked to drain", "held"
    return ("runs jobs", "good") if live.runs_ticks else ("runs no ticks", "quiet")
