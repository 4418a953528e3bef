PRAGMA user_version = 6;
BEGIN TRANSACTION;
CREATE TABLE crons_layout (version INTEGER NOT NULL, compatible_from INTEGER NOT NULL);
INSERT INTO "crons_layout" VALUES(6,1);
CREATE TABLE job_event (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL, record_id TEXT NOT NULL, told_ts REAL NOT NULL);
CREATE TABLE job_listener (id TEXT PRIMARY KEY, namespace TEXT NOT NULL, until_ts REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE job_missed (
            id TEXT PRIMARY KEY, job TEXT NOT NULL, first_ts INTEGER NOT NULL, last_ts INTEGER NOT NULL,
            count INTEGER NOT NULL, reason TEXT NOT NULL, recorded_ts REAL NOT NULL, instance TEXT NOT NULL,
            more INTEGER NOT NULL, detail TEXT) WITHOUT ROWID;
INSERT INTO "job_missed" VALUES('019b8a1e-4c00-7002-89d4-871f54d88452','hourly',1767182400,1767268800,25,'paused',1767268800.0,'web-1',0,NULL);
INSERT INTO "job_missed" VALUES('019b8a1e-4c00-700c-89d4-871f54d8845c','other/hourly',1767182400,1767268800,25,'paused',1767268800.0,'web-1',0,NULL);
CREATE TABLE job_run (
            id TEXT PRIMARY KEY, job TEXT NOT NULL, tick_ts INTEGER, trigger TEXT NOT NULL, attempt INTEGER NOT NULL,
            instance TEXT NOT NULL, token INTEGER NOT NULL, status TEXT NOT NULL, started_ts REAL NOT NULL, ended_ts REAL,
            error_type TEXT, error_message TEXT, error_traceback TEXT, result TEXT, missed_ticks INTEGER NOT NULL,
            missed_since_ts INTEGER, actor TEXT, note TEXT, beside TEXT, log TEXT, log_dropped INTEGER NOT NULL, delay TEXT, waited REAL NOT NULL DEFAULT 0, arguments_json TEXT)
            WITHOUT ROWID;
INSERT INTO "job_run" VALUES('019b796d-d600-7000-ae36-b01860922237','nightly',1767268800,'schedule',1,'web-1',0,'completed',1767268800.0,1767268802.0,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,NULL,0.0,NULL);
INSERT INTO "job_run" VALUES('019b7bd0-3000-7000-8bea-8c787d6f3fe6','nightly',1767308800,'schedule',1,'web-1',1,'failed',1767308800.0,1767308801.0,'ValueError','no','Traceback',NULL,0,NULL,NULL,NULL,NULL,NULL,0,NULL,0.0,NULL);
INSERT INTO "job_run" VALUES('019b7e32-8a00-7000-a0e6-66fcfadaaa1c','nightly',1767348800,'schedule',1,'web-1',2,'cancelled',1767348800.0,1767348801.0,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,NULL,0.0,NULL);
INSERT INTO "job_run" VALUES('019b8094-e400-7000-8fc8-5f68505b284e','hourly',1767388800,'schedule',1,'web-1',3,'completed',1767388800.0,1767388800.25,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,NULL,0.0,NULL);
INSERT INTO "job_run" VALUES('019b82f7-3e00-7000-8110-fc92aa6a3348','hourly',1767428800,'schedule',1,'web-1',4,'completed',1767428800.0,1767428860.0,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,NULL,0.0,NULL);
INSERT INTO "job_run" VALUES('019b8559-9800-7000-a414-a6eecba3e301','hourly',1767468800,'schedule',1,'web-1',5,'timed_out',1767468800.0,1767468803.0,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,NULL,0.0,NULL);
INSERT INTO "job_run" VALUES('019b87bb-f200-7000-9ccd-cf6e1a34f2f4','hourly',1767508800,'schedule',1,'web-1',6,'interrupted',1767508800.0,1767508803.0,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,NULL,0.0,NULL);
INSERT INTO "job_run" VALUES('019b8a1e-4c00-7000-89d4-871f54d88450','new',1767548800,'schedule',1,'web-1',7,'failed',1767548800.0,1767548803.0,'ValueError','no','Traceback',NULL,0,NULL,NULL,NULL,NULL,NULL,0,NULL,0.0,NULL);
INSERT INTO "job_run" VALUES('019b8a1e-4c00-7001-89d4-871f54d88451','hourly',1767268800,'schedule',1,'web-1',9,'running',1767668800.0,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,NULL,0.0,NULL);
INSERT INTO "job_run" VALUES('019b8a1e-4c00-7003-89d4-871f54d88453','other/nightly',1767268800,'schedule',1,'web-1',0,'completed',1767268800.0,1767268802.0,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,NULL,0.0,NULL);
INSERT INTO "job_run" VALUES('019b8a1e-4c00-7004-89d4-871f54d88454','other/nightly',1767308800,'schedule',1,'web-1',1,'failed',1767308800.0,1767308801.0,'ValueError','no','Traceback',NULL,0,NULL,NULL,NULL,NULL,NULL,0,NULL,0.0,NULL);
INSERT INTO "job_run" VALUES('019b8a1e-4c00-7005-89d4-871f54d88455','other/nightly',1767348800,'schedule',1,'web-1',2,'cancelled',1767348800.0,1767348801.0,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,NULL,0.0,NULL);
INSERT INTO "job_run" VALUES('019b8a1e-4c00-7006-89d4-871f54d88456','other/hourly',1767388800,'schedule',1,'web-1',3,'completed',1767388800.0,1767388800.25,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,NULL,0.0,NULL);
INSERT INTO "job_run" VALUES('019b8a1e-4c00-7007-89d4-871f54d88457','other/hourly',1767428800,'schedule',1,'web-1',4,'completed',1767428800.0,1767428860.0,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,NULL,0.0,NULL);
INSERT INTO "job_run" VALUES('019b8a1e-4c00-7008-89d4-871f54d88458','other/hourly',1767468800,'schedule',1,'web-1',5,'timed_out',1767468800.0,1767468803.0,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,NULL,0.0,NULL);
INSERT INTO "job_run" VALUES('019b8a1e-4c00-7009-89d4-871f54d88459','other/hourly',1767508800,'schedule',1,'web-1',6,'interrupted',1767508800.0,1767508803.0,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,NULL,0.0,NULL);
INSERT INTO "job_run" VALUES('019b8a1e-4c00-700a-89d4-871f54d8845a','other/new',1767548800,'schedule',1,'web-1',7,'failed',1767548800.0,1767548803.0,'ValueError','no','Traceback',NULL,0,NULL,NULL,NULL,NULL,NULL,0,NULL,0.0,NULL);
INSERT INTO "job_run" VALUES('019b8a1e-4c00-700b-89d4-871f54d8845b','other/hourly',1767268800,'schedule',1,'web-1',9,'running',1767668800.0,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,NULL,0.0,NULL);
CREATE TABLE job_state (
            name TEXT PRIMARY KEY, last_run TEXT, created_at TEXT, updated_at TEXT);
INSERT INTO "job_state" VALUES('nightly','2026-01-02T10:13:20.000+00:00','2026-01-01T12:00:00.000+00:00','2026-01-02T10:13:21.000+00:00');
INSERT INTO "job_state" VALUES('hourly','2026-01-06T03:06:40.000+00:00','2026-01-02T21:20:00.000+00:00','2026-01-06T03:06:40.000+00:00');
INSERT INTO "job_state" VALUES('new','2026-01-04T17:46:40.000+00:00','2026-01-04T17:46:40.000+00:00','2026-01-04T17:46:43.000+00:00');
INSERT INTO "job_state" VALUES('other/nightly','2026-01-02T10:13:20.000+00:00','2026-01-01T12:00:00.000+00:00','2026-01-02T10:13:21.000+00:00');
INSERT INTO "job_state" VALUES('other/hourly','2026-01-06T03:06:40.000+00:00','2026-01-02T21:20:00.000+00:00','2026-01-06T03:06:40.000+00:00');
INSERT INTO "job_state" VALUES('other/new','2026-01-04T17:46:40.000+00:00','2026-01-04T17:46:40.000+00:00','2026-01-04T17:46:43.000+00:00');
CREATE TABLE job_status (
            name TEXT PRIMARY KEY, status TEXT, instance_id TEXT, started_at TEXT);
INSERT INTO "job_status" VALUES('nightly','cancelled','web-1','2026-01-02T10:13:20.000+00:00');
INSERT INTO "job_status" VALUES('hourly','running','web-1','2026-01-06T03:06:40.000+00:00');
INSERT INTO "job_status" VALUES('new','failed','web-1','2026-01-04T17:46:40.000+00:00');
INSERT INTO "job_status" VALUES('other/nightly','cancelled','web-1','2026-01-02T10:13:20.000+00:00');
INSERT INTO "job_status" VALUES('other/hourly','running','web-1','2026-01-06T03:06:40.000+00:00');
INSERT INTO "job_status" VALUES('other/new','failed','web-1','2026-01-04T17:46:40.000+00:00');
CREATE TABLE lock_instance (
            owner TEXT PRIMARY KEY, id TEXT NOT NULL, namespace TEXT NOT NULL, host TEXT NOT NULL, boot TEXT NOT NULL,
            pid INTEGER NOT NULL, pid_started TEXT NOT NULL, started_ts REAL NOT NULL, heartbeat_ts REAL NOT NULL, version TEXT NOT NULL DEFAULT '', running INTEGER NOT NULL DEFAULT 0, jobs TEXT NOT NULL DEFAULT '')
            WITHOUT ROWID;
CREATE TABLE lock_job (
            name TEXT PRIMARY KEY, schedule TEXT NOT NULL, timezone TEXT NOT NULL, function TEXT NOT NULL,
            enabled INTEGER NOT NULL, registrars TEXT NOT NULL, mark INTEGER NOT NULL, since REAL NOT NULL,
            token INTEGER NOT NULL, paused_since REAL, paused_by TEXT, paused_note TEXT, registered_ts REAL NOT NULL DEFAULT 0, settled_at REAL NOT NULL DEFAULT 0, arguments TEXT) WITHOUT ROWID;
CREATE TABLE lock_lease (
            run_id TEXT PRIMARY KEY, job TEXT NOT NULL, tick INTEGER, instance TEXT NOT NULL, token INTEGER NOT NULL,
            attempt INTEGER NOT NULL, expires REAL NOT NULL, after INTEGER NOT NULL, let_go TEXT, schedule TEXT NOT NULL,
            timezone TEXT NOT NULL, namespace TEXT NOT NULL, cancel INTEGER NOT NULL DEFAULT 0, cancelled_by TEXT)
            WITHOUT ROWID;
CREATE INDEX job_run_by_job ON job_run (job, id);
CREATE INDEX job_run_unfinished ON job_run (job) WHERE status = 'running';
CREATE INDEX job_missed_by_job ON job_missed (job, id);
CREATE INDEX lock_job_paused ON lock_job (name) WHERE paused_since IS NOT NULL;
CREATE INDEX lock_lease_by_job ON lock_lease (job);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('job_event',0);
COMMIT;
