"""What a user and a registration are."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID


class UserState(StrEnum):
    """Whether a user may sign in."""

    ACTIVE = "active"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class EmailAddress:
    """An address as mail goes to it, and the account key that accounts are found by."""

    address: str
    account_key: str


@dataclass(frozen=True, slots=True)
class User:
    """A person with an account; sessions of an epoch below `auth_epoch` are dead."""

    id: UUID
    username: str
    full_name: str
    email: str
    locale: str | None
    state: UserState
    auth_epoch: int

    @property
    def active(self) -> bool:
        """Whether this user may sign in and hold sessions."""
        return self.state is UserState.ACTIVE


@dataclass(frozen=True, slots=True)
class ManagedUser:
    """A user as an operator sees it."""

    user: User
    create_time: datetime
    update_time: datetime


@dataclass(frozen=True, slots=True)
class NewUser:
    """An account to be made without a registration."""

    id: UUID
    full_name: str
    username: str
    email: str
    locale: str | None


@dataclass(frozen=True, slots=True)
class Registration:
    """What Register took down; `user_id` is the id of the account that it may become."""

    id: UUID
    subject_key: bytes
    user_id: UUID
    full_name: str
    username: str
    email: str
    locale: str | None

    @property
    def account(self) -> NewUser:
        """The account that it may become."""
        return NewUser(self.user_id, self.full_name, self.username, self.email, self.locale)


@dataclass(frozen=True, slots=True)
class EmailChange:
    """Another address that a user wants; `id` is that of the challenge by which it is proved."""

    id: UUID
    user_id: UUID
    new_email: str


# How long a registration holds its username unless a challenge that carries it lives longer.
REGISTRATION_LIFETIME = timedelta(hours=1)
# How long the old address may still be told of a change, while no provider takes the mail.
NOTICE_LIFETIME = timedelta(days=1)
