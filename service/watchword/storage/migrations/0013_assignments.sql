-- A role may be held for a while only; who gave it, and why.
ALTER TABLE user_roles
    ADD COLUMN expire_time timestamptz,
    ADD COLUMN granted_by text,
    ADD COLUMN reason text;
