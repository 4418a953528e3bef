"""Plugins as they are found: what is loaded, in which order, and what is said of those that can't be."""

from __future__ import annotations

import importlib.metadata
import logging
import shutil
import sys
from pathlib import Path

import pytest

from fastapi_crons import CronConfig, Crons, PluginError, get_cron_router, hookimpl
from fastapi_crons.locking import LocalLockBackend
from fastapi_crons.plugins import Plugins
from fastapi_crons.plugins.choice import choose_backends
from fastapi_crons.state import MemoryStateBackend
from tests import seam
from tests.conftest import Install

CORE = importlib.metadata.version("fastapi-crons-core")
HOOK = "from fastapi_crons import hookimpl\n@hookimpl\ndef before_run(job_name): pass\n"
ACME = "plugin 'acme' (acme) of acme 1.2"
WHAT_TO_DO = "; fix or uninstall it, or set CRON_DISABLED_PLUGINS=acme"


def names(found: Plugins) -> set[str]:
    return {plugin.name for plugin in found.list()}


def test_a_distribution_that_is_installed_is_found_with_its_version_and_hooks(install: Install) -> None:
    install(HOOK)
    (found,) = (plugin for plugin in Plugins().list() if plugin.name == "acme")
    assert (found.distribution, found.version, found.hooks) == ("acme", "1.2", ("before_run",))


def test_a_disabled_plugin_is_not_imported(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("raise SystemExit(3)", requires="fastapi-crons-core>=99")
    monkeypatch.setenv("CRON_DISABLED_PLUGINS", "other, acme")
    assert "acme" not in names(Plugins(CronConfig().disabled_plugins))
    assert "acme" not in sys.modules


@pytest.mark.parametrize(
    "requires", ["fastapi-crons-core>=99", "FastAPI_Crons.core (<0.0.1)", "fastapi-crons-core==99; python_version>'3'"]
)
def test_a_plugin_for_another_core_is_refused_before_it_is_imported(install: Install, requires: str) -> None:
    install("raise SystemExit(3)", requires=requires)
    with pytest.raises(PluginError) as refused:
        Plugins()
    message = str(refused.value)
    assert message.startswith("plugin 'acme' (acme) of acme 1.2 needs fastapi-crons-core")
    assert (
        f", and fastapi-crons-core {CORE} is installed: pip install -U acme, or pip install 'fastapi-crons-core"
        in message
    )
    assert message.endswith("; or set CRON_DISABLED_PLUGINS=acme")
    assert "acme" not in sys.modules


@pytest.mark.parametrize(
    "requires",
    [
        f"fastapi-crons-core>=0.1,<={CORE}",
        "fastapi-crons-core",
        "fastapi-crons-core>=99; extra == 'future'",
        "fastapi-crons-core>=99; python_version<'3'",
        "fastapi-crons>=99",  # not installed here, and without code
        "fastapi-crons-core-tools>=99",
        "fastapi-crons-core ~> 99",
        "",
    ],
)
def test_what_is_required_of_others_or_fits_is_no_fault(install: Install, requires: str) -> None:
    install(HOOK, requires=requires)
    assert "acme" in names(Plugins())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def broken(:", "SyntaxError: "),
        ("raise ValueError('two\\nlines')", "ValueError: two\\nlines; "),
    ],
)
def test_a_plugin_that_can_not_be_imported_is_named(install: Install, text: str, said: str) -> None:
    install(text)
    with pytest.raises(PluginError) as refused:
        Plugins()
    message = str(refused.value)
    assert message.startswith(f"plugin 'acme' (acme) of acme 1.2 can't be imported: {said}")
    assert message.endswith("fix or uninstall it, or set CRON_DISABLED_PLUGINS=acme")
    assert "\n" not in message


def test_all_plugins_that_can_not_be_loaded_are_named_at_once(install: Install) -> None:
    install("import nothing_of_that_name")
    install(HOOK, "bolt", requires="fastapi-crons-core>=99")
    with pytest.raises(PluginError) as refused:
        Plugins()
    assert "'acme'" in str(refused.value)
    assert "'bolt'" in str(refused.value)


def test_a_plugin_whose_import_hangs_is_named(
    install: Install, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seam.LONG_IMPORT.replace(monkeypatch, 0.05)
    install(f"import time\ntime.sleep(0.3)\n{HOOK}")
    assert "acme" in names(Plugins())
    (said,) = [message for message in caplog.messages if "acme" in message]
    assert "plugin 'acme' (acme) of acme 1.2 has not been imported within 0.05 s" in said
    assert "CRON_DISABLED_PLUGINS=acme" in said


def test_two_plugins_of_one_name_are_refused(install: Install) -> None:
    install(HOOK)
    install(HOOK, "bolt", entry_point="acme")
    with pytest.raises(PluginError) as refused:
        Plugins()
    for said in ("two plugins are named 'acme'", "of acme 1.2", "of bolt 1.2", "uninstall one"):
        assert said in str(refused.value)
    assert not {"acme", "bolt"} & names(Plugins(frozenset({"acme"})))


def test_a_module_that_is_named_twice_is_refused(install: Install, tmp_path: Path) -> None:
    install(HOOK)
    with (tmp_path / "acme-1.2.dist-info" / "entry_points.txt").open("a") as file:
        file.write("again = acme\n")
    with pytest.raises(
        PluginError,
        match=r"^plugin 'again' \(acme\) of acme 1\.2 can't be used: it is the same object as plugin 'acme'; fix",
    ):
        Plugins()


@pytest.mark.parametrize("kind", ["state", "lock"])
def test_two_plugins_that_bring_one_backend_are_refused(install: Install, kind: str) -> None:
    install(
        "from fastapi_crons import hookimpl\nfrom fastapi_crons.plugins import StateBackendSpec\n"
        f"@hookimpl\ndef {kind}_backends(): return {{'sqlite': StateBackendSpec('acme:Store', lambda config: None)}}\n"
    )
    with pytest.raises(PluginError, match=rf"both bring a backend 'sqlite' \({kind}_backends\).*CRON_DISABLED_PLUGINS"):
        Plugins()
    assert "sqlite" in Plugins(frozenset({"acme"})).state_backends


@pytest.mark.parametrize("answer", ["1/0", "None", "[]", "{'scratch': dict}", "{1: 2}", "exit(3)"])
def test_a_plugin_that_can_not_say_which_backends_it_brings_is_named(install: Install, answer: str) -> None:
    install(f"from fastapi_crons import hookimpl\n@hookimpl\ndef state_backends(): return {answer}\n")
    with pytest.raises(PluginError) as refused:
        Plugins()
    assert str(refused.value).startswith(f"{ACME} failed to say which stores it brings (state_backends): ")
    assert str(refused.value).endswith(WHAT_TO_DO)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("'acme:Store', lambda config: None, preference=99", "makes an object of class NoneType instead of Store"),
        ("'acme:Store', lambda config: None, wanted=lambda: 1 / 0", "failed to say whether Store is wanted: Zero"),
        ("'acme:Store', lambda config: None, wanted=lambda: exit(3)", "failed to say whether Store is wanted: System"),
        ("'acme:Stoer', lambda config: None", "brings 'acme:Stoer', which can't be imported: AttributeError: "),
        ("'akme:Store', lambda config: None", "brings 'akme:Store', which can't be imported: ModuleNotFoundError: "),
    ],
)
def test_a_plugin_whose_store_is_at_fault_is_named(
    install: Install, monkeypatch: pytest.MonkeyPatch, spec: str, said: str
) -> None:
    install(
        "from fastapi_crons import hookimpl\nfrom fastapi_crons.plugins import LockBackendSpec\n"
        f"@hookimpl\ndef lock_backends(): return {{'acme': LockBackendSpec({spec})}}\nclass Store: reach = 'fleet'\n"
    )
    monkeypatch.setenv("CRON_ENABLE_DISTRIBUTED_LOCKING", "true")
    with pytest.raises(PluginError) as refused:
        choose_backends(CronConfig(), Plugins(), None, None)
    assert str(refused.value).startswith(f"{ACME} {said}")
    assert str(refused.value).endswith(WHAT_TO_DO)


@pytest.mark.parametrize("answer", ["1/0", "exit(3)", "[dict]", "None"])
def test_a_plugin_that_can_not_say_which_settings_it_brings_is_named(install: Install, answer: str) -> None:
    install(f"from fastapi_crons import hookimpl\n@hookimpl\ndef settings(): return {answer}\n")
    with pytest.raises(PluginError) as refused:
        Plugins().settings_classes()
    assert str(refused.value).startswith(f"{ACME} failed to say which settings it brings: ")
    assert str(refused.value).endswith(WHAT_TO_DO)


def test_a_router_is_made_without_what_a_plugin_fails_to_add(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("from fastapi_crons import hookimpl\n@hookimpl\ndef routes(router): exit(3)\n")
    assert get_cron_router(crons=Crons()).routes
    assert "hook routes of plugin 'acme' failed: SystemExit: 3" in caplog.text


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("def befor_run(job_name): pass", "befor_run"),
        ("def before_run(jobname): pass", "jobname"),
        ("def before_run(job_name):\n    yield", "generator"),
        ("async def redact(value): return value", "redact must be a plain function"),
        ("async def run_scope(): pass", "run_scope must be a plain function"),
        ("async def state_backends(): return {}", "state_backends must be a plain function"),
        ("async def settings(): return []", "settings must be a plain function"),
    ],
)
def test_a_plugin_that_does_not_fit_is_named_with_its_distribution(install: Install, hook: str, said: str) -> None:
    install(f"from fastapi_crons import hookimpl\n@hookimpl\n{hook}\n")
    with pytest.raises(PluginError) as refused:
        Plugins()
    assert str(refused.value).startswith(f"{ACME} can't be used: ")
    assert str(refused.value).endswith(WHAT_TO_DO)
    assert said in str(refused.value)


def test_of_two_copies_of_a_distribution_only_the_one_in_front_is_loaded(install: Install, tmp_path: Path) -> None:
    install(HOOK)
    behind = tmp_path / "behind"
    shutil.copytree(tmp_path / "acme-1.2.dist-info", behind / "acme-1.0.dist-info")
    (behind / "acme-1.0.dist-info" / "entry_points.txt").write_text("[fastapi_crons]\nacme = acme\nold = stale\n")
    (behind / "stale.py").write_text("raise SystemExit(3)")
    sys.path.append(str(behind))
    try:
        found = Plugins()
    finally:
        sys.path.remove(str(behind))
    assert "acme" in names(found)
    assert "old" not in names(found)


class Hooked:
    @hookimpl
    def after_run(self) -> None:
        pass


def test_a_plugin_that_code_registers_may_have_a_name_that_is_disabled() -> None:
    found = Plugins(frozenset({"mine"}))
    found.register(Hooked(), "mine")
    assert [call.plugin_name for call in found.calls["after_run"]] == ["mine"]


def test_what_is_known_of_an_implementation_outlives_a_registration() -> None:
    found, plugin = Plugins(), Hooked()
    found.register(plugin)
    (call,) = found.calls["after_run"]
    call.hanging = 3
    found.register(Hooked())
    assert sorted(each.hanging for each in found.calls["after_run"]) == [0, 3]
    found.unregister(plugin)
    found.register(plugin)
    assert [each.hanging for each in found.calls["after_run"]] == [0, 0]


def test_stores_can_not_be_brought_by_code() -> None:
    class Brings:
        @hookimpl
        def lock_backends(self) -> dict[str, object]:
            return {}

    found = Plugins()
    with pytest.raises(PluginError, match=r"^plugin 'mine' can't be registered: lock_backends .* an entry point$"):
        found.register(Brings(), "mine")
    assert not [call for call in found.calls["lock_backends"] if call.plugin_name == "mine"]


def test_a_registered_plugin_without_hooks_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    Plugins().register(object(), "mine")
    assert "plugin 'mine' implements no hook: mark its functions with @hookimpl" in caplog.text


def test_what_is_not_registered_can_not_be_taken_out() -> None:
    with pytest.raises(PluginError, match="Hooked' is not registered"):
        Plugins().unregister(Hooked())


def test_a_plugin_without_hooks_is_warned_of(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install("def before_run(job_name): pass\n")
    assert "acme" in names(Plugins())
    assert "plugin 'acme' (acme) of acme 1.2 implements no hook: mark its functions with @hookimpl" in caplog.text


@pytest.mark.parametrize("level", [logging.WARNING])
def test_our_own_plugins_fit_and_are_not_warned_of(caplog: pytest.LogCaptureFixture, level: int) -> None:
    with caplog.at_level(level):
        found = Plugins()
    assert caplog.messages == []
    assert {"memory", "local", "sqlite", "redis-state", "redis-lock", "cli"} <= names(found)
    assert all(plugin.hooks for plugin in found.list())


def test_the_built_in_stores_are_plugins_and_can_be_disabled() -> None:
    found = {info.name: info for info in Plugins().list()}
    assert found["memory"].hooks == ("state_backends",)
    assert found["local"].hooks == ("lock_backends",)
    config = CronConfig()
    assert isinstance(Plugins().state_backends["memory"].make(config), MemoryStateBackend)
    assert isinstance(Plugins().lock_backends["local"].make(config), LocalLockBackend)
    without = Plugins(frozenset({"memory", "local"}))
    assert "memory" not in without.state_backends
    assert "local" not in without.lock_backends
