-- Distributed by slot: subject_budgets.

-- How often codes for a subject were compared and not right; no account is needed for it.
CREATE TABLE subject_budgets (
    slot smallint NOT NULL CHECK (slot BETWEEN 0 AND 4095),
    subject_key bytea NOT NULL,
    -- One entry a failure, the newest first, in microseconds since 1970: ON CONFLICT compares them
    -- with immutable arithmetic. What the budget allows in 30 days is all that is kept.
    failures bigint[] NOT NULL,
    -- Those of the lane by e-mail; they stand in `failures` too.
    failures_by_email bigint[] NOT NULL,
    -- Since the last success.
    in_a_row integer NOT NULL,
    in_a_row_by_email integer NOT NULL,
    charge_time timestamptz NOT NULL,
    PRIMARY KEY (slot, subject_key)
);
CREATE INDEX subject_budgets_charge ON subject_budgets (charge_time);
