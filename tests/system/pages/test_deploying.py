"""What the documentation and the examples give to Docker, systemd and Kubernetes fits together, and names what there is."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fastapi_crons import CronConfig
from tests.system.conftest import ROOT
from tests.system.pages.pages import Block, blocks

PAGE = ROOT / "docs/how-to/deploying.md"
EXAMPLE = ROOT / "examples/distributed_locking"
OF_EXAMPLE = {path.name: path.read_text() for path in EXAMPLE.glob("compose*.yaml")}
BLOCKS = blocks(PAGE)
UNITS = [block for block in BLOCKS if (block.path or "").endswith(".service")]
SHUTDOWN = CronConfig.model_fields["shutdown_timeout"].default
#: Where a server listens is not the same everywhere.
LISTENS = ("--host", "--port")
FOLDER = "/srv/shop/.venv/bin/"


def _shown(path: str) -> Block:
    (block,) = (block for block in BLOCKS if block.path == path)
    return block


def _run_on_the_page() -> list[list[str]]:
    """The commands that `test_docs.py` runs."""
    lines = [line for block in BLOCKS if block.language == "bash" for line in block.text.splitlines()]
    lines += [line[2:] for block in BLOCKS if block.language == "console" for line in block.text.splitlines()]
    return [shlex.split(line) for line in lines]


def _instructions(dockerfile: str) -> list[tuple[str, str]]:
    lines = re.sub(r"\\\n\s*", " ", dockerfile).splitlines()
    return [
        (name, rest) for name, _, rest in (line.partition(" ") for line in lines) if name and not name.startswith("#")
    ]


def _commands_of_images(dockerfile: str) -> Iterator[list[str]]:
    for name, rest in _instructions(dockerfile):
        if name in ("CMD", "HEALTHCHECK"):
            yield json.loads(re.sub(r"^.*?(?=\[)", "", rest))  # as a list: a shell would not pass signals on


def _commands_of_units() -> Iterator[list[str]]:
    for unit in UNITS:
        for line in re.findall(r"^ExecStart=(.*)", unit.text, re.MULTILINE):
            assert line.startswith(FOLDER)
            yield shlex.split(line.removeprefix(FOLDER))


def _deployments() -> list[Any]:
    return list(yaml.safe_load_all(_shown("shop.yaml").text))


def _commands_of_pods() -> Iterator[list[str]]:
    for deployment in _deployments():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        yield container["args"]
        yield from (probe["exec"]["command"] for name, probe in container.items() if "exec" in probe and name != "args")


def _commands_of_a_pipeline() -> Iterator[list[str]]:
    steps = yaml.safe_load(_shown(".github/workflows/check.yml").text)["jobs"]["check"]["steps"]
    assert _shown("requirements.txt").text.split()
    yield from (command for step in steps if "run" in step and (command := shlex.split(step["run"]))[0] != "pip")


COMMANDS = [
    *_commands_of_images(_shown("Dockerfile").text),
    *_commands_of_units(),
    *_commands_of_pods(),
    *_commands_of_a_pipeline(),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_in_a_file_is_one_that_the_page_runs(command: list[str]) -> None:
    assert all(isinstance(word, str) for word in command)
    for option in LISTENS:
        if option in command:
            at = command.index(option)
            command = command[:at] + command[at + 2 :]
    assert command in _run_on_the_page()


def test_whoever_stops_a_process_waits_longer_than_its_jobs_may_take() -> None:
    for file in map(yaml.safe_load, (_shown("compose.yaml").text, *OF_EXAMPLE.values())):
        assert int(file["services"]["app"]["stop_grace_period"].removesuffix("s")) > SHUTDOWN
    for unit in UNITS:
        assert int(re.findall(r"^TimeoutStopSec=(\d+)$", unit.text, re.MULTILINE)[0]) > SHUTDOWN
    for deployment in _deployments():
        pod = deployment["spec"]["template"]["spec"]
        variables = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
        before = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["0"])[-1]
        stopping = float(variables.get("CRON_SHUTDOWN_TIMEOUT", SHUTDOWN))
        assert pod["terminationGracePeriodSeconds"] > float(before) + stopping


def test_variables_are_settings_and_secrets_are_made() -> None:
    text = "".join((PAGE.read_text(), *OF_EXAMPLE.values()))
    known = (ROOT / "docs/reference/settings.md").read_text()
    for variable in set(re.findall(r"\bCRON_[A-Z_]+", text)):
        assert f"`{variable}`" in known, variable
    made = dict.fromkeys(re.findall(r"--from-literal=([\w-]+)=", text))
    wanted = re.findall(r"secretKeyRef: {name: ([\w-]+), key: ([\w-]+)}", text)
    assert {name for name, _ in wanted} == set(re.findall(r"create secret generic ([\w-]+)", text))
    assert {key for _, key in wanted} == set(made)


def test_probes_ask_for_endpoints_that_the_app_has() -> None:
    text = _shown("app.py").text
    paths = re.findall(r"httpGet: {path: (\S+),", _shown("shop.yaml").text)
    assert paths
    for path in paths:
        assert f'@app.get("{path}"' in text


def test_pods_are_found_by_their_labels() -> None:
    deployments = _deployments()
    assert deployments
    for deployment in deployments:
        assert deployment["spec"]["selector"]["matchLabels"] == deployment["spec"]["template"]["metadata"]["labels"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on PATH")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    paths = []
    for unit in UNITS:
        assert unit.path is not None
        path = tmp_path / unit.path
        # The programs have to be there.
        path.write_text(unit.text.replace(FOLDER, f"{tmp_path}/"))
        paths.append(str(path))
    for program in ("uvicorn", "fastapi-crons"):
        (tmp_path / program).write_text(f"#!{sys.executable}\n")
        (tmp_path / program).chmod(0o755)
    done = subprocess.run(
        ["systemd-analyze", "verify", *paths],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    ours = [line for line in done.stderr.splitlines() if "shop" in line]
    assert ours == []


@pytest.mark.skipif(shutil.which("docker") is None, reason="no docker on PATH")
@pytest.mark.parametrize("text", [_shown("compose.yaml").text, *OF_EXAMPLE.values()], ids=["page", *OF_EXAMPLE])
def test_compose_takes_the_files(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no docker compose")
    monkeypatch.setenv("CRON_API_TOKEN", "secret-of-at-least-16-characters")
    path = tmp_path / "compose.yaml"
    path.write_text(text)
    command = ["docker", "compose", "--file", str(path), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
