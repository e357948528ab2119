-- What tells every replica that something cached is out of date. Distributed by slot: of the user who
-- changed, otherwise 0, so that a change and what it tells of commit in one phase.

CREATE TABLE changes (
    slot smallint NOT NULL CHECK (slot BETWEEN 0 AND 4095),
    -- The start of the transaction; it may commit seconds later.
    at timestamptz NOT NULL,
    id uuid NOT NULL,
    kind text NOT NULL
        CHECK (kind IN ('user', 'session', 'role', 'service_key', 'installation')),
    user_id uuid,
    session_id uuid,
    role text,
    -- Of the user, after the change: what was read at an older version is out of date.
    epoch bigint,
    version bigint,
    -- The session has ended for good.
    revoked boolean NOT NULL,
    PRIMARY KEY (slot, at, id)
);

-- For the poll and the purge.
CREATE INDEX changes_at ON changes (at, id);

-- Raised by every change of the user, of the roles held and of a session.
ALTER TABLE users ADD COLUMN version bigint NOT NULL DEFAULT 0;
