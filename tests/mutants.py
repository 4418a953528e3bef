"""Mutants: the modules that decide, changed one operator at a time; whatever the tests that name them let live is listed.

`nox -s mutants` runs mutmut for each group below, in a copy of the code, and fails where less than `ENOUGH` of the mutants
that change something are killed. Those in `mutants.txt` change nothing. `-- due rule` runs these groups only. A group
takes minutes to half an hour. Tests that measure time fail in the copy, which is slower: a group names tests without.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
#: The share of the mutants that change something that has to be killed.
ENOUGH = 0.95


#: What mutmut says of a mutant that a test noticed.
KILLED = ("killed", "timeout", "segfault")


class Group(NamedTuple):
    """Modules of core, and the tests that name what they decide."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


GROUPS = {
    "due": Group(("schedule/due.py",), ("unit/schedule/test_next_step.py", "unit/schedule/test_counting.py")),
    "cron": Group(
        ("schedule/cron.py",),
        (
            "unit/schedule/test_cron_schedule.py",
            "unit/schedule/test_counting.py",
            "unit/schedule/test_schedule_laws.py",
        ),
    ),
    "parser": Group(
        ("schedule/_parser.py",),
        ("unit/schedule/test_parsing.py", "unit/schedule/test_schedule_errors.py"),
    ),
    "days": Group(
        ("schedule/_tables.py", "schedule/_zones.py"),
        ("unit/schedule/test_parsing.py", "unit/schedule/test_cron_schedule.py"),
    ),
    "foreign": Group(("schedule/checks.py",), ("unit/schedule/test_foreign_schedules.py",)),
    "rule": Group(
        ("locking/rule.py",),
        ("unit/locking/test_claiming.py", "unit/locking/test_registering.py", "unit/locking/test_lock_rule.py"),
    ),
    "leases": Group(("locking/leases.py",), ("unit/leases",)),
    "tracked": Group(
        ("engine/dispatch/tracked.py",),
        ("unit/dispatch/test_tracked.py", "unit/dispatch/test_tracked_ticks.py", "unit/dispatch/test_tracked_walk.py"),
    ),
    "queue": Group(
        ("engine/dispatch/claims.py", "engine/dispatch/queue.py"),
        ("unit/dispatch/test_claims.py", "unit/dispatch/test_job_queue.py"),
    ),
    "sharing": Group(
        ("engine/dispatch/sharing.py",), ("unit/dispatch/test_turns.py", "virtual_time/answers/test_sharing.py")
    ),
    "answers": Group(
        ("engine/dispatch/claim_results.py",),
        ("virtual_time/answers/test_granted.py", "virtual_time/answers/test_refused.py"),
    ),
}


class Mutant(NamedTuple):
    """One change: in which function, and which line became which."""

    function: str
    old: str
    new: str


def known() -> set[Mutant]:
    """The mutants that change nothing that can be seen: see `mutants.txt`."""
    text = (ROOT / "tests" / "mutants.txt").read_text(encoding="utf-8")
    blocks = re.findall(r"^(\S+)\n- (.*)\n\+ (.*)$", text, re.MULTILINE)
    return {Mutant(*block) for block in blocks}


def prepare(folder: Path, group: Group) -> None:
    """A copy of core and of the tests, with mutmut's configuration."""
    shutil.rmtree(folder, ignore_errors=True)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "packages/core/src", folder / "src", ignore=ignore)
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=ignore)
    ours = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (pytest,) = re.findall(r"^\[tool\.pytest\.ini_options\]\n(?:.+\n)*", ours, re.MULTILINE)
    settings = {
        "source_paths": ["src/"],
        "only_mutate": [f"src/fastapi_crons/{module}" for module in group.modules],
        "pytest_add_cli_args_test_selection": [f"tests/{test}" for test in group.tests],
        "pytest_add_cli_args": ["-pno:cacheprovider", "-pno:randomly", "--timeout=20", "--hypothesis-profile=mutants"],
        # What is said is read in `tests/unit/messages.txt`.
        "do_not_mutate_patterns": [r"logger\.\w+", r"raise \w+"],
    }
    lines = [f"{name} = {value!r}" for name, value in settings.items()]
    switches = ["use_setproctitle = false", "track_dependencies = false", "use_git_change_detection = false"]
    # Each mutant begins with empty caches: what an expression means is kept, and would be taken from the run without mutants.
    switches.append("process_isolation = 'forkserver'")
    (folder / "pyproject.toml").write_text(
        "\n".join(["[tool.mutmut]", *lines, *switches, "", pytest]), encoding="utf-8"
    )


def mutmut(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "mutmut", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        # A test fails without any mutant, or takes too long.
        raise SystemExit(f"mutmut {arguments[0]} failed: {done.stdout[-5_000:]}{done.stderr[-5_000:]}")
    return done.stdout


def mutant_of(folder: Path, name: str) -> Mutant:
    """What mutmut changed under this name."""
    lines = mutmut(folder, "show", name).splitlines()
    old = " ".join(line[1:].strip() for line in lines if re.match(r"-(?!--)", line))
    new = " ".join(line[1:].strip() for line in lines if re.match(r"\+(?!\+\+)", line))
    module, _, function = re.sub(r"__mutmut_\d+$", "", name).rpartition(".")
    return Mutant(f"{module}.{re.sub('^x_?', '', function).strip('ǁ').replace('ǁ', '.')}", old, new)


def run(folder: Path, name: str, group: Group) -> bool:
    """Try all mutants of a group; whether enough of them were killed."""
    prepare(folder, group)
    mutmut(folder, "run", "--max-children", "1")
    found = dict(re.findall(r"^\s+(\S+): (.+)$", mutmut(folder, "results", "--all", "true"), re.MULTILINE))
    living = {each: mutant_of(folder, each) for each, what in found.items() if what not in KILLED}
    equal = {each for each, mutant in living.items() if mutant in known()}
    changed, alive = len(found) - len(equal), len(living) - len(equal)
    share = (changed - alive) / changed if changed else 0.0
    print(f"{name}: {changed - alive} of {changed} killed ({share:.1%}), {len(equal)} change nothing")
    for each, mutant in living.items():
        if each not in equal:
            print(f"\n{mutant.function}\n- {mutant.old}\n+ {mutant.new}")
    return share >= ENOUGH


def main(folder: str, *names: str) -> int:
    done = [run(Path(folder) / name, name, GROUPS[name]) for name in names or GROUPS]
    return 0 if all(done) else 1


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
