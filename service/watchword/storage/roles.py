"""Roles, their permissions and who holds them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from watchword.crypto import slot_of
from watchword.roles.model import Assignment, Grants, Role
from watchword.storage.pool import Connection


def _role_of(row: asyncpg.Record) -> Role:
    return Role(row["name"], tuple(row["permissions"]))


class RoleStore:
    """Implements watchword.roles.ports.RoleStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    GRANTS_AT = """
        SELECT
            now() AS as_of_time,
            ARRAY(
                SELECT r.role
                FROM user_roles r
                JOIN roles o ON o.name = r.role
                WHERE r.slot = $1 AND r.user_id = $2
                  AND (r.expire_time IS NULL OR r.expire_time > now())
                ORDER BY r.role COLLATE "C"
            ) AS roles,
            ARRAY(
                SELECT DISTINCT p.permission COLLATE "C"
                FROM user_roles r
                JOIN role_permissions p ON p.role = r.role
                WHERE r.slot = $1 AND r.user_id = $2
                  AND (r.expire_time IS NULL OR r.expire_time > now())
                ORDER BY p.permission COLLATE "C"
            ) AS permissions
    """

    async def grants_of(self, user_id: UUID) -> Grants:
        grants, _ = await self.grants_at(user_id)
        return grants

    async def grants_at(self, user_id: UUID) -> tuple[Grants, datetime]:
        row = await self._connection.fetchrow(self.GRANTS_AT, slot_of(user_id), user_id)
        assert row is not None  # a SELECT without FROM answers one row
        return Grants(tuple(row["roles"]), tuple(row["permissions"])), row["as_of_time"]

    CREATE = """
        INSERT INTO roles (name, create_time)
        VALUES ($1, now())
        ON CONFLICT (name) DO NOTHING
        RETURNING name
    """

    ADD_PERMISSIONS = """
        INSERT INTO role_permissions (role, permission)
        SELECT $1, permission FROM unnest($2::text[]) AS permission
        ON CONFLICT (role, permission) DO NOTHING
    """

    async def create(self, name: str, *, permissions: Sequence[str]) -> bool:
        if await self._connection.fetchval(self.CREATE, name) is None:
            return False
        await self._connection.execute(self.ADD_PERMISSIONS, name, sorted(set(permissions)))
        return True

    # $1 role, $2 permissions
    REMOVE_OTHER_PERMISSIONS = """
        DELETE FROM role_permissions
        WHERE role = $1 AND permission <> ALL($2::text[])
    """

    async def replace_permissions(self, name: str, *, permissions: Sequence[str]) -> None:
        wanted = sorted(set(permissions))
        await self._connection.execute(self.REMOVE_OTHER_PERMISSIONS, name, wanted)
        await self._connection.execute(self.ADD_PERMISSIONS, name, wanted)

    # Its permissions go with it, by their foreign key.
    DELETE = "DELETE FROM roles WHERE name = $1 RETURNING name"

    async def delete(self, name: str) -> bool:
        return await self._connection.fetchval(self.DELETE, name) is not None

    # Nobody is answered what is left of a role that is gone.
    # sql-rules: all slots (a bulk job, by the index on the role)
    REMOVE_ORPHANS = """
        DELETE FROM user_roles
        WHERE (slot, user_id, role) IN (
            SELECT slot, user_id, role
            FROM user_roles
            WHERE role = $1
            LIMIT 1000
        )
          AND role = $1 AND NOT EXISTS (SELECT 1 FROM roles WHERE name = $1)
        RETURNING role
    """

    async def remove_orphans(self, name: str) -> int:
        return len(await self._connection.fetch(self.REMOVE_ORPHANS, name))

    GET = """
        SELECT
            r.name,
            ARRAY(
                SELECT p.permission
                FROM role_permissions p
                WHERE p.role = r.name
                ORDER BY p.permission COLLATE "C"
            ) AS permissions
        FROM roles r
        WHERE r.name = $1
    """

    async def get(self, name: str) -> Role | None:
        row = await self._connection.fetchrow(self.GET, name)
        return None if row is None else _role_of(row)

    # $1 the name after which the page begins, $2 how many
    LIST_ALL = """
        SELECT
            r.name,
            ARRAY(
                SELECT p.permission
                FROM role_permissions p
                WHERE p.role = r.name
                ORDER BY p.permission COLLATE "C"
            ) AS permissions
        FROM roles r
        WHERE r.name COLLATE "C" > $1
        ORDER BY r.name COLLATE "C"
        LIMIT $2
    """

    async def list_all(self, *, after: str, limit: int) -> Sequence[Role]:
        return [_role_of(row) for row in await self._connection.fetch(self.LIST_ALL, after, limit)]

    EXISTS = "SELECT EXISTS (SELECT 1 FROM roles WHERE name = $1)"

    async def exists(self, name: str) -> bool:
        return bool(await self._connection.fetchval(self.EXISTS, name))

    ASSIGNMENTS = """
        SELECT r.role, r.create_time, r.expire_time, r.granted_by, r.reason
        FROM user_roles r
        JOIN roles o ON o.name = r.role
        WHERE r.slot = $1 AND r.user_id = $2 AND (r.expire_time IS NULL OR r.expire_time > now())
        ORDER BY r.role COLLATE "C"
    """

    async def assignments_of(self, user_id: UUID) -> Sequence[Assignment]:
        rows = await self._connection.fetch(self.ASSIGNMENTS, slot_of(user_id), user_id)
        return [Assignment(**row) for row in rows]

    # $1 slot, $2 user id, $3 role, $4 its end or NULL, $5 who gives it, $6 why. Nothing is written
    # when the user holds it in just this way; no row either for an end that is over.
    ASSIGN = """
        INSERT INTO user_roles AS held (slot, user_id, role, create_time, expire_time, granted_by,
                                        reason)
        SELECT $1, $2, $3, now(), $4::timestamptz, $5, $6
        WHERE $4::timestamptz IS NULL OR $4::timestamptz > now()
        ON CONFLICT (slot, user_id, role) DO UPDATE
        SET create_time = EXCLUDED.create_time, expire_time = EXCLUDED.expire_time,
            granted_by = EXCLUDED.granted_by, reason = EXCLUDED.reason
        WHERE (held.expire_time, held.granted_by, held.reason)
              IS DISTINCT FROM (EXCLUDED.expire_time, EXCLUDED.granted_by, EXCLUDED.reason)
        RETURNING role
    """

    async def assign(
        self,
        name: str,
        *,
        user_id: UUID,
        expire_time: datetime | None = None,
        granted_by: str | None = None,
        reason: str | None = None,
    ) -> bool:
        given = await self._connection.fetchval(
            self.ASSIGN, slot_of(user_id), user_id, name, expire_time, granted_by, reason
        )
        return given is not None

    UNASSIGN = """
        DELETE FROM user_roles
        WHERE slot = $1 AND user_id = $2 AND role = $3
        RETURNING role
    """

    async def unassign(self, name: str, *, user_id: UUID) -> bool:
        taken = await self._connection.fetchval(self.UNASSIGN, slot_of(user_id), user_id, name)
        return taken is not None
