import time, os
from pathlib import Path
from tests.faults.conftest import Place
from tests.faults.fleet import long_job
O="/tmp/old/packages"
OLD=":".join(f"{O}/{p}/src" for p in ("core","backend-sqlite","cli"))
def test_old_beside_new():
    place=Place("SQLite")
    with place.fleet(jobs=8, extra=long_job()) as fleet:
        a,b=fleet.start(2, PYTHONPATH=OLD, CRON_DISABLED_PLUGINS="redis-lock,redis-state,cli")
        import sqlite3; print(sqlite3.connect("crons.db").execute("select * from crons_layout").fetchall())
        time.sleep(2); since=time.time()
        c,d=fleet.start(2)
        print(sqlite3.connect("crons.db").execute("select * from crons_layout").fetchall())
        time.sleep(6)
        began=fleet.wait_for("long", since=time.time(), pid=c.pid, seconds=40)
        time.sleep(.3); k1=fleet.kill(c)
        again=fleet.wait_for("long", tick=began.tick, attempt=2); print("new killed; rerun after", again.at-k1, again.pid in (a.pid,b.pid))
        began=fleet.wait_for("long", since=time.time(), pid=a.pid, seconds=40)
        time.sleep(.3); k1=fleet.kill(a)
        again=fleet.wait_for("long", tick=began.tick, attempt=2); print("old killed; rerun after", again.at-k1, again.pid==b.pid)
        time.sleep(3)
        until=time.time()-2
        fleet.stop()
        s=fleet.sums(since, until, place.history(fleet)); print(s.row("x",fleet.recovered_at(since))); print(s.shares,[p.pid for p in fleet.processes], s.doubled,s.missed,s.overlapped)
        print(fleet.log.read_text()[-1500:])
