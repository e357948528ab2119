-- Another address for a user, proved before it is taken. Slot of the user. One that was taken is kept
-- until the old address has been told, and ends with the notice.
CREATE TABLE email_changes (
    slot smallint NOT NULL CHECK (slot BETWEEN 0 AND 4095),
    user_id uuid NOT NULL,
    -- The id of the challenge by which the new address is proved; its slot is another.
    id uuid NOT NULL,
    new_email text NOT NULL,
    -- From the change on.
    old_email text,
    expire_time timestamptz NOT NULL,
    PRIMARY KEY (slot, user_id, id),
    FOREIGN KEY (slot, user_id) REFERENCES users (slot, id) ON DELETE CASCADE
);
CREATE INDEX email_changes_expire ON email_changes (expire_time);

-- Whose address a challenge changes. Not user_id: an older program signs that user in, and mails the
-- code to the old address.
ALTER TABLE challenges ADD COLUMN changes_user_id uuid;

-- A mail without a code has no challenge and the slot of its user; an older program leaves it alone.
ALTER TABLE outbox
    ALTER COLUMN challenge_id DROP NOT NULL,
    ADD COLUMN user_id uuid,
    ADD COLUMN email_change_id uuid,
    DROP CONSTRAINT outbox_kind_check,
    ADD CONSTRAINT outbox_kind_check CHECK (kind IN ('otp', 'email_changed')),
    ADD CONSTRAINT outbox_reference_check CHECK (
        kind = 'otp' AND challenge_id IS NOT NULL
            AND user_id IS NULL AND email_change_id IS NULL
        OR kind = 'email_changed' AND challenge_id IS NULL
            AND user_id IS NOT NULL AND email_change_id IS NOT NULL),
    ADD FOREIGN KEY (slot, user_id, email_change_id)
        REFERENCES email_changes (slot, user_id, id) ON DELETE CASCADE;
CREATE INDEX outbox_email_change ON outbox (slot, user_id, email_change_id)
    WHERE email_change_id IS NOT NULL;
