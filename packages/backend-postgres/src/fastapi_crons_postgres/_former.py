"""What fastapi-crons 2.x has left in the database: the last runs of jobs, taken over when our tables are made."""

from __future__ import annotations

#: Copies what the SQLAlchemy backend of 2.x knows of jobs, where its tables are in the same schema. They stay as they are. What
#: can't be read is left out: nothing of it may keep the tables from being made. `{schema}` stands for the quoted schema.
TAKE_OVER = """DO $take_over$
    DECLARE found record;
    BEGIN
        IF to_regclass('{schema}.cron_job_status') IS NULL OR to_regclass('{schema}.cron_job_state') IS NULL THEN
            RETURN;
        END IF;
        PERFORM set_config('TimeZone', 'UTC', true);
        FOR found IN SELECT name, status, instance_id, started_at, last_run
            FROM {schema}.cron_job_status LEFT JOIN {schema}.cron_job_state USING (name)
            WHERE status IN ('running', 'completed', 'failed') AND coalesce(started_at, last_run) IS NOT NULL LOOP
            BEGIN
                INSERT INTO {schema}.crons_state
                    (namespace, job, status, instance, last_run_ts, success_ts, failures)
                VALUES ('default', found.name,
                    -- Nothing else would ever end what was running then.
                    CASE found.status WHEN 'running' THEN 'interrupted' ELSE found.status END,
                    coalesce(found.instance_id, ''),
                    extract(epoch FROM coalesce(found.started_at, found.last_run)::timestamptz),
                    extract(epoch FROM found.last_run::timestamptz),
                    CASE WHEN found.status = 'completed' THEN 0 ELSE 1 END);
            EXCEPTION WHEN OTHERS THEN
                RAISE WARNING 'the last run of job % is not taken over: %', found.name, SQLERRM;
            END;
        END LOOP;
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'the last runs of fastapi-crons 2.x are not taken over: %', SQLERRM;
    END $take_over$"""
