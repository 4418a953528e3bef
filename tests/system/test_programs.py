"""Programs that are forked behave as those that an interpreter is started for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import Program, run
from tests.support import until

pytestmark = pytest.mark.slow

LOOK = "import os, sys; print(sys.argv, sys.path[:2], __name__, os.getcwd(), os.getppid(), vars().get('__file__'))"
SPAWN = """
import multiprocessing
if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=print, args=("spawned",))
    process.start()
    process.join()
"""


@pytest.mark.parametrize(
    "words",
    [
        ["-c", LOOK, "a", "-m"],
        ["look.py", "a", "-c"],
        ["-m", "look", "a"],
        ["-m", "nowhere"],
        ["-c", "input()"],
        ["-c", "1 / 0"],
        ["-c", "import sys; sys.exit('a reason')"],
        ["-c", "import atexit; atexit.register(print, 'end'); raise SystemExit(3)"],
        ["-c", "raise KeyboardInterrupt"],
        ["-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"],
        ["-W", "error", "-c", "import warnings; warnings.warn('said')"],
        ["-c", "import os; print(os.environ['WANTED'], 'UNWANTED' in os.environ)"],
        ["-c", SPAWN],
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_a_program_does_and_says_the_same(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("look.py").write_text(LOOK)
    monkeypatch.setenv("UNWANTED", "")
    run([sys.executable, "-c", ""])
    monkeypatch.delenv("UNWANTED")
    monkeypatch.setenv("WANTED", "here")
    command = [sys.executable, *words]
    started = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    forked = run(command, stdin=subprocess.DEVNULL)
    assert (forked.returncode, forked.stdout) == (started.returncode, started.stdout)
    # Which of the frames before the program are shown, and that is all.
    assert forked.stderr.splitlines()[-1:] == started.stderr.splitlines()[-1:]
    assert "forking.py" not in forked.stderr


def test_a_program_is_a_child_that_is_ended_as_any_other() -> None:
    with Path("log.txt").open("w") as log:
        program = Program([sys.executable, "-c", "import time; print('on', flush=True); time.sleep(60)"], stdout=log)
    until(lambda: Path("log.txt").read_text() == "on\n")
    assert program.poll() is None
    program.terminate()
    assert program.wait(30) == -15
