"""UpdateUser: another name, language or address for a user, by an operator."""

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from watchword.audit.model import Action
from watchword.crypto import KeyRing, new_id, slot_of
from watchword.errors import UsernameTaken, UserNotFound
from watchword.login import auditing, changes
from watchword.login.addresses import end_codes, take_address, tell_old_address
from watchword.login.mutations import Mutation, mutate, unchanged
from watchword.login.ports import Database, Tx
from watchword.login.user_admin import managed_user
from watchword.sessions.model import EndedSessions
from watchword.users.model import EmailAddress, EmailChange, ManagedUser

# What an update may name.
UPDATABLE: Final = ("full_name", "username", "email", "locale")


@dataclass(frozen=True, slots=True)
class UserUpdate:
    """The user after it, how many sessions another address has ended, and what is to be told."""

    managed: ManagedUser
    mutation: Mutation


async def update_user(
    database: Database, keys: KeyRing, user_id: UUID, fields: dict[str, Any], *, actor: str
) -> UserUpdate:
    """Changes the fields that are there, of UPDATABLE; `email` is an EmailAddress.

    Another address ends every session. Raises UserNotFound, EmailTaken and UsernameTaken.
    """
    email: EmailAddress | None = fields.get("email")
    outbox_id, change_id = new_id(slot_of(user_id)), new_id(slot_of(user_id))

    async def statements(tx: Tx) -> Mutation:
        if email is not None:
            await end_codes(tx, keys, user_id, unless=email.address)
        user = await tx.users.lock(user_id)
        if user is None:
            raise UserNotFound
        wanted = {**fields, "email": user.email if email is None else email.address}
        if all(getattr(user, name) == value for name, value in wanted.items()):
            return await unchanged(tx, user_id)
        username = fields.get("username", user.username)
        if username != user.username:
            if not await tx.users.take_username(username, user_id=user_id):
                raise UsernameTaken
            await tx.users.release_username(user.username, user_id=user_id)
        await tx.users.update_profile(
            user_id,
            full_name=fields.get("full_name", user.full_name),
            username=username,
            locale=fields.get("locale", user.locale),
        )
        ended = 0
        if email is not None and email.address != user.email:
            await take_address(tx, user, email.address)
            change = EmailChange(change_id, user_id, email.address)
            await tell_old_address(tx, change, old_email=user.email, outbox_id=outbox_id)
            ended = (await tx.sessions.revoke_all(user_id)).count
        raised = await tx.changes.raise_version(user_id)
        assert raised is not None  # the user is locked
        counted = EndedSessions(ended, user_id, raised.epoch, raised.version)
        event = auditing.user_changed(Action.UPDATE_USER, counted, actor=actor)
        return Mutation(changes.user_changed(raised), event, ended)

    mutation = await mutate(database, statements)
    return UserUpdate(await managed_user(database, user_id), mutation)
