-- Distributed by slot: of the user whom it concerns, of the subject or challenge of a refused code,
-- otherwise 0.

CREATE TABLE audit_events (
    slot smallint NOT NULL CHECK (slot BETWEEN 0 AND 4095),
    -- When it was stored: refusals were counted up to then.
    at timestamptz NOT NULL,
    id uuid NOT NULL,
    action text NOT NULL,
    -- `ok`, or why it was refused.
    outcome text NOT NULL,
    -- A caller's name, `cli` or `unknown`; absent when refusals of several are counted in one event.
    actor text,
    -- The account that acted or was changed. No foreign key: an event outlives what it tells of.
    user_id uuid,
    target_kind text,
    target_id text,
    client_ip text,
    client_user_agent text,
    client_device_name text,
    count integer NOT NULL CHECK (count > 0),
    PRIMARY KEY (slot, at, id),
    CHECK ((target_kind IS NULL) = (target_id IS NULL))
);

-- For a listing of everybody's events, and for the purge.
CREATE INDEX audit_events_at ON audit_events (at, id);
