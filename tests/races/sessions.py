"""Sessions that nobody had to sign in for, and checks of them that servers answer from memory."""

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.made_sessions import make_sessions
from watchword_client import AsyncClient, Overloaded, SessionInvalid, Unavailable
from watchword_client import auth_service_pb2 as pb

CACHED = {"GATE__CACHE_MIB": "64"}
# What a yes may be old, and how long others may hear one after a revoke (docs/validation.md).
LEASE_SECONDS = 1.0
KNOWN_SECONDS = 30.0
AGAIN_SECONDS = 0.02


async def stored_sessions(
    environment: Mapping[str, str], database_url: str, count: int, *, users: int | None = None
) -> list[str]:
    """Stores so many sessions, once a database, and returns the tokens.

    Each has a user of its own, or they go to so many users in turn.
    """
    with tempfile.TemporaryDirectory(prefix="watchword-sessions-") as folder:
        file = Path(folder, "tokens")
        ready = {"env": environment, "database_url": database_url}
        await make_sessions(ready, users=users or count, sessions=count, file=file)
        return [line.split()[0] for line in file.read_text().splitlines()]


async def known(client: AsyncClient, token: str) -> pb.ValidateSessionResponse:
    """Checks a session until its server answers from memory; returns such an answer.

    Two that begin one after the other and have one time are both as of the same poll of the
    changes: each reading of the row itself has the time of its own statement.
    """
    async with asyncio.timeout(KNOWN_SECONDS):
        while True:
            try:
                first = await client.validate_session(token)
                second = await client.validate_session(token)
                if first.as_of_time == second.as_of_time:
                    return second
            except (Overloaded, Unavailable):
                pass
            await asyncio.sleep(AGAIN_SECONDS)


async def accepted(client: AsyncClient, token: str) -> bool | None:
    """Checks a session once; None when the server could not say."""
    try:
        await client.validate_session(token)
    except SessionInvalid:
        return False
    except (Overloaded, Unavailable):
        return None
    return True


async def revoke(client: AsyncClient, token: str) -> float:
    """Revokes a session; returns the loop's time at which that was acknowledged."""
    async with asyncio.timeout(KNOWN_SECONDS):
        while True:
            try:
                await client.revoke(token)
                return asyncio.get_running_loop().time()
            except (Overloaded, Unavailable):
                await asyncio.sleep(AGAIN_SECONDS)
