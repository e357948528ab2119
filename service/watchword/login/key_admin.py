"""Service keys of the table: made, listed, ended, and confirmed after a restore."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from watchword.audit.model import Action
from watchword.callers.model import NewServiceKey, Scope, ServiceKey
from watchword.crypto import KeyRing, Secret, new_id
from watchword.errors import RequestInvalid, ServiceKeyNotFound, Violation
from watchword.login import auditing, changes
from watchword.login.mutations import Mutation, mutate
from watchword.login.pages import Page, Paging, cursor_of, listing_of, page_of
from watchword.login.ports import Database, Tx

KEYS_LISTED_MAX: Final = 100_000


@dataclass(frozen=True, slots=True)
class CreatedServiceKey:
    """A new key, and its secret, which is shown this once."""

    key: ServiceKey
    secret: Secret
    mutation: Mutation


async def create_service_key(
    database: Database,
    keys: KeyRing,
    *,
    name: str,
    scopes: frozenset[Scope],
    expire_time: datetime | None,
    actor: str,
) -> CreatedServiceKey:
    """Makes a key; raises RequestInvalid for an end that is over."""
    secret = keys.mint_service_key()
    digest = keys.parse_service_key(secret.reveal())
    assert digest is not None  # it was minted just now
    new = NewServiceKey(new_id(0), name, digest, scopes, expire_time)

    async def statements(tx: Tx) -> Mutation:
        if await tx.service_keys.insert(new) is None:
            raise RequestInvalid([Violation("expire_time", "must be in the future")])
        return _key_changed(Action.CREATE_SERVICE_KEY, new.id, actor)

    mutation = await mutate(database, statements)
    stored = await database.run_statement(lambda tx: tx.service_keys.get(new.id))
    assert stored is not None  # keys are not deleted
    return CreatedServiceKey(stored, secret, mutation)


async def list_service_keys(database: Database, keys: KeyRing, paging: Paging) -> Page[ServiceKey]:
    """Returns keys, the newest first, ended ones too; raises RequestInvalid for the token."""
    listing = listing_of("ListServiceKeys")
    cursor = cursor_of(keys, listing, paging.page_token)
    before = None if cursor is None else UUID(bytes=cursor)
    limit = paging.page_size + 1
    found = await database.run_statement(
        lambda tx: tx.service_keys.list_all(before=before, limit=limit)
    )
    cursors = [key.id.bytes for key in found]
    return page_of(keys, listing, found, cursors, page_size=paging.page_size)


async def list_all_service_keys(database: Database) -> Sequence[ServiceKey]:
    """Returns every key, the newest first."""
    return await database.run_statement(
        lambda tx: tx.service_keys.list_all(before=None, limit=KEYS_LISTED_MAX)
    )


async def revoke_service_key(database: Database, key_id: UUID, *, actor: str) -> Mutation:
    """Ends a key, for good; raises ServiceKeyNotFound."""

    async def statements(tx: Tx) -> Mutation:
        done = await tx.service_keys.revoke(key_id)
        return await _outcome(tx, done, Action.REVOKE_SERVICE_KEY, key_id, actor)

    return await mutate(database, statements)


async def confirm_service_key(database: Database, key_id: UUID, *, actor: str) -> Mutation:
    """Lets a key be good again that a restore has brought back; raises ServiceKeyNotFound."""

    async def statements(tx: Tx) -> Mutation:
        done = await tx.service_keys.confirm(key_id)
        return await _outcome(tx, done, Action.CONFIRM_SERVICE_KEY, key_id, actor)

    return await mutate(database, statements)


async def _outcome(tx: Tx, done: bool, action: Action, key_id: UUID, actor: str) -> Mutation:
    if done:
        return _key_changed(action, key_id, actor)
    if await tx.service_keys.get(key_id) is None:
        raise ServiceKeyNotFound
    return Mutation(changes.service_key_changed())


def _key_changed(action: Action, key_id: UUID, actor: str) -> Mutation:
    event = auditing.service_key_changed(action, key_id, actor=actor)
    return Mutation(changes.service_key_changed(), event)
