"""How each table is distributed on Citus (design.md 13); a new table goes into one of these."""

# Together, by slot: what one call changes is on one shard.
BY_SLOT = frozenset(
    {
        "users",
        "sessions",
        "user_roles",
        "registrations",
        "challenges",
        "subject_budgets",
        "outbox",
        "audit_events",
    }
)
# By a column of their own.
BY_COLUMN = {"identifiers": "value", "rate_limits": "key", "failure_counts": "stripe"}
# A copy on every node, written seldom.
REFERENCE = frozenset({"installation", "roles", "role_permissions", "schema_migrations"})
