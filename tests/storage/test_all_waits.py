"""The end of all sessions of a user whom somebody else is changing at that moment."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import asyncpg
import pytest

from tests.storage.conftest import Connect
from tests.storage.test_commit_lost import World, world
from tests.storage.test_session_commits_lost import signed_in, signed_in_again
from watchword.audit.model import CLI
from watchword.errors import UserNotFound
from watchword.login.revoke import RevokeScope, revoke
from watchword.login.user_admin import revoke_sessions_of

__all__ = ["world"]

WAIT_SECONDS = 30.0
WAITING = """
    SELECT count(*)
    FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND datname = current_database()
"""
COUNTED = "SELECT COALESCE(sum(count), 0) FROM audit_events WHERE action = 'revoke_all'"
END_ONE = (
    "UPDATE sessions SET revoke_time = now() WHERE id = (SELECT min(id::text)::uuid FROM sessions)"
)

Act = Callable[[World, str, UUID], Awaitable[int]]


async def by_token(world: World, token: str, user_id: UUID) -> int:
    """Revoke."""
    return (await revoke(world.ctx, token, target=RevokeScope.ALL, caller="tests")).count


async def by_operator(world: World, token: str, user_id: UUID) -> int:
    """`watchword sessions revoke`."""
    try:
        return (await revoke_sessions_of(world.database, user_id, actor=CLI)).count
    except UserNotFound:
        return 0


@pytest.mark.parametrize("act", [by_token, by_operator])
@pytest.mark.parametrize(
    ("meanwhile", "count"), [(END_ONE, 1), ("DELETE FROM users", 0)], ids=["ended", "deleted"]
)
async def test_all_are_those_that_are_live_when_it_is_its_turn(
    world: World, connect: Connect, act: Act, meanwhile: str, count: int
) -> None:
    """One that is ended meanwhile is counted by whoever has ended it; a user who is deleted
    meanwhile has none.

    Seen to fail with the user not locked: 2 were counted, and the deleted one was an error.
    """
    await signed_in(world)
    token = await signed_in_again(world)
    user_id = await world.sql.fetchval("SELECT id FROM users")
    other: asyncpg.Connection = await connect()
    async with other.transaction():
        await other.execute("UPDATE users SET version = version + 1")
        await other.execute(meanwhile)
        ending = asyncio.create_task(act(world, token, user_id))  # type: ignore[arg-type]  # it is one
        async with asyncio.timeout(WAIT_SECONDS):
            while not await world.sql.fetchval(WAITING):
                await asyncio.sleep(0.01)
    assert await ending == count
    assert await world.sql.fetchval(COUNTED) == count
