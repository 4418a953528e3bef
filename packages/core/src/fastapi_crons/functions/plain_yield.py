"""Plain dependencies with `yield`, for a FastAPI before 0.163: it hands them no cancellation, and may never close them.

Such a dependency is overridden by an async one around it, which does both.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from fastapi_crons._util.callables import annotation_of, unwrapped

if TYPE_CHECKING:
    from fastapi.dependencies.models import Dependant

Function = Callable[..., object]


def is_needed() -> bool:
    """Whether this FastAPI is one of those. The last patches of 0.162 are none, but it does no harm with them."""
    from fastapi import __version__

    return tuple(map(int, __version__.split(".")[:2])) < (0, 163)


class Overrides(Mapping[Function, Function]):
    """The `dependency_overrides` of an app, and those of plain dependencies with `yield`."""

    def __init__(self, of_app: Callable[[], Mapping[Function, Function]], dependant: Dependant) -> None:
        self._of_app = of_app
        self._wanted = any(map(_yields, _functions(dependant)))

    def __bool__(self) -> bool:
        """FastAPI asks for overrides only then; that takes time."""
        return self._wanted or bool(self._of_app())

    def __getitem__(self, function: Function) -> Function:
        function = self._of_app().get(function, function)
        return _around(function) if _yields(function) else function

    def __iter__(self) -> Iterator[Function]:
        return iter(self._of_app())

    def __len__(self) -> int:
        return len(self._of_app())


def _functions(dependant: Dependant) -> Iterator[Function]:
    for each in dependant.dependencies:
        if each.call is not None:
            yield each.call
        yield from _functions(each)


def _yields(function: Function) -> bool:
    inner = inspect.unwrap(unwrapped(function))
    return inspect.isgeneratorfunction(inner) or inspect.isgeneratorfunction(getattr(type(inner), "__call__", None))  # noqa: B004


def _around(function: Function) -> Function:
    make = cast("Callable[..., Iterator[object]]", function)

    async def opened(**given: object) -> AsyncIterator[object]:
        from anyio import CapacityLimiter
        from anyio.to_thread import run_sync

        manager = contextmanager(make)(**given)
        value = await run_sync(manager.__enter__)
        # As FastAPI does it: what is to be closed waits for no other thread, which may wait for it.
        alone = CapacityLimiter(1)
        try:
            yield value
        except BaseException as error:
            if not await run_sync(manager.__exit__, type(error), error, error.__traceback__, limiter=alone):
                raise
        else:
            await run_sync(manager.__exit__, None, None, None, limiter=alone)

    opened.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            each.replace(annotation=annotation_of(function, each))
            for each in inspect.signature(function).parameters.values()
        ]
    )
    return opened
