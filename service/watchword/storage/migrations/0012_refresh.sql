-- A session's secret is replaced by RefreshSession: generation counts how often, and the secret
-- before the present one is good until previous_end_time, which is there from the first use of the
-- present one on.
ALTER TABLE sessions
    ADD COLUMN generation bigint NOT NULL DEFAULT 0,
    ADD COLUMN previous_verifier bytea,
    ADD COLUMN previous_end_time timestamptz;
