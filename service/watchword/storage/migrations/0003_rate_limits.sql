-- Distributed by key. Times are bigint microseconds since 1970, since ON CONFLICT may compare only
-- immutable expressions; step and slack are columns for the same reason: EXCLUDED has only columns.

CREATE TABLE rate_limits (
    -- HMAC of what is counted; no address and no mailbox can be read from it.
    key bytea PRIMARY KEY,
    -- Up to three windows, NULL where the key has fewer: when the next unit is due at its pace.
    step1_us bigint,
    slack1_us bigint,
    tat1_us bigint,
    step2_us bigint,
    slack2_us bigint,
    tat2_us bigint,
    step3_us bigint,
    slack3_us bigint,
    tat3_us bigint
);

-- The mailbox that a resend counts for; absent in challenges of older programs.
ALTER TABLE challenges ADD COLUMN mailbox_key bytea;
