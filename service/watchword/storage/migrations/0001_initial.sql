-- Distributed by slot: users, sessions, user_roles, registrations, challenges, outbox.
-- By value: identifiers. Reference tables: roles, role_permissions.

CREATE TABLE users (
    slot smallint NOT NULL CHECK (slot BETWEEN 0 AND 4095),
    id uuid NOT NULL,
    full_name text NOT NULL,
    username text NOT NULL,
    email text NOT NULL,
    locale text,
    state text NOT NULL CHECK (state IN ('active', 'disabled')),
    -- Sessions below it are dead.
    auth_epoch bigint NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    PRIMARY KEY (slot, id)
);

-- The only global uniqueness: an e-mail address (its account key) or a username leads to a user,
-- or a username is held for a subject until its registration ends.
CREATE TABLE identifiers (
    kind text NOT NULL CHECK (kind IN ('email', 'username')),
    value text NOT NULL,
    user_id uuid,
    hold_subject_key bytea,
    -- Microseconds since 1970: ON CONFLICT compares it with immutable arithmetic.
    hold_expire_us bigint,
    PRIMARY KEY (kind, value),
    CHECK ((user_id IS NULL) = (hold_subject_key IS NOT NULL)),
    CHECK ((hold_subject_key IS NULL) = (hold_expire_us IS NULL))
);

-- Slot of the subject.
CREATE TABLE registrations (
    slot smallint NOT NULL CHECK (slot BETWEEN 0 AND 4095),
    id uuid NOT NULL,
    subject_key bytea NOT NULL,
    -- The id of the account that this may become; its slot is another.
    user_id uuid NOT NULL,
    full_name text NOT NULL,
    username text NOT NULL,
    email text NOT NULL,
    locale text,
    create_time timestamptz NOT NULL,
    expire_time timestamptz NOT NULL,
    PRIMARY KEY (slot, id)
);
CREATE INDEX registrations_subject ON registrations (slot, subject_key, create_time DESC);

-- Slot of the subject. The code is derived from these columns and a key that is not here.
CREATE TABLE challenges (
    slot smallint NOT NULL CHECK (slot BETWEEN 0 AND 4095),
    id uuid NOT NULL,
    purpose text NOT NULL,
    subject_key bytea NOT NULL,
    nonce bytea NOT NULL,
    key_id smallint NOT NULL,
    -- 6..10: so many digits; 13: so many characters of base32.
    code_form smallint NOT NULL,
    attempts smallint NOT NULL,
    attempts_by_email smallint NOT NULL,
    -- Both absent: a shadow, which mails nothing and signs nobody in.
    user_id uuid,
    registration_id uuid,
    create_time timestamptz NOT NULL,
    expire_time timestamptz NOT NULL,
    consume_time timestamptz,
    end_time timestamptz,
    PRIMARY KEY (slot, id)
);
CREATE INDEX challenges_subject ON challenges (slot, subject_key, expire_time);

-- Slot of the user.
CREATE TABLE sessions (
    slot smallint NOT NULL CHECK (slot BETWEEN 0 AND 4095),
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    -- HMAC of session id and secret; the token can't be made from it.
    verifier bytea NOT NULL,
    key_id smallint NOT NULL,
    epoch bigint NOT NULL,
    client_ip text,
    client_user_agent text,
    client_device_name text,
    create_time timestamptz NOT NULL,
    auth_time timestamptz NOT NULL,
    expire_time timestamptz NOT NULL,
    revoke_time timestamptz,
    PRIMARY KEY (slot, id),
    FOREIGN KEY (slot, user_id) REFERENCES users (slot, id) ON DELETE CASCADE
);
CREATE INDEX sessions_user ON sessions (slot, user_id);

CREATE TABLE roles (
    name text PRIMARY KEY,
    create_time timestamptz NOT NULL
);

CREATE TABLE role_permissions (
    role text NOT NULL REFERENCES roles (name) ON DELETE CASCADE,
    permission text NOT NULL,
    PRIMARY KEY (role, permission)
);

-- Slot of the user. No foreign key to roles: it is a reference table.
CREATE TABLE user_roles (
    slot smallint NOT NULL CHECK (slot BETWEEN 0 AND 4095),
    user_id uuid NOT NULL,
    role text NOT NULL,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (slot, user_id, role),
    FOREIGN KEY (slot, user_id) REFERENCES users (slot, id) ON DELETE CASCADE
);

-- Slot of the challenge. Holds references: no code, no address, no rendered mail.
CREATE TABLE outbox (
    slot smallint NOT NULL CHECK (slot BETWEEN 0 AND 4095),
    id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('otp')),
    challenge_id uuid NOT NULL,
    locale text,
    state text NOT NULL CHECK (state IN ('pending', 'sent', 'dropped')),
    attempts integer NOT NULL,
    create_time timestamptz NOT NULL,
    next_time timestamptz NOT NULL,
    lease_id uuid,
    lease_expire_time timestamptz,
    end_time timestamptz,
    PRIMARY KEY (slot, id),
    FOREIGN KEY (slot, challenge_id) REFERENCES challenges (slot, id) ON DELETE CASCADE
);
CREATE INDEX outbox_due ON outbox (next_time) WHERE state = 'pending';
