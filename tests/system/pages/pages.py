"""Pages of documentation as tests: what a page shows is written, run and compared, in the order in which it stands there.

- A block whose first line is a comment with a path (`# app.py`) is written to that file; `# app.py, continued` is added to it.
- Each `python` block is run; tests (`# test_….py`) only where a command runs them.
- Each line of a `bash` block is run; servers go on until the next one starts, or the page ends.
- A `console` block is commands (`$ …`), each with what it prints. `…` stands for any text, a line `...` for any lines but
  those that tell of a failure. Dates, times of day without an offset, lengths of time, ids, versions and spacing need not
  agree; all other figures do. A command that may fail ends with `|| true`; `> FILE` writes what one prints. An id that was
  shown as `run 0123abcd` stands for the one that was printed in its place in later commands.
- A `sql` block is sent to the database that CRON_POSTGRES_URL names.
- `toml`, `json`, `yaml`, `ini` and `env` blocks are parsed. Blocks in other languages are refused, but for a few that are
  only shown; without a language there is only the code of other tools, under `docs/moving`.

A page with a command whose program is not on this machine is skipped, at its end.
"""

from __future__ import annotations

import configparser
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from dotenv import dotenv_values

from tests.programs import Program, run
from tests.support import without_progress
from tests.system.conftest import ROOT
from tests.system.pages.requirements import check_distributions

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_BLOCK = re.compile(r"^( *)(```+)([^`\n]*)\n(.*?)^ *\2$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"[#;] ((?:[\w.@-]+/)*[\w@-]*[\w.-]+)(, continued)?")

#: Languages of blocks that are written, run or parsed.
_FOLLOWED = {"python", "bash", "console", "sql", "toml", "json", "yaml", "ini", "env"}
#: Languages of blocks that are only shown, and directives.
_SHOWN = {"text", "dockerfile", "mermaid", "{toctree}", "{image}", "{include}"}

#: Programs that do not run here; files that their commands name must have been shown before.
ELSEWHERE = {
    "docker",
    "kubectl",
    "systemctl",
    "sudo",
    "journalctl",
    "poetry",
    "conda",
    "crontab",
    "git",
    "cd",
    "source",
}
#: What differs from run to run, and what stands for it.
_VARYING = (
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID"),
    (r"[\w.]+-\d+-[0-9a-f]{6}\b", "INSTANCE"),
    (r"\b(run|runs show) [0-9a-f]{8}\b", r"\1 ID"),
    (r"\bpid \d+", "pid 0"),
    (r"\b\d{4}-\d\d-\d\d\b", "DATE"),
    # One night of the year has no half past two.
    (r"DATE (?:02:30|03:00):00[+-]\d\d:\d\d", "DATE 02:30:00+00:00"),
    # Times with an offset are those that a page has asked for; the offset follows the season.
    (r"(DATE[T ]\d\d:\d\d:\d\d)[+-]\d\d:\d\d", r"\1 OFFSET"),
    (r"DATE[T ]\d\d:\d\d(:\d\d(\.\d+)?)?Z?(?![\d:.Z]* OFFSET)", "TIME"),
    (r"\b(CET|CEST)\b", "CET"),
    (r"\b\d+(\.\d+)? ?(ms|s|min|h|days?)\b", "0 s"),
    (r"\b\d+%", "0%"),
    (r"\b\d+\.\d+\.\d+\b", "VERSION"),
    (r"─+", "─"),
    (r"[ \t]+", " "),
)
_RUN = re.compile(r"\brun ([0-9a-f]{8})\b")
_SERVING = re.compile(r"(?:running on|Listening at:) (http://127\.0\.0\.1:\d+)")
_STARTED = re.compile(r"[Ss]cheduler started()")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `line` is where it begins."""

    language: str
    text: str
    line: int

    @property
    def path(self) -> str | None:
        """The file that it is, where its first line says so."""
        match = _FILE.fullmatch(self.text.partition("\n")[0])
        known = match is not None and (
            match[1].startswith(".") or re.search(r"[./]", match[1]) or match[1] == "Dockerfile"
        )
        return match[1] if match is not None and known else None

    @property
    def continues(self) -> bool:
        """Whether it is added to that file."""
        return self.text.partition("\n")[0].endswith(", continued")


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            match[3].strip().partition(" ")[0],
            re.sub(rf"^{match[1]}", "", match[4], flags=re.MULTILINE),
            text.count("\n", 0, match.start()) + 1,
        )
        for match in _BLOCK.finditer(text)
    ]


def check_languages(page: Path) -> None:
    """Raises `AssertionError` where a block would be passed over that is not meant to be."""
    for block in blocks(page):
        of_other_tools = not block.language and page.is_relative_to(ROOT / "docs/moving")
        assert of_other_tools or block.language in _FOLLOWED | _SHOWN, (
            f"{page.name}, line {block.line}: a block in {block.language!r}"
        )


class PageRun:
    """Goes through a page in the current folder. `replacements` are made in every block, as for addresses."""

    def __init__(self, page: Path, replacements: Mapping[str, str] | None = None) -> None:
        self.page = page
        self._replacements = dict(replacements or {})
        self._server: Program | None = None
        self._log = Path("server.log")
        #: Commands whose programs are not on this machine.
        self._not_run: list[str] = []
        self._environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "100",
            # What other plugins there are is not said on a page; some take long to load.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def __enter__(self) -> PageRun:
        return self

    def __exit__(self, raised: type[BaseException] | None, *_: object) -> None:
        self._end_server()
        if raised is None and self._not_run:
            pytest.skip(f"not run, as the program is not here: {'; '.join(self._not_run)}")

    def run(self) -> None:
        """Everything, in order. Raises `AssertionError`, naming the block, where something is not as shown."""
        check_languages(self.page)
        for block in blocks(self.page):
            try:
                self._block(block)
            except Exception as error:
                raise AssertionError(f"{self.page.name}, line {block.line} ({block.language}): {error}") from error

    def _block(self, block: Block) -> None:
        text = self._replaced(block.text)
        if block.path is not None:
            path = Path(block.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            before = path.read_text(encoding="utf-8") + "\n\n" if block.continues else ""
            path.write_text(before + text, encoding="utf-8")
        steps: dict[str, Callable[[str], object]] = {
            "bash": self._commands,
            "console": self._session,
            "sql": self._statements,
            "toml": tomllib.loads,
            "json": json.loads,
            "yaml": lambda text: list(yaml.safe_load_all(text)),
            "ini": _ini,
            "env": lambda _: _env(block.path),
        }
        if block.language == "python" and not _is_test(block.path):
            self._program(["-W", "error", *_how_to_run(block.path, text)])
        elif block.language in steps:
            steps[block.language](text)

    def _replaced(self, text: str) -> str:
        for old, new in self._replacements.items():
            text = text.replace(old, new)
        return text

    def _program(self, arguments: list[str]) -> str:
        done = run([sys.executable, *arguments], env=self._environment)
        assert done.returncode == 0, f"{' '.join(arguments)[:200]}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _commands(self, text: str) -> None:
        for line in text.replace("\\\n", " ").splitlines():
            if line and not line.startswith("#"):
                self._command(line)

    def _statements(self, text: str) -> None:
        url = self._environment.get("CRON_POSTGRES_URL")
        assert url is not None, "set CRON_POSTGRES_URL before"
        self._run_to_its_end(text, ["psql", "-X", "-v", "ON_ERROR_STOP=1", "-c", text, url], may_fail=False)

    def _command(self, line: str) -> str | None:
        """Run one command; returns what it prints, and None where its program is not on this machine."""
        words = shlex.split(self._replaced(line), comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            raise AssertionError(f"say export, not {words[0]}")
        may_fail = words[-2:] == ["||", "true"]
        words = words[:-2] if may_fail else words
        into = Path(words[-1]) if words[-2:-1] == [">"] else None
        words = words if into is None else words[:-2]
        program = words[0]
        if program == "export":
            self._environment.update(dict(word.split("=", 1) for word in words[1:]))
        elif program in ELSEWHERE:
            self._look_for_files(words)
        elif words[:2] in (["pip", "install"], ["pip", "uninstall"]):
            check_distributions(words[2:])
        elif program == "uvicorn" or words[:2] in (["fastapi", "dev"], ["fastapi", "run"]):
            self._serve([sys.executable, "-m", *words, "--port", "0"], _SERVING)
        elif program == "gunicorn":
            if importlib.util.find_spec(program) is None:
                self._not_run.append(line)
                return None
            here = ["--bind", "127.0.0.1:0", "--no-control-socket"]
            self._serve([sys.executable, "-m", *words, *here], _SERVING)
        elif "start-scheduler" in words:
            self._serve(self._here(words), _STARTED)
        else:
            printed = self._run_to_its_end(line, self._here(words), may_fail=may_fail)
            if into is not None and printed is not None:
                into.write_text(printed, encoding="utf-8")
            return printed
        return ""

    def _here(self, words: list[str]) -> list[str]:
        """The command, with the interpreter that runs this."""
        known: dict[str, list[str]] = {
            "fastapi-crons": ["-m", "fastapi_crons"],
            "python": [],
            "python3": [],
            "alembic": ["-m", "alembic"],
            "pytest": ["-m", "pytest", "-p", "no:cacheprovider", "-p", "pytest_asyncio.plugin"],
        }
        if words[0] in known:
            return [sys.executable, *known[words[0]], *words[1:]]
        assert words[0] in (
            "curl",
            "sqlite3",
            "redis-cli",
            "pg_dump",
            "pg_restore",
            "test",
            "ls",
            "cat",
            "mkdir",
            "touch",
        ), f"{words[0]} is not known here"
        return words

    def _run_to_its_end(self, line: str, command: list[str], *, may_fail: bool) -> str | None:
        if shutil.which(command[0]) is None:
            self._not_run.append(line)
            return None
        done = run(command, env=self._environment)
        assert may_fail or done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _session(self, text: str) -> None:
        for part in re.split(r"^\$ ", text.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            printed = self._command(command)
            assert printed is None or agrees(shown, printed), f"{command} printed\n{printed}\nnot\n{shown}"
            self._note_ids(shown, printed or "")

    def _note_ids(self, shown: str, printed: str) -> None:
        """Let the ids of runs that the page shows stand for those that were printed."""
        on_page, in_fact = _RUN.findall(shown), _RUN.findall(printed)
        if len(on_page) == len(in_fact):
            self._replacements = {**self._replacements, **dict(zip(on_page, in_fact, strict=True))}

    def _serve(self, command: list[str], ready: re.Pattern[str]) -> None:
        self._end_server()
        with self._log.open("w") as log:
            self._server = Program(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=self._environment
            )
        deadline = time.monotonic() + 90
        workers = int(command[command.index("--workers") + 1]) if "--workers" in command else 1
        while (match := ready.search(self._log.read_text())) is None or (
            match[1] and self._log.read_text().count("startup complete") < workers
        ):
            assert time.monotonic() < deadline, self._log.read_text()
            assert self._server.poll() is None, self._log.read_text()
            time.sleep(0.05)
        if match[1]:
            for address in ("http://127.0.0.1:8000", "http://localhost:8000"):
                self._replacements[address] = match[1]

    def _end_server(self) -> None:
        if self._server is not None:
            os.killpg(self._server.pid, signal.SIGINT)
            self._server.wait(30)
            self._server = None

    def _look_for_files(self, words: list[str]) -> None:
        for word in words:
            if re.fullmatch(r"[\w./-]+\.(ya?ml|service|py|toml)", word) and not word.startswith("/"):
                assert Path(word).exists(), f"{word} is not shown before"


def _is_test(path: str | None) -> bool:
    return path is not None and Path(path).name.startswith(("test_", "conftest."))


def _how_to_run(path: str | None, text: str) -> list[str]:
    if path is None:
        return ["-c", text]
    # A module of a package imports others of it.
    in_package = (Path(path).parent / "__init__.py").exists()
    return ["-m", path.removesuffix(".py").replace("/", ".")] if in_package else [path]


def _ini(text: str) -> None:
    parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#", ";"))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text)


def _env(path: str | None) -> None:
    assert path is not None, "a block of variables says which file it is"
    assert None not in dotenv_values(path).values(), "each line is NAME=value"


def agrees(shown: str, printed: str) -> bool:
    """Whether a command printed what a page shows, but for what varies and what is left out."""
    pattern = []
    for line in _plain(shown).splitlines():
        if line == "...":
            # "Failed: 0" is none, nor is a field `"error"`.
            pattern.append(r"(?:(?!.*(?i:failed(?!: 0\b)|error(?!\"))).*\n)*?")
        else:
            pattern.append(".*?".join(map(re.escape, line.split("…"))) + "\n")
    return re.fullmatch("".join(pattern), _plain(without_progress(printed))) is not None


def _plain(text: str) -> str:
    """Without what differs from run to run."""
    for pattern, instead in _VARYING:
        text = re.sub(pattern, instead, text)
    return "".join(f"{line.strip()}\n" for line in text.splitlines() if line.strip())
