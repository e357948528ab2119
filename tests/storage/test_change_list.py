"""Which statements make a cached answer wrong: each of them is in one of the two lists here.

A statement that changes what an answer is made of and is in neither fails. Decide: if an answer
that was right before may be wrong after it, its use case puts a change in the same transaction
(login/changes.py), and tests/storage/change_scenarios.py gets a scenario of it.
"""

import pytest
from pglast import ast

from tests.storage.change_scenarios import SCENARIOS
from tests.storage.sql_source import Statement, all_statements
from tests.storage.sql_tree import walk

# What ValidateSession and GetRoles answer from.
ANSWERED_FROM = frozenset({"users", "sessions", "user_roles", "roles", "role_permissions"})

# The statement, and the scenario that shows its change.
WRITES_A_CHANGE = {
    "changes.py:ChangeStore.RAISE_VERSION": "assign",
    "roles.py:RoleStore.ADD_PERMISSIONS": "create role",
    "roles.py:RoleStore.ASSIGN": "assign",
    "roles.py:RoleStore.CREATE": "create role",
    "roles.py:RoleStore.DELETE": "delete role",
    "roles.py:RoleStore.REMOVE_OTHER_PERMISSIONS": "update role",
    "roles.py:RoleStore.UNASSIGN": "unassign",
    "sessions.py:SessionStore.END_OLDEST": "one too many",
    "rotations.py:RotationStore.END_PREVIOUS": "first use",
    "sessions.py:SessionStore.REVOKE": "revoke",
    "sessions.py:SessionStore.REVOKE_ALL": "revoke all",
    "sessions.py:SessionStore.REVOKE_BY_ID": "stolen",
    "sessions.py:SessionStore.REVOKE_OTHERS": "revoke others",
    "rotations.py:RotationStore.ROTATE": "refresh",
    "users.py:UserStore.SET_EMAIL": "another address",
    "users.py:UserStore.SET_STATE": "disable",
    "users.py:UserStore.UPDATE_PROFILE": "update user",
}
NEEDS_NONE = {
    "user_lists.py:UserListStore.END_HOLDERS": "a thousand users, told by one change of everything",
    "roles.py:RoleStore.REMOVE_ORPHANS": "no answer shows an assignment whose role is gone",
    "purge.py:PurgeStore.ORPHANED_ROLES": "no answer shows an assignment whose role is gone",
    "users.py:UserStore.DELETE": "its use case raises the epoch before, with a change",
    "users.py:UserStore.INSERT": "a user who was not there is in no cache",
    "user_files.py:UserFileStore.INSERT": "a user who was not there is in no cache",
    "user_files.py:UserFileStore.GIVE_ROLES": "given to users of the same transaction",
    "sessions.py:SessionStore.INSERT": "a session that was not there is in no cache",
    "sessions.py:SessionStore.NOTE_SEEN": "it puts an end off, which the database is asked for",
    "purge.py:PurgeStore.EXPIRED_SESSIONS": "its end is cached with the session",
    "purge.py:PurgeStore.REVOKED_SESSIONS": "revoked days ago, with a change",
    "purge.py:PurgeStore.OUTDATED_SESSIONS": "its user's epoch was raised days ago, with a change",
}


def mutates(statement: Statement) -> bool:
    """Whether it inserts into, updates or deletes from a table that answers are made of."""
    changes = walk(statement.tree, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt)
    return any(change.relation.relname in ANSWERED_FROM for change in changes)


def test_every_mutation_is_in_one_list() -> None:
    """No statement of storage/ is missing, none is in both, and none that is gone is still there.

    Seen to fail with any one line taken out of the lists.
    """
    found = {str(s) for s in all_statements() if not s.is_migration and mutates(s)}
    assert found == WRITES_A_CHANGE.keys() | NEEDS_NONE.keys()
    assert not WRITES_A_CHANGE.keys() & NEEDS_NONE.keys()


def test_every_change_has_a_scenario() -> None:
    """What the first list promises is tried."""
    assert set(WRITES_A_CHANGE.values()) == set(SCENARIOS)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("WITH a AS (DELETE FROM roles WHERE name = $1) SELECT 1", True),
        ("INSERT INTO user_roles (slot) VALUES ($1) ON CONFLICT DO NOTHING", True),
        ("UPDATE sessions SET revoke_time = now() WHERE slot = $1", True),
        ("SELECT 1 FROM users WHERE slot = $1", False),
        ("DELETE FROM outbox WHERE slot = $1", False),
    ],
)
def test_the_list_sees_mutations(sql: str, expected: bool) -> None:
    """Inside a WITH as well; a statement that only reads such a table is none."""
    assert mutates(Statement("x.py", "X", sql)) is expected
