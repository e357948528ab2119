"""What an operator reads of the audit."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from watchword.audit.model import EventFilter, EventKey, EventPage, StoredEvent
from watchword.crypto import KeyRing
from watchword.login.pages import Page, Paging, cursor_of, listing_of
from watchword.login.ports import Database
from watchword.login.present import present_time

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_TIME_BYTES: Final = 8
TAIL_SECONDS: Final = 1.0
TAIL_MAX: Final = 100_000
# Longer than a transaction lasts.
TAIL_OVERLAP: Final = timedelta(seconds=15)


async def list_events(
    database: Database, asked: EventFilter, *, limit: int, before: EventKey | None = None
) -> EventPage:
    """Returns events, the newest first, from that one on."""
    return await database.run_statement(
        lambda tx: tx.audit.list_page(asked, before=before, limit=limit)
    )


async def newest_events(
    database: Database, asked: EventFilter, *, limit: int
) -> Sequence[StoredEvent]:
    """Returns so many events, the newest first, however far back they are."""
    found: list[StoredEvent] = []
    before: EventKey | None = None
    while len(found) < limit:
        page = await list_events(database, asked, limit=limit - len(found), before=before)
        found += page.events
        before = page.following
        if before is None:
            break
    return found


async def new_events(database: Database) -> AsyncIterator[StoredEvent]:
    """Gives every event that is stored from now on, about a second later; never ends.

    Each time it looks back over what a transaction may last: an event has the time at which its own
    began.
    """
    began = await present_time(database)
    seen: dict[UUID, datetime] = {}
    while True:
        present = await present_time(database)
        start = max(began, present - TAIL_OVERLAP)
        asked = EventFilter(start_time=start)
        events = await newest_events(database, asked, limit=TAIL_MAX)
        for event in reversed(events):
            if event.id not in seen:
                seen[event.id] = event.at
                yield event
        seen = {id: at for id, at in seen.items() if at >= start}
        await asyncio.sleep(TAIL_SECONDS)


async def list_event_page(
    database: Database, keys: KeyRing, asked: EventFilter, paging: Paging
) -> Page[StoredEvent]:
    """Returns the same page by page; raises RequestInvalid for the token.

    A page may be short, or empty, though another one follows (EventPage).
    """
    listing = listing_of(
        "ListAuditEvents",
        asked.user_id,
        asked.action,
        asked.actor,
        asked.start_time,
        asked.end_time,
    )
    cursor = cursor_of(keys, listing, paging.page_token)
    before = None if cursor is None else _key_of(cursor)
    found = await list_events(database, asked, limit=paging.page_size, before=before)
    if found.following is None:
        return Page(found.events, "")
    return Page(found.events, keys.mint_page_token(listing, _cursor_of(found.following)))


def _cursor_of(key: EventKey) -> bytes:
    at_us = (key.at - _EPOCH) // _MICROSECOND
    return at_us.to_bytes(_TIME_BYTES, "big") + key.id.bytes


def _key_of(cursor: bytes) -> EventKey:
    at_us = int.from_bytes(cursor[:_TIME_BYTES], "big")
    return EventKey(_EPOCH + at_us * _MICROSECOND, UUID(bytes=cursor[_TIME_BYTES:]))
