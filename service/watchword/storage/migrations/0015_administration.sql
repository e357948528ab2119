-- What AdminService needs beyond what is there.

-- Sessions below it are dead, whoever's: the end of everybody's is one row. An older program begins
-- sessions at 0, which are dead once it was raised.
ALTER TABLE installation ADD COLUMN epoch bigint NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN installation_epoch bigint NOT NULL DEFAULT 0;

-- Keys of callers beside those of the configuration. A reference table: written seldom, read whole.
CREATE TABLE service_keys (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    -- SHA-256 of the secret, which has 256 bits.
    digest bytea NOT NULL UNIQUE,
    scopes text[] NOT NULL,
    create_time timestamptz NOT NULL,
    expire_time timestamptz,
    revoke_time timestamptz,
    -- Since a restore, until somebody has confirmed it.
    suspend_time timestamptz,
    last_used_time timestamptz
);

-- For ListUsers by state and by role.
CREATE INDEX users_disabled ON users (slot, id) WHERE state = 'disabled';
CREATE INDEX user_roles_role ON user_roles (role, slot, user_id);
-- For ListAuditEvents of one user, who may have few events among many of the slot.
CREATE INDEX audit_events_user ON audit_events (slot, user_id, at, id) WHERE user_id IS NOT NULL;
