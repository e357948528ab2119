-- The known device that asked for the code, which finds its own challenges before those that others
-- ask for; absent when it was none. A device's own failures are a row of subject_budgets in the
-- slot of its subject, under the device's key in place of the subject's.
ALTER TABLE challenges ADD COLUMN device_key bytea;
