"""Many users with live sessions, stored without signing anybody in.

What ValidateSession reads is as a sign-in leaves it: the tokens are minted by the installation's
key ring and their verifiers stored. Everything goes in by COPY.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from pydantic import SecretStr

from watchword.crypto import KeyRing, MintedSession, new_user_id, slot_of
from watchword.keyring import SecretsSettings

ROLE, PERMISSIONS = "editor", ("article:read", "article:write")
# Longer than any benchmark, shorter than the default.
LIFETIME = timedelta(days=1)
TIMEOUT_SECONDS = 300.0

TIMES = ("create_time", "update_time")
USERS = ("slot", "id", "full_name", "username", "email", "state", "auth_epoch", *TIMES)
IDENTIFIERS = ("kind", "value", "user_id")
USER_ROLES = ("slot", "user_id", "role", "create_time")
SESSION_TIMES = ("create_time", "auth_time", "expire_time")
SESSIONS = ("slot", "id", "user_id", "verifier", "key_id", "epoch", *SESSION_TIMES)


async def make_sessions(ready: dict[str, Any], *, users: int, sessions: int, file: Path) -> str:
    """Stores them and writes lines of a token and its user's id; returns PostgreSQL's version.

    The sessions go to the users in turn, and each user has one role with two permissions. `ready`
    is what the ready file of the server holds. The file is for the owner alone.
    """
    environment = ready["env"]
    keys = SecretsSettings(
        keys=SecretStr(environment["WATCHWORD_SECRETS__KEYS"]),
        index_key=SecretStr(environment["WATCHWORD_SECRETS__INDEX_KEY"]),
    ).key_ring()
    connection = await asyncpg.connect(ready["database_url"], command_timeout=TIMEOUT_SECONDS)
    try:
        now: datetime = await connection.fetchval("SELECT now()")
        ids = await _store_users(connection, users, now)
        minted = list(_mint(keys, ids, sessions))
        await connection.copy_records_to_table(
            "sessions",
            columns=SESSIONS,
            records=(_session_row(user_id, one, now) for user_id, one in minted),
        )
        await connection.execute("VACUUM (ANALYZE) users, identifiers, user_roles, sessions")
        await connection.execute("CHECKPOINT")
        version: str = await connection.fetchval("SHOW server_version")
    finally:
        await connection.close()
    file.touch(mode=0o600)
    file.write_text("".join(f"{one.token.reveal()} {user_id}\n" for user_id, one in minted))
    return version


async def _store_users(connection: asyncpg.Connection, count: int, now: datetime) -> list[UUID]:
    ids = [new_user_id() for _ in range(count)]
    # All of one length, and so are the answers but for their times.
    names = [f"person{number:08}" for number in range(count)]
    await connection.copy_records_to_table(
        "users",
        columns=USERS,
        records=(
            (slot_of(id), id, "Ada Lovelace", name, f"{name}@example.com", "active", 0, now, now)
            for id, name in zip(ids, names, strict=True)
        ),
    )
    for kind, ending in (("username", ""), ("email", "@example.com")):
        await connection.copy_records_to_table(
            "identifiers",
            columns=IDENTIFIERS,
            records=((kind, name + ending, id) for id, name in zip(ids, names, strict=True)),
        )
    await connection.execute("INSERT INTO roles (name, create_time) VALUES ($1, now())", ROLE)
    await connection.execute(
        "INSERT INTO role_permissions (role, permission) SELECT $1, unnest($2::text[])",
        ROLE,
        list(PERMISSIONS),
    )
    await connection.copy_records_to_table(
        "user_roles", columns=USER_ROLES, records=((slot_of(id), id, ROLE, now) for id in ids)
    )
    return ids


def _mint(keys: KeyRing, ids: list[UUID], count: int) -> Iterator[tuple[UUID, MintedSession]]:
    for number in range(count):
        user_id = ids[number % len(ids)]
        yield user_id, keys.mint_session(slot_of(user_id))


def _session_row(user_id: UUID, session: MintedSession, now: datetime) -> tuple[Any, ...]:
    id = session.session_id
    expire_time = now + LIFETIME
    return slot_of(id), id, user_id, session.verifier, session.key_id, 0, now, now, expire_time
