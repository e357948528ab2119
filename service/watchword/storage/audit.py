"""Audit events: written, never changed, and purged by their age (storage/purge.py)."""

from collections.abc import Sequence
from uuid import UUID

from watchword.audit.model import Event, StoredEvent
from watchword.crypto import slot_of
from watchword.storage.pool import Connection


class AuditStore:
    """Implements watchword.audit.ports.AuditStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # $1 slot, $2 id, $3 action, $4 outcome, $5 actor, $6 user id, $7 kind and $8 id of the target,
    # $9 client's ip, $10 its user agent, $11 its device name, $12 count
    PUT = """
        INSERT INTO audit_events (slot, at, id, action, outcome, actor, user_id, target_kind,
                                  target_id, client_ip, client_user_agent, client_device_name,
                                  count)
        VALUES ($1, now(), $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    """

    async def put(self, event: Event) -> None:
        await self._connection.execute(self.PUT, *_row(event))

    # Of each column an array, in the order of PUT: $1 slot, $2 id, $3 action, $4 outcome, $5 actor,
    # $6 user id, $7 kind and $8 id of the target, $9 client's ip, $10 its user agent, $11 its
    # device name, $12 count
    PUT_ALL = """
        INSERT INTO audit_events (slot, at, id, action, outcome, actor, user_id, target_kind,
                                  target_id, client_ip, client_user_agent, client_device_name,
                                  count)
        SELECT slot, now(), id, action, outcome, actor, user_id, target_kind, target_id, client_ip,
               client_user_agent, client_device_name, count
        FROM unnest($1::smallint[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::uuid[],
                    $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::integer[])
            AS e (slot, id, action, outcome, actor, user_id, target_kind, target_id, client_ip,
                  client_user_agent, client_device_name, count)
    """

    async def put_all(self, events: Sequence[Event]) -> None:
        columns = zip(*map(_row, events), strict=True)
        await self._connection.execute(self.PUT_ALL, *columns)

    # $1 action or NULL, $2 how many
    # sql-rules: all slots (a listing of everybody, by the index on time)
    LIST_ALL = """
        SELECT at, id, action, outcome, actor, user_id, target_kind, target_id, client_ip,
               client_user_agent, client_device_name, count
        FROM audit_events
        WHERE $1::text IS NULL OR action = $1
        ORDER BY at DESC, id DESC
        LIMIT $2
    """

    async def list_all(self, *, action: str | None, limit: int) -> Sequence[StoredEvent]:
        rows = await self._connection.fetch(self.LIST_ALL, action, limit)
        return [StoredEvent(**row) for row in rows]

    # $1 slot, $2 user id, $3 action or NULL, $4 how many
    LIST_OF_USER = """
        SELECT at, id, action, outcome, actor, user_id, target_kind, target_id, client_ip,
               client_user_agent, client_device_name, count
        FROM audit_events
        WHERE slot = $1 AND user_id = $2 AND ($3::text IS NULL OR action = $3)
        ORDER BY at DESC, id DESC
        LIMIT $4
    """

    async def list_of_user(
        self, user_id: UUID, *, action: str | None, limit: int
    ) -> Sequence[StoredEvent]:
        rows = await self._connection.fetch(
            self.LIST_OF_USER, slot_of(user_id), user_id, action, limit
        )
        return [StoredEvent(**row) for row in rows]

    EXISTS = "SELECT EXISTS (SELECT 1 FROM audit_events WHERE slot = $1 AND id = $2)"

    async def exists(self, event_id: UUID) -> bool:
        return bool(await self._connection.fetchval(self.EXISTS, slot_of(event_id), event_id))


def _row(event: Event) -> tuple[object, ...]:
    """The parameters of PUT."""
    target = event.target
    return (
        slot_of(event.id),
        event.id,
        event.action,
        event.outcome,
        event.actor,
        event.user_id,
        None if target is None else target.kind,
        None if target is None else target.id,
        event.client_ip,
        event.client_user_agent,
        event.client_device_name,
        event.count,
    )
