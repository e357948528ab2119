-- Reference table: installation. Distributed by stripe: failure_counts.

-- One row. Until when new codes have 8 digits at least, and until when 13 characters, in
-- microseconds since 1970; the first is never the earlier one.
CREATE TABLE installation (
    id smallint PRIMARY KEY CHECK (id = 1),
    eight_digits_until_us bigint NOT NULL,
    long_codes_until_us bigint NOT NULL
);
INSERT INTO installation (id, eight_digits_until_us, long_codes_until_us) VALUES (1, 0, 0);

-- The wrong codes of everybody, in stripes, so that no row is hot.
CREATE TABLE failure_counts (
    stripe smallint PRIMARY KEY CHECK (stripe BETWEEN 0 AND 15),
    -- 7 buckets of 10 seconds, the newest first; its number is the time divided by 10 seconds.
    tens_number bigint NOT NULL,
    tens integer[] NOT NULL,
    -- 25 buckets of an hour, likewise.
    hours_number bigint NOT NULL,
    hours integer[] NOT NULL
);

-- What was compared while new codes had to be longer than this one.
ALTER TABLE challenges
    ADD COLUMN attempts_after_alarm smallint NOT NULL DEFAULT 0,
    ADD COLUMN attempts_by_email_after_alarm smallint NOT NULL DEFAULT 0;
