"""Removing what has been dead for a while; design.md 5 has the form of the statements.

Each finds a batch by an index, the longest dead first, and repeats the whole condition outside the
sub-select: at READ COMMITTED that is what a row is asked again that changed while its lock was
waited for. An ended hold may be somebody's live one by then, or a user's name.

IS TRUE hides the repeated condition from the index. PostgreSQL would else rather walk through every
dead row to join the batch with, and the cost of a batch would grow with the backlog. For the same
reason LIMIT is no parameter: a plan for an unknown one reads the whole table.
"""

from datetime import UTC, datetime, timedelta

from watchword.crypto import SLOTS
from watchword.storage.pool import Connection

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
LIMIT_KEY_BYTES = 32


class PurgeStore:
    """Implements watchword.login.ports.PurgeStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    PRESENT = "SELECT now()"

    async def present(self) -> datetime:
        present: datetime = await self._connection.fetchval(self.PRESENT)
        return present

    # sql-rules: all slots (purge)
    CHALLENGES = """
        DELETE FROM challenges
        WHERE (slot, id) IN (
            SELECT slot, id
            FROM challenges
            WHERE expire_time < $1
            ORDER BY expire_time
            LIMIT 100
        )
          AND (expire_time < $1) IS TRUE
    """

    async def challenges(self, *, dead_before: datetime) -> int:
        return await self._remove(self.CHALLENGES, dead_before)

    # sql-rules: all slots (purge)
    EMAIL_CHANGES = """
        DELETE FROM email_changes
        WHERE (slot, user_id, id) IN (
            SELECT slot, user_id, id
            FROM email_changes
            WHERE expire_time < $1
            ORDER BY expire_time
            LIMIT 100
        )
          AND (expire_time < $1) IS TRUE
    """

    async def email_changes(self, *, dead_before: datetime) -> int:
        return await self._remove(self.EMAIL_CHANGES, dead_before)

    # sql-rules: all slots (purge)
    BUDGETS = """
        DELETE FROM subject_budgets
        WHERE (slot, subject_key) IN (
            SELECT slot, subject_key
            FROM subject_budgets
            WHERE charge_time < $1
            ORDER BY charge_time
            LIMIT 100
        )
          AND (charge_time < $1) IS TRUE
    """

    async def budgets(self, *, dead_before: datetime) -> int:
        return await self._remove(self.BUDGETS, dead_before)

    # sql-rules: all slots (purge)
    SETTLED_BUDGETS = """
        DELETE FROM subject_budgets
        WHERE (slot, subject_key) IN (
            SELECT slot, subject_key
            FROM subject_budgets
            WHERE charge_time < $1 AND in_a_row = 0
            ORDER BY charge_time
            LIMIT 100
        )
          AND (charge_time < $1 AND in_a_row = 0) IS TRUE
    """

    async def settled_budgets(self, *, dead_before: datetime) -> int:
        return await self._remove(self.SETTLED_BUDGETS, dead_before)

    # sql-rules: all slots (purge)
    REGISTRATIONS = """
        DELETE FROM registrations
        WHERE (slot, id) IN (
            SELECT slot, id
            FROM registrations
            WHERE expire_time < $1
            ORDER BY expire_time
            LIMIT 100
        )
          AND (expire_time < $1) IS TRUE
    """

    async def registrations(self, *, dead_before: datetime) -> int:
        return await self._remove(self.REGISTRATIONS, dead_before)

    HOLDS = """
        DELETE FROM identifiers
        WHERE (kind, value) IN (
            SELECT kind, value
            FROM identifiers
            WHERE user_id IS NULL AND hold_expire_us < $1
            ORDER BY hold_expire_us
            LIMIT 100
        )
          AND (user_id IS NULL AND hold_expire_us < $1) IS TRUE
    """

    async def holds(self, *, dead_before: datetime) -> int:
        return await self._remove(self.HOLDS, _microseconds(dead_before))

    # sql-rules: all slots (purge)
    EXPIRED_SESSIONS = """
        DELETE FROM sessions
        WHERE (slot, id) IN (
            SELECT slot, id
            FROM sessions
            WHERE expire_time < $1
            ORDER BY expire_time
            LIMIT 100
        )
          AND (expire_time < $1) IS TRUE
    """

    async def expired_sessions(self, *, dead_before: datetime) -> int:
        return await self._remove(self.EXPIRED_SESSIONS, dead_before)

    # sql-rules: all slots (purge)
    REVOKED_SESSIONS = """
        DELETE FROM sessions
        WHERE (slot, id) IN (
            SELECT slot, id
            FROM sessions
            WHERE revoke_time < $1
            ORDER BY revoke_time
            LIMIT 100
        )
          AND (revoke_time < $1) IS TRUE
    """

    async def revoked_sessions(self, *, dead_before: datetime) -> int:
        return await self._remove(self.REVOKED_SESSIONS, dead_before)

    # $1 slot, $2 since when they are dead. No index leads to them: an epoch is raised seldom and a
    # slot holds few users. Raising it was no later than the user's last change.
    OUTDATED_SESSIONS = """
        DELETE FROM sessions AS s
        USING users AS u
        WHERE s.slot = $1 AND s.id IN (
            SELECT s.id
            FROM sessions AS s
            JOIN users AS u ON u.slot = $1 AND u.id = s.user_id
            WHERE s.slot = $1 AND s.epoch < u.auth_epoch AND u.update_time < $2
            LIMIT 100
        )
          AND u.slot = $1 AND u.id = s.user_id
          AND s.epoch < u.auth_epoch AND u.update_time < $2
    """

    async def outdated_sessions(self, slot: int, *, dead_before: datetime) -> int:
        return await self._remove(self.OUTDATED_SESSIONS, slot, dead_before)

    ORPHANED_ROLES = """
        DELETE FROM user_roles AS r
        WHERE r.slot = $1 AND (r.user_id, r.role) IN (
            SELECT r.user_id, r.role
            FROM user_roles AS r
            WHERE r.slot = $1 AND NOT EXISTS (SELECT 1 FROM roles AS o WHERE o.name = r.role)
            LIMIT 100
        )
          AND NOT EXISTS (SELECT 1 FROM roles AS o WHERE o.name = r.role)
    """

    async def orphaned_roles(self, slot: int) -> int:
        return await self._remove(self.ORPHANED_ROLES, slot)

    # sql-rules: all slots (purge)
    AUDIT_EVENTS = """
        DELETE FROM audit_events
        WHERE (slot, at, id) IN (
            SELECT slot, at, id
            FROM audit_events
            WHERE at < $1
            ORDER BY at
            LIMIT 100
        )
          AND (at < $1) IS TRUE
    """

    async def audit_events(self, *, dead_before: datetime) -> int:
        return await self._remove(self.AUDIT_EVENTS, dead_before)

    # sql-rules: all slots (purge)
    CHANGES = """
        DELETE FROM changes
        WHERE (slot, at, id) IN (
            SELECT slot, at, id
            FROM changes
            WHERE at < $1
            ORDER BY at
            LIMIT 100
        )
          AND (at < $1) IS TRUE
    """

    async def changes(self, *, dead_before: datetime) -> int:
        return await self._remove(self.CHANGES, dead_before)

    # $1 and $2 the range of keys, $3 microseconds since 1970. Keys are hashes, so that ranges are
    # alike; an index on the times would cost each count a second write.
    DRAINED_LIMITS = """
        DELETE FROM rate_limits
        WHERE key IN (
            SELECT key
            FROM rate_limits
            WHERE key >= $1 AND key < $2 AND GREATEST(tat1_us, tat2_us, tat3_us) < $3
            LIMIT 100
        )
          AND key >= $1 AND key < $2 AND GREATEST(tat1_us, tat2_us, tat3_us) < $3
    """

    async def drained_limits(self, slot: int, *, dead_before: datetime) -> int:
        return await self._remove(
            self.DRAINED_LIMITS, _key_from(slot), _key_from(slot + 1), _microseconds(dead_before)
        )

    async def _remove(self, statement: str, *arguments: object) -> int:
        status = await self._connection.execute(statement, *arguments)
        return int(status.removeprefix("DELETE "))


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def _key_from(slot: int) -> bytes:
    """Returns the least key whose high 12 bits are the slot; for 4096 what is above every key."""
    return (slot << 4).to_bytes(2, "big") if slot < SLOTS else b"\xff" * (LIMIT_KEY_BYTES + 1)
