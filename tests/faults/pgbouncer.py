"""Real PgBouncer processes in transaction pooling, before a server that tests have started."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import pytest

from tests.faults.postgres_server import USER, PostgresServer, server_account
from tests.faults.redis_server import HOST, free_port
from tests.support import until

if TYPE_CHECKING:
    from typing_extensions import Self


def pgbouncer_program() -> str | None:
    """PgBouncer; None where it is not installed."""
    # Debian keeps it where only root looks.
    return shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")


needs_pgbouncer = pytest.mark.skipif(pgbouncer_program() is None, reason="no PgBouncer is installed")


class PgBouncer:
    """A pooler whose clients get another connection to the server with each transaction."""

    def __init__(self, server: PostgresServer, pool_size: int = 5) -> None:
        self.port = free_port()
        self._account = server_account()
        self.folder = Path(tempfile.mkdtemp(prefix="pgb-"))
        (self.folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={HOST} port={server.port} user={USER}\n[pgbouncer]\nlisten_addr = {HOST}\n"
            f"listen_port = {self.port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n"
            f"default_pool_size = {pool_size}\nserver_round_robin = 1\nmax_client_conn = 200\n"
        )
        if self._account is not None:
            for path in (self.folder, *self.folder.iterdir()):
                shutil.chown(path, self._account)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgresql://{USER}@{HOST}:{self.port}/{database}"

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        program = pgbouncer_program()
        assert program is not None
        log = self.folder / "log"
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [program, self.folder / "pgbouncer.ini"], user=self._account, stdout=output, stderr=output
            )
        until(lambda: b"process up" in log.read_bytes())

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
