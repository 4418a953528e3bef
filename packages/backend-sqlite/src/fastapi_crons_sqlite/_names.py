"""Names: the keys of jobs, in tables that several namespaces share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from fastapi_crons.locking.base import ClaimRequest, PauseRequest, ResumeRequest

RequestT = TypeVar("RequestT", ClaimRequest, PauseRequest, ResumeRequest)
_DEFAULT = "default"


class Names:
    """Keys of one namespace: the bare name in the default one, else `namespace/name`. Job names hold no slash."""

    __slots__ = ("_prefix",)

    def __init__(self, namespace: str) -> None:
        self._prefix = "" if namespace == _DEFAULT else f"{namespace}/"

    def key(self, job: str) -> str:
        """The key of a job."""
        return f"{self._prefix}{job}" if self._prefix else job

    def keyed(self, requests: Sequence[RequestT]) -> Sequence[RequestT]:
        """The requests under their jobs' keys."""
        return [request._replace(job=self.key(request.job)) for request in requests] if self._prefix else requests

    @property
    def condition(self) -> str:
        """An SQL condition on a column `job` that holds for this namespace's keys. It goes with `bounds`."""
        return "job >= ? AND job < ?" if self._prefix else "instr(job, '/') = 0"

    @property
    def bounds(self) -> tuple[str, ...]:
        """The parameters of `condition`."""
        return (self._prefix, f"{self._prefix[:-1]}0") if self._prefix else ()

    def own(self, key: object) -> str | None:
        """The job of a key, or None where it belongs to another namespace, or is none."""
        if not isinstance(key, str):
            return None
        if not self._prefix:
            return None if "/" in key else key
        return key[len(self._prefix) :] if key.startswith(self._prefix) else None
