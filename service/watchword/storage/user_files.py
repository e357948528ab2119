"""Many users at once: their roles for an export, and what an import asks and makes.

Identifiers are claimed in the order of their values, all addresses before all usernames, and users
after them in the order of their keys: two imports that want the same wait for each other and do not
deadlock.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

from watchword.crypto import slot_of
from watchword.login.user_lines import UserLine
from watchword.roles.model import Assignment
from watchword.storage.pool import Connection


class UserFileStore:
    """Implements watchword.login.ports.UserFileStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    ASSIGNMENTS = """
        SELECT r.user_id, r.role, r.create_time, r.expire_time, r.granted_by, r.reason
        FROM unnest($1::smallint[], $2::uuid[]) AS asked (slot, id)
        JOIN user_roles r ON r.slot = asked.slot AND r.user_id = asked.id
        JOIN roles o ON o.name = r.role
        WHERE r.expire_time IS NULL OR r.expire_time > now()
        ORDER BY r.role COLLATE "C"
    """

    async def assignments_of(self, user_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[Assignment]]:
        slots = [slot_of(user_id) for user_id in user_ids]
        held = defaultdict(list)
        for user_id, *row in await self._connection.fetch(self.ASSIGNMENTS, slots, user_ids):
            held[user_id].append(Assignment(*row))
        return held

    OWNED_EMAILS = """
        SELECT value
        FROM identifiers
        WHERE kind = 'email' AND value = ANY($1::text[])
    """

    async def owned_emails(self, lines: Sequence[UserLine]) -> set[str]:
        keys = [line.email.account_key for line in lines]
        return {row["value"] for row in await self._connection.fetch(self.OWNED_EMAILS, keys)}

    PRESENT_US = "SELECT (extract(epoch FROM now()) * 1000000)::bigint"
    # $1 usernames, $2 the present in microseconds. A hold that is over is nobody's.
    USERNAMES_TAKEN = """
        SELECT value, user_id IS NULL AS held
        FROM identifiers
        WHERE kind = 'username' AND value = ANY($1::text[])
          AND (user_id IS NOT NULL OR hold_expire_us > $2::bigint)
    """

    async def usernames_taken(self, lines: Sequence[UserLine]) -> Mapping[str, bool]:
        present_us = await self._connection.fetchval(self.PRESENT_US)
        names = [line.username for line in lines]
        rows = await self._connection.fetch(self.USERNAMES_TAKEN, names, present_us)
        return {row["value"]: row["held"] for row in rows}

    IDS_TAKEN = """
        SELECT u.id
        FROM unnest($1::smallint[], $2::uuid[]) AS asked (slot, id)
        JOIN users u ON u.slot = asked.slot AND u.id = asked.id
    """

    async def ids_taken(self, lines: Sequence[UserLine]) -> set[UUID]:
        if not lines:
            return set()
        ids = [line.id for line in lines]
        rows = await self._connection.fetch(self.IDS_TAKEN, list(map(slot_of, ids)), ids)
        return {row["id"] for row in rows}

    KNOWN_ROLES = "SELECT name FROM roles WHERE name = ANY($1::text[])"

    async def known_roles(self, lines: Sequence[UserLine]) -> set[str]:
        names = {one.role for line in lines for one in line.roles}
        if not names:
            return names
        rows = await self._connection.fetch(self.KNOWN_ROLES, sorted(names))
        return {row["name"] for row in rows}

    CLAIM_EMAILS = """
        INSERT INTO identifiers (kind, value, user_id)
        SELECT 'email', value, user_id
        FROM unnest($1::text[], $2::uuid[]) AS wanted (value, user_id)
        ORDER BY value COLLATE "C"
        ON CONFLICT (kind, value) DO NOTHING
        RETURNING user_id
    """

    async def claim_emails(self, lines: Sequence[UserLine]) -> Sequence[UserLine]:
        keys = [line.email.account_key for line in lines]
        ids = [line.id for line in lines]
        rows = await self._connection.fetch(self.CLAIM_EMAILS, keys, ids)
        claimed = {row["user_id"] for row in rows}
        return [line for line in lines if line.id in claimed]

    # $1 usernames, $2 user ids, $3 the present in microseconds
    CLAIM_USERNAMES = """
        INSERT INTO identifiers AS held (kind, value, user_id)
        SELECT 'username', value, user_id
        FROM unnest($1::text[], $2::uuid[]) AS wanted (value, user_id)
        ORDER BY value COLLATE "C"
        ON CONFLICT (kind, value) DO UPDATE
        SET user_id = EXCLUDED.user_id, hold_subject_key = NULL, hold_expire_us = NULL
        WHERE held.user_id IS NULL AND held.hold_expire_us <= $3::bigint
        RETURNING user_id
    """

    async def claim_usernames(self, lines: Sequence[UserLine]) -> Sequence[UserLine]:
        present_us = await self._connection.fetchval(self.PRESENT_US)
        names = [line.username for line in lines]
        ids = [line.id for line in lines]
        rows = await self._connection.fetch(self.CLAIM_USERNAMES, names, ids, present_us)
        claimed = {row["user_id"] for row in rows}
        return [line for line in lines if line.id in claimed]

    # Of each column an array: $1 slot, $2 id, $3 full name, $4 username, $5 e-mail, $6 locale,
    # $7 state
    INSERT = """
        INSERT INTO users (slot, id, full_name, username, email, locale, state, auth_epoch,
                           create_time, update_time)
        SELECT slot, id, full_name, username, email, locale, state, 0, now(), now()
        FROM unnest($1::smallint[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[],
                    $7::text[])
            AS wanted (slot, id, full_name, username, email, locale, state)
        ORDER BY slot, id
        ON CONFLICT (slot, id) DO NOTHING
        RETURNING id
    """

    async def insert(self, lines: Sequence[UserLine]) -> Sequence[UserLine]:
        rows = await self._connection.fetch(
            self.INSERT,
            [slot_of(line.id) for line in lines],
            [line.id for line in lines],
            [line.full_name for line in lines],
            [line.username for line in lines],
            [line.email.address for line in lines],
            [line.locale for line in lines],
            [line.state for line in lines],
        )
        inserted = {row["id"] for row in rows}
        return [line for line in lines if line.id in inserted]

    RELEASE_EMAILS = """
        DELETE FROM identifiers
        WHERE kind = 'email' AND value = ANY($1::text[]) AND user_id = ANY($2::uuid[])
    """

    async def release_emails(self, lines: Sequence[UserLine]) -> None:
        keys = [line.email.account_key for line in lines]
        await self._connection.execute(self.RELEASE_EMAILS, keys, [line.id for line in lines])

    RELEASE_USERNAMES = """
        DELETE FROM identifiers
        WHERE kind = 'username' AND value = ANY($1::text[]) AND user_id = ANY($2::uuid[])
    """

    async def release_usernames(self, lines: Sequence[UserLine]) -> None:
        names = [line.username for line in lines]
        await self._connection.execute(self.RELEASE_USERNAMES, names, [line.id for line in lines])

    # Arrays: $1 slot, $2 user id, $3 role, $4 its end or NULL, $5 why; and $6 who gives them. The
    # users are new and hold nothing.
    GIVE_ROLES = """
        INSERT INTO user_roles (slot, user_id, role, create_time, expire_time, granted_by, reason)
        SELECT slot, user_id, role, now(), expire_time, $6, reason
        FROM unnest($1::smallint[], $2::uuid[], $3::text[], $4::timestamptz[], $5::text[])
            AS given (slot, user_id, role, expire_time, reason)
        WHERE expire_time IS NULL OR expire_time > now()
        RETURNING user_id, role
    """

    async def give_roles(
        self, lines: Sequence[UserLine], *, granted_by: str
    ) -> set[tuple[UUID, str]]:
        given = [(line.id, one) for line in lines for one in line.roles]
        if not given:
            return set()
        rows = await self._connection.fetch(
            self.GIVE_ROLES,
            [slot_of(user_id) for user_id, _ in given],
            [user_id for user_id, _ in given],
            [one.role for _, one in given],
            [one.expire_time for _, one in given],
            [one.reason for _, one in given],
            granted_by,
        )
        return {(row["user_id"], row["role"]) for row in rows}
