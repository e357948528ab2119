-- What the purger finds dead rows by; storage/purge.py has the statements.

CREATE INDEX challenges_expire ON challenges (expire_time);
CREATE INDEX registrations_expire ON registrations (expire_time);
CREATE INDEX identifiers_hold_expire ON identifiers (hold_expire_us)
    WHERE hold_expire_us IS NOT NULL;
CREATE INDEX sessions_expire ON sessions (expire_time);
CREATE INDEX sessions_revoke ON sessions (revoke_time) WHERE revoke_time IS NOT NULL;

-- A purged challenge takes its mails along. Without the slot: ids begin with their time, so new ones
-- go to the right end of the index.
CREATE INDEX outbox_challenge ON outbox (challenge_id);
