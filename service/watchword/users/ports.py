"""What users need from storage.

A look-up returns None when there is nothing; an error means that storage failed. To add one: the
method here, its SQL in storage/users.py, a test in tests/storage.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from watchword.users.model import (
    EmailChange,
    ManagedUser,
    NewUser,
    Registration,
    User,
    UserState,
)


class UserStore(Protocol):
    """Users and the identifiers that lead to them."""

    async def find_by_email(self, account_key: str) -> UUID | None:
        """Returns the id of the user who owns the address."""

    async def find_by_username(self, username: str) -> UUID | None:
        """Returns the id of the user who owns the username; a hold does not count."""

    async def get(self, user_id: UUID) -> User | None:
        """Returns the user, whatever its state."""

    async def get_managed(self, user_id: UUID) -> ManagedUser | None:
        """Returns the same with its times."""

    async def lock(self, user_id: UUID) -> User | None:
        """The same; nobody else changes or locks the user until the transaction ends."""

    async def set_state(self, user_id: UUID, state: UserState) -> bool:
        """Puts the user into a state; False when it is in it already, or is not there."""

    async def set_email(self, user_id: UUID, email: str) -> None:
        """Gives the user another address, identifiers apart."""

    async def release_email(self, account_key: str, *, user_id: UUID) -> None:
        """Frees the address, if it is this user's, for others."""

    async def release_username(self, username: str, *, user_id: UUID) -> None:
        """Frees the username, if it is this user's, for others."""

    async def delete(self, user_id: UUID) -> None:
        """Deletes the user with sessions and roles."""

    async def insert(self, new: NewUser) -> User:
        """Makes an active user, without its identifiers."""

    async def update_profile(
        self, user_id: UUID, *, full_name: str, username: str, locale: str | None
    ) -> None:
        """Gives the user another profile, identifiers apart."""

    async def take_username(self, username: str, *, user_id: UUID) -> bool:
        """Makes the username the user's; False when somebody owns or holds it."""

    async def claim_email(self, account_key: str, *, user_id: UUID) -> bool:
        """Makes the address the user's; False when it has an owner."""

    async def claim_username(self, username: str, *, user_id: UUID, subject_key: bytes) -> bool:
        """Turns the subject's hold on the username into ownership; False when it holds none."""


class UserListStore(Protocol):
    """Users page by page; `after` is the last one of the page before."""

    async def list_users(
        self, *, state: UserState | None, after: UUID | None, limit: int
    ) -> Sequence[ManagedUser]:
        """Returns users of this state, or of any."""

    async def list_holders(
        self, role: str, *, state: UserState | None, after: UUID | None, limit: int
    ) -> Sequence[ManagedUser]:
        """Returns users who hold the role at this moment, of this state or of any."""

    async def end_holders(self, role: str, *, after: UUID | None, limit: int) -> Sequence[UUID]:
        """Ends the sessions of users who hold the role; who that was, in the order of the pages."""


class EmailChangeStore(Protocol):
    """Changes of addresses that are wanted, and those that were made."""

    async def begin(self, change: EmailChange, *, lifetime: timedelta) -> None:
        """Stores what a user, who is locked, wants; it takes the place of an earlier wish."""

    async def find(self, user_id: UUID, change_id: UUID) -> EmailChange | None:
        """Returns what this user wants, until it ends or is made."""

    async def finish(self, change: EmailChange, *, old_email: str, kept: timedelta) -> bool:
        """Notes that it was made, once, and keeps the old address so long; False: not this time."""


class RegistrationStore(Protocol):
    """Registrations and the usernames that they hold."""

    async def hold_username(
        self, username: str, *, subject_key: bytes, lifetime: timedelta
    ) -> bool:
        """Holds the username for the subject; False when somebody else owns or holds it.

        A hold belongs to a subject: registering the same name again takes the own hold over.
        """

    async def extend_hold(self, username: str, *, subject_key: bytes, lifetime: timedelta) -> None:
        """Moves the end of the subject's hold to at least `lifetime` from now."""

    async def insert(self, registration: Registration, *, lifetime: timedelta) -> datetime:
        """Stores the registration and returns when it ends."""

    async def bind_newest(
        self, subject_key: bytes, *, lifetime: timedelta, wanted: bool = True
    ) -> Registration | None:
        """Returns the subject's newest live registration, its end at least `lifetime` from now.

        Not `wanted`: the same look-up, which finds none and moves nothing.
        """

    async def get(self, registration_id: UUID) -> Registration | None:
        """Returns the registration, live or not."""

    async def end(self, registration_id: UUID) -> bool:
        """Ends a registration that becomes an account; False when it has ended."""

    async def exists(self, registration_id: UUID) -> bool:
        """Answers whether the registration was stored."""
