"""Audit events: written, never changed, and purged by their age (storage/purge.py)."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from watchword.audit.model import Event, EventFilter, EventKey, EventPage, StoredEvent
from watchword.crypto import slot_of
from watchword.storage.pool import Connection

# An action that is seldom leaves a page short rather than have the whole table read for it.
LOOKED_AT_MAX = 10_000
# Before and after every event.
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9999, 12, 31, tzinfo=UTC)
_LAST_ID = UUID(int=2**128 - 1)


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

    # The event before which the page begins: $1 time, $2 id. $3 action and $4 actor, NULL for any,
    # $5 start, $6 end, $7 how many, out of $8 that are looked at.
    # sql-rules: all slots (a listing of everybody, by the index on time)
    LIST_ALL = """
        SELECT at, id, action, outcome, actor, user_id, target_kind, target_id, client_ip,
               client_user_agent, client_device_name, count
        FROM (
            SELECT at, id, action, outcome, actor, user_id, target_kind, target_id, client_ip,
                   client_user_agent, client_device_name, count
            FROM audit_events
            WHERE (at, id) < ($1, $2)
              AND at >= $5
              AND at < $6
            ORDER BY at DESC, id DESC
            LIMIT $8
        ) AS looked_at
        WHERE ($3::text IS NULL OR action = $3) AND ($4::text IS NULL OR actor = $4)
        ORDER BY at DESC, id DESC
        LIMIT $7
    """
    # The last of those that LIST_ALL has looked at, if it has stopped there: before the event of $1
    # time and $2 id, $3 start, $4 end, $5 how many but one.
    # sql-rules: all slots (a listing of everybody, by the index on time)
    LAST_LOOKED_AT = """
        SELECT at, id
        FROM audit_events
        WHERE (at, id) < ($1, $2)
          AND at >= $3
          AND at < $4
        ORDER BY at DESC, id DESC
        OFFSET $5
        LIMIT 1
    """

    # $1 slot, $2 user id, then as for LIST_ALL: $3 time, $4 id, $5 action, $6 actor, $7 start,
    # $8 end, $9 how many
    LIST_OF_USER = """
        SELECT at, id, action, outcome, actor, user_id, target_kind, target_id, client_ip,
               client_user_agent, client_device_name, count
        FROM audit_events
        WHERE slot = $1 AND user_id = $2
          AND (at, id) < ($3, $4)
          AND ($5::text IS NULL OR action = $5) AND ($6::text IS NULL OR actor = $6)
          AND at >= $7
          AND at < $8
        ORDER BY at DESC, id DESC
        LIMIT $9
    """

    async def list_page(
        self, asked: EventFilter, *, before: EventKey | None, limit: int
    ) -> EventPage:
        at, id = (_LATEST, _LAST_ID) if before is None else (before.at, before.id)
        span = (asked.start_time or _EARLIEST, asked.end_time or _LATEST)
        which = (asked.action, asked.actor, *span)
        # One more, which tells whether there is another page.
        if asked.user_id is not None:
            rows = await self._connection.fetch(
                self.LIST_OF_USER,
                slot_of(asked.user_id),
                asked.user_id,
                at,
                id,
                *which,
                limit + 1,
            )
            return _page(rows, limit, None)
        rows = await self._connection.fetch(self.LIST_ALL, at, id, *which, limit + 1, LOOKED_AT_MAX)
        last = None
        if len(rows) <= limit and (asked.action, asked.actor) != (None, None):
            last = await self._connection.fetchrow(
                self.LAST_LOOKED_AT, at, id, *span, LOOKED_AT_MAX - 1
            )
        return _page(rows, limit, last)

    EXISTS = "SELECT EXISTS (SELECT 1 FROM audit_events WHERE slot = $1 AND id = $2)"

    async def exists(self, event_id: UUID) -> bool:
        return bool(await self._connection.fetchval(self.EXISTS, slot_of(event_id), event_id))


def _page(
    rows: Sequence[asyncpg.Record], limit: int, last_looked_at: asyncpg.Record | None
) -> EventPage:
    """Makes a page of one row more than it has; it goes on after the last that was looked at."""
    events = [StoredEvent(**row) for row in rows[:limit]]
    if len(rows) > limit:
        return EventPage(events, EventKey(events[-1].at, events[-1].id))
    following = None if last_looked_at is None else EventKey(**last_looked_at)
    return EventPage(events, following)


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
