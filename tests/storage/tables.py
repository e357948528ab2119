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
        "email_changes",
        "outbox",
        "audit_events",
        "changes",
    }
)
# By a column of their own.
BY_COLUMN = {"identifiers": "value", "rate_limits": "key", "failure_counts": "stripe"}
# A copy on every node, written seldom.
REFERENCE = frozenset(
    {"installation", "roles", "role_permissions", "schema_migrations", "service_keys"}
)

# A statement on all slots costs every shard: one more here is a decision.
ALL_SLOTS = frozenset(
    {
        "audit.py:AuditStore.LAST_LOOKED_AT",
        "audit.py:AuditStore.LIST_ALL",
        "changes.py:ChangeFeed.READ",
        "inspection.py:Inspection.OUTBOX",
        "outbox.py:OutboxStore.CANDIDATES",
        "purge.py:PurgeStore.AUDIT_EVENTS",
        "purge.py:PurgeStore.BUDGETS",
        "purge.py:PurgeStore.CHALLENGES",
        "purge.py:PurgeStore.CHANGES",
        "purge.py:PurgeStore.EMAIL_CHANGES",
        "purge.py:PurgeStore.EXPIRED_SESSIONS",
        "purge.py:PurgeStore.REGISTRATIONS",
        "purge.py:PurgeStore.REVOKED_SESSIONS",
        "purge.py:PurgeStore.SETTLED_BUDGETS",
        "roles.py:RoleStore.REMOVE_ORPHANS",
        "user_lists.py:UserListStore.END_HOLDERS",
        "user_lists.py:UserListStore.LIST_ACTIVE",
        "user_lists.py:UserListStore.LIST_ALL",
        "user_lists.py:UserListStore.LIST_DISABLED",
        "user_lists.py:UserListStore.LIST_HOLDERS",
    }
)
