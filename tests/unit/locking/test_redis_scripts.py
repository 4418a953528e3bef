"""The scripts of the Redis stores as texts: every name is put in, and the rule has the functions of the one in Python."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from fastapi_crons.locking.rule import LIMITS
from fastapi_crons_redis import scripts

PARTS = files(scripts)


def code_of(text: str) -> str:
    """Without comments and texts."""
    return re.sub(r"--[^\n]*|'[^']*'", "", text)


HISTORY_OPERATIONS = ("open", "write", "prune", "forget", "runs")


@pytest.mark.parametrize("script", [scripts.lock_script(), *map(scripts.history_script, HISTORY_OPERATIONS)])
def test_each_name_in_capitals_is_defined_in_the_script_or_put_in(script: str) -> None:
    code = code_of(script)
    defined = {name for names in re.findall(r"^local ([A-Z_, ]+) =", code, re.MULTILINE) for name in names.split(", ")}
    assert set(re.findall(r"\b[A-Z][A-Z_]+\b", code)) - {"KEYS", "ARGV"} == defined


def test_positions_are_those_of_the_fields_in_python() -> None:
    script = scripts.lock_script()
    assert "request[1]" in script  # ClaimRequest.job
    assert "lease[10], lease[11]" not in script
    assert "lease[12], lease[13] = cancels" in script  # Lease.cancelled, Lease.cancelled_by
    assert f"while #registrars >= {LIMITS['MAX_REGISTRARS']} do" in script


def test_the_rule_in_lua_has_the_functions_of_the_one_in_python_in_the_same_order() -> None:
    text = (PARTS / "lock/rule.lua").read_text(encoding="utf-8")
    in_lua = re.findall(r"^function (\w+)\(", text, re.MULTILINE)
    source = (files("fastapi_crons.locking") / "rule.py").read_text(encoding="utf-8")
    in_python = [name.lstrip("_") for name in re.findall(r"^def (\w+)\(", source, re.MULTILINE)]
    in_python.remove("asks_who_is_alive")  # the script asks when it needs to know
    in_python[in_python.index("holder")] = "holder_of"  # `holder` is a variable
    assert in_lua == in_python


def test_the_rule_in_lua_asks_the_server_nothing_by_itself() -> None:
    for name in ("lock/rule.lua", "lock/checks.lua"):
        assert "redis." not in code_of((PARTS / name).read_text(encoding="utf-8"))
