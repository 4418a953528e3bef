"""The backend keeps the contract of state stores, and what it promises beyond."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fastapi_crons import CronConfig, Crons, LogLine, Run, RunError, StoreUnusableError
from fastapi_crons.state import HistoryLimits, StateBackend
from fastapi_crons.testing import StateContract
from fastapi_crons_jsonl import state as module
from fastapi_crons_jsonl.lines import line_of, record_of
from fastapi_crons_jsonl.state import JsonlStateBackend


class TestJsonl(StateContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make_store(self) -> StateBackend:
        return JsonlStateBackend(self.folder)


def a_run(number: int, job: str = "job") -> Run:
    return Run(f"{number:08}", job, number, "schedule", 1, "here", 7, "completed", number, number + 1)


def on_a_store(folder: Path, test: Callable[[JsonlStateBackend], Awaitable[object]], keep: int = 100) -> None:
    """Do something with an open store."""

    async def whole() -> None:
        store = JsonlStateBackend(folder, lock_timeout=0.2)
        await store.open("default", HistoryLimits(keep, 1e9))
        await test(store)
        await store.close()

    asyncio.run(whole())


@pytest.mark.parametrize("lost", [1, 100, 450])
def test_what_a_killed_process_left_half_written_is_nothing(tmp_path: Path, lost: int) -> None:
    async def write(store: JsonlStateBackend) -> None:
        await store.write([a_run(1)])
        await store.write([a_run(2), a_run(3)])

    async def look_and_go_on(store: JsonlStateBackend) -> None:
        assert [run.id for run in await store.runs("job")] == ["00000001"]
        await store.write([a_run(4)])
        assert [run.id for run in await store.runs("job")] == ["00000004", "00000001"]

    on_a_store(tmp_path, write)
    file = tmp_path / "default.jsonl"
    file.write_bytes(file.read_bytes()[:-lost])
    on_a_store(tmp_path, look_and_go_on)
    assert [json.loads(line)["id"] for line in file.read_text().splitlines()] == ["00000001", "00000004"]


def test_the_file_is_written_anew_when_most_of_it_is_needed_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MANY", 10)
    file = tmp_path / "default.jsonl"

    async def work(store: JsonlStateBackend) -> None:
        other = JsonlStateBackend(tmp_path)
        await other.open("default", HistoryLimits(3, 1e9))
        for number in range(1, 21):
            await store.write([a_run(number), a_run(number + 50, "other")])
        assert len(await other.runs(None)) == 40
        await store.prune(100)
        assert len(file.read_text().splitlines()) == 6
        for each in (store, other):
            assert [run.id for run in await each.runs("job")] == ["00000020", "00000019", "00000018"]
            assert await each.run("00000018") == a_run(18)
        await other.write([a_run(21)])
        assert [run.id for run in await store.runs("job", limit=1)] == ["00000021"]
        await other.close()

    on_a_store(tmp_path, work, keep=3)


def test_lines_of_others_are_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "default.jsonl").write_text('not json\n{"kind": "note"}\n[]\n\n')

    async def work(store: JsonlStateBackend) -> None:
        await store.write([a_run(1)])
        assert await store.runs(None) == [a_run(1)]

    on_a_store(tmp_path, work)
    assert caplog.text.count("is not one of ours") == 4


def test_a_folder_that_can_not_be_used_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnusableError, match=r"file/default\.jsonl: "):
        on_a_store(tmp_path / "file", lambda store: store.unfinished())


def test_the_scheduler_finds_it_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_JSONL_FOLDER", str(tmp_path))

    async def whole() -> None:
        crons = Crons(config=CronConfig(state_backend="jsonl", lock_backend="local"))
        crons.cron("0 0 1 1 *", name="job")(lambda: 7)
        await crons.start()
        await crons.run_job("job")
        await crons.stop()

    asyncio.run(whole())
    (*_, last) = (tmp_path / "default.jsonl").read_text().splitlines()
    assert (json.loads(last)["status"], json.loads(last)["result_json"]) == ("completed", "7")


def test_what_another_version_writes_more_is_left_out() -> None:
    run = replace(a_run(1), error=RunError("Error", "text", ""), log=(LogLine(1.0, "INFO", "app", "line"),))
    values = json.loads(line_of(run))
    for place in (values, values["error"], values["log"][0]):
        place["colour"] = "blue"
    assert record_of(values) == run
