"""Roles, their permissions and who holds them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from watchword.crypto import slot_of
from watchword.roles.model import Grants, Role
from watchword.storage.pool import Connection


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
        ORDER BY r.name COLLATE "C"
    """

    async def list_all(self) -> Sequence[Role]:
        rows = await self._connection.fetch(self.LIST_ALL)
        return [Role(row["name"], tuple(row["permissions"])) for row in rows]

    EXISTS = "SELECT EXISTS (SELECT 1 FROM roles WHERE name = $1)"

    async def exists(self, name: str) -> bool:
        return bool(await self._connection.fetchval(self.EXISTS, name))

    # $1 slot, $2 user id, $3 role, $4 for how long or NULL, $5 who gives it, $6 why. Nothing is
    # written when the user holds it for ever and no other end is asked for.
    ASSIGN = """
        INSERT INTO user_roles AS held (slot, user_id, role, create_time, expire_time, granted_by,
                                        reason)
        VALUES ($1, $2, $3, now(), now() + $4::interval, $5, $6)
        ON CONFLICT (slot, user_id, role) DO UPDATE
        SET create_time = EXCLUDED.create_time, expire_time = EXCLUDED.expire_time,
            granted_by = EXCLUDED.granted_by, reason = EXCLUDED.reason
        WHERE held.expire_time IS DISTINCT FROM EXCLUDED.expire_time
        RETURNING role
    """

    async def assign(
        self,
        name: str,
        *,
        user_id: UUID,
        lifetime: timedelta | None = None,
        granted_by: str | None = None,
        reason: str | None = None,
    ) -> bool:
        given = await self._connection.fetchval(
            self.ASSIGN, slot_of(user_id), user_id, name, lifetime, granted_by, reason
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
