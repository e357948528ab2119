-- Mails that a known device asked for go first. The mail of a shadow is there as well, dropped from
-- the start: whoever asks for a code has the same work done, account or not.

ALTER TABLE outbox ADD COLUMN known_device boolean NOT NULL DEFAULT false;
CREATE INDEX outbox_waiting ON outbox (known_device DESC, next_time) WHERE state = 'pending';
DROP INDEX outbox_due;
