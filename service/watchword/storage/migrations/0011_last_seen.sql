-- When a session was last used, minutes late at most. What is there already counts as seen now, so
-- that nobody is signed out by the migration, and so does what an older program still inserts.
ALTER TABLE sessions ADD COLUMN last_seen_time timestamptz NOT NULL DEFAULT now();
