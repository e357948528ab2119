-- A budget with failures in a row outlives its longest window: a guesser who rests for a month must not
-- find the row forgotten. The purge finds the others, which somebody has signed in since, by this.

CREATE INDEX subject_budgets_settled ON subject_budgets (charge_time) WHERE in_a_row = 0;
