-- The key that signed the token before the present one, which may still be good: a ring keeps it that
-- long. Where it is absent it is the session's key_id: no ring was rolled yet.
ALTER TABLE sessions ADD COLUMN previous_key_id smallint;

-- The cluster that this database was last confirmed to be in, as PostgreSQL tells it, and when that
-- was: a restored backup and a fail-over have another one. Absent until it is recorded.
ALTER TABLE installation
    ADD COLUMN system_identifier bigint,
    ADD COLUMN timeline_id integer,
    ADD COLUMN cluster_confirmed_time timestamptz;
