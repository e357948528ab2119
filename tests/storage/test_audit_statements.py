"""The statements on audit events: what is put in is there, found by slot, and purged by its end."""

from dataclasses import replace

import asyncpg
import pytest

from watchword.audit.model import Action, Event, Outcome, Target, TargetKind
from watchword.crypto import new_id, new_user_id
from watchword.storage.purge import PurgeStore
from watchword.storage.transactions import PgTx

Sql = asyncpg.Connection

SLOT = 7
FULL = Event(
    id=new_id(SLOT),
    action=Action.SIGN_IN,
    outcome=Outcome.WRONG_CODE,
    actor="gateway",
    user_id=new_user_id(),
    target=Target(TargetKind.SESSION, "5b"),
    client_ip="192.0.2.1",
    client_user_agent="Mozilla/5.0 'quoted'; --",
    client_device_name="Zoë's phone 📱",
    count=12,
)
BARE = Event(id=new_id(0), action=Action.CALL, actor=None)
ALL = """
    SELECT slot, id, action, outcome, actor, user_id, target_kind, target_id, client_ip,
           client_user_agent, client_device_name, count
    FROM audit_events
"""


def stored(event: Event, *, slot: int) -> tuple[object, ...]:
    """The row of an event."""
    kind, target_id = (event.target.kind, event.target.id) if event.target else (None, None)
    return (
        *(slot, event.id, event.action, event.outcome, event.actor, event.user_id),
        *(kind, target_id),
        *(event.client_ip, event.client_user_agent, event.client_device_name, event.count),
    )


async def test_one_event_is_stored_whole(tx: PgTx, sql: Sql) -> None:
    """Every field, in the slot of its id, at the database's time."""
    await tx.audit.put(FULL)
    await tx.audit.put(BARE)
    rows = {tuple(row) for row in await sql.fetch(ALL)}
    assert rows == {stored(FULL, slot=SLOT), stored(BARE, slot=0)}
    assert await sql.fetchval("SELECT max(now() - at) < interval '1 minute' FROM audit_events")


async def test_many_events_are_stored_as_each_alone(tx: PgTx, sql: Sql) -> None:
    """Absent fields among present ones, of several slots, in one statement."""
    many = [replace(event, id=new_id(slot)) for slot in range(5) for event in (FULL, BARE)]
    await tx.audit.put_all(many)
    rows = {tuple(row) for row in await sql.fetch(ALL)}
    assert rows == {stored(event, slot=number // 2) for number, event in enumerate(many)}


async def test_an_event_is_found_by_its_id(tx: PgTx) -> None:
    """And by no other of its slot."""
    await tx.audit.put(FULL)
    assert await tx.audit.exists(FULL.id)
    assert not await tx.audit.exists(new_id(SLOT))


@pytest.mark.parametrize("count", [0, -1])
async def test_an_event_counts_something(tx: PgTx, count: int) -> None:
    """The table refuses a count that would make sums lie."""
    with pytest.raises(asyncpg.CheckViolationError):
        await tx.audit.put(replace(FULL, count=count))


# $1 how many; the youngest of them a second old.
MANY = """
    INSERT INTO audit_events (slot, at, id, action, outcome, count)
    SELECT n % 4096, now() - n * interval '1 second', gen_random_uuid(), 'call', 'ok', 1
    FROM generate_series(1, $1) AS n
"""


async def test_a_batch_of_the_purge_costs_the_same_however_much_is_kept(tx: PgTx, sql: Sql) -> None:
    """Found by the index on `at`, fetched by key; what is younger than the cut-off stays."""
    await sql.execute(MANY, 100_000)
    await sql.execute("ANALYZE audit_events")
    await sql.execute(f"PREPARE purge_audit AS {PurgeStore.AUDIT_EVENTS}")
    rows = await sql.fetch("EXPLAIN EXECUTE purge_audit (now())")
    plan = "\n".join(row[0] for row in rows)
    assert "using audit_events_at" in plan, plan
    assert plan.count("Index Scan using audit_events_pkey") == 1, plan
    assert plan.count(" Scan ") == 3, plan
    cut_off = await sql.fetchval("SELECT at FROM audit_events ORDER BY at OFFSET 10 LIMIT 1")
    assert await tx.purge.audit_events(dead_before=cut_off) == 10
    assert await sql.fetchval("SELECT min(at) FROM audit_events") == cut_off
