"""What the use cases need from storage: one transaction that reaches every feature's store."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar
from uuid import UUID

from watchword.audit.ports import AuditStore
from watchword.callers.ports import ServiceKeyStore
from watchword.changes.model import Change
from watchword.changes.ports import ChangeStore
from watchword.limits.ports import LimitStore
from watchword.login.user_lines import UserLine
from watchword.mail.outbox import OutboxStore
from watchword.otp.ports import (
    AttemptStore,
    BudgetStore,
    ChallengeStore,
    DeviceAttemptStore,
    InstallationStore,
)
from watchword.roles.model import Assignment, Grants
from watchword.roles.ports import RoleStore
from watchword.sessions.model import Secrets, Session
from watchword.sessions.ports import RotationStore, SessionStore
from watchword.users.model import User
from watchword.users.ports import EmailChangeStore, RegistrationStore, UserListStore, UserStore

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LiveSession:
    """A session that is live at `as_of_time`, its secrets, its active user and their grants.

    `last_seen_time` is what is stored.
    """

    session: Session
    secrets: Secrets
    user: User
    grants: Grants
    as_of_time: datetime
    last_seen_time: datetime
    session_epoch: int
    user_version: int


class SessionCache(Protocol):
    """What answers the next check of a session without the database."""

    def apply(self, change: Change) -> None:
        """Drops what a committed change makes out of date; the next check sees it."""


class EncodedStatus(Protocol):
    """A google.rpc.Status."""

    @property
    def code(self) -> int: ...
    @property
    def message(self) -> str: ...
    def SerializeToString(self) -> bytes: ...  # noqa: N802 - protobuf's name


class SessionTurn(Protocol):
    """Sessions that one statement has to read; whoever waits for them is told of each once."""

    @property
    def session_ids(self) -> Sequence[str]:
        """Returns those that were not found yet, each once."""

    def take_rows(self, rows: Sequence[bytes]) -> None:
        """Takes what `LiveSessionStore.read_many` gave of all of them, and ends the turn.

        Those who wait for a session have it, the others are told that theirs is not live.
        """

    def fail(self, status: EncodedStatus) -> None:
        """Tells all who were not told anything that there was no read."""


class MissedSessions(Protocol):
    """The checks that wait for a read."""

    @property
    def wake_fd(self) -> int:
        """Returns an eventfd that is readable when `take_misses` has something."""

    def take_misses(self, most: int) -> SessionTurn | None:
        """Takes what waits, before the database is asked; None if nothing does."""

    def take_refills(self, most: int) -> SessionTurn | None:
        """Takes sessions to be read again before what is known of them is too old, likewise."""


class LiveSessionStore(Protocol):
    """The one look-up that decides whether a session is live."""

    async def find(self, session_id: UUID, *, idle_lifetime: timedelta) -> LiveSession | None:
        """Returns the session unless it is revoked, expired, idle, below its user's epoch or
        disabled.
        """

    async def find_many(
        self, session_ids: Sequence[UUID], *, idle_lifetime: timedelta
    ) -> tuple[dict[UUID, LiveSession], datetime]:
        """Returns those of the sessions that `find` would, by id, and the database's time."""

    async def read_many(
        self, session_ids: Sequence[str], *, idle_lifetime: timedelta
    ) -> Sequence[bytes]:
        """Returns the same as the database sent it, one row at least; ids in hyphenated form."""


class FenceStore(Protocol):
    """Ends what a restored backup has brought back."""

    async def raise_epoch(self) -> None:
        """Ends every session, whoever's."""

    async def end_challenges(self, slot: int) -> int:
        """Ends the live challenges of a slot; how many there were."""

    async def confirm_cluster(self) -> bool:
        """Takes the cluster in which the database is for the right one; False if it can't be told.

        It is for `run_statement`: a role that may not ask would spoil a transaction.
        """


@dataclass(frozen=True, slots=True)
class KeyUse:
    """How many live sessions have a good token by this key, how many live challenges a code.

    After a refresh a session may have two good tokens, by two keys.
    """

    key_id: int
    sessions: int
    challenges: int
    last_end_time: datetime


class KeyUseStore(Protocol):
    """What the keys of the ring are still needed for."""

    async def in_slots(self, slots: Sequence[int], *, idle_lifetime: timedelta) -> Sequence[KeyUse]:
        """Returns each key that something alive in these slots has."""


class UserFileStore(Protocol):
    """Many users at once, for export and import.

    No address, username or id is twice among the lines of one call that claims or inserts.
    """

    async def assignments_of(self, user_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[Assignment]]:
        """Returns what those of the users hold at this moment who hold something, by name."""

    async def owned_emails(self, lines: Sequence[UserLine]) -> set[str]:
        """Returns the account keys that have an account."""

    async def usernames_taken(self, lines: Sequence[UserLine]) -> Mapping[str, bool]:
        """Returns the usernames that nobody may take now, and whether they are only held."""

    async def ids_taken(self, lines: Sequence[UserLine]) -> set[UUID]:
        """Returns the ids of users who are there."""

    async def known_roles(self, lines: Sequence[UserLine]) -> set[str]:
        """Returns which roles there are of those that the lines give."""

    async def claim_emails(self, lines: Sequence[UserLine]) -> Sequence[UserLine]:
        """Makes each address its line's, unless it has an owner; the lines that have theirs."""

    async def claim_usernames(self, lines: Sequence[UserLine]) -> Sequence[UserLine]:
        """Makes each username its line's, unless somebody owns or holds it, likewise."""

    async def insert(self, lines: Sequence[UserLine]) -> Sequence[UserLine]:
        """Makes the users, without identifiers and roles, unless their id is taken, likewise."""

    async def release_emails(self, lines: Sequence[UserLine]) -> None:
        """Frees addresses that were claimed."""

    async def release_usernames(self, lines: Sequence[UserLine]) -> None:
        """Frees usernames that were claimed."""

    async def give_roles(
        self, lines: Sequence[UserLine], *, granted_by: str
    ) -> set[tuple[UUID, str]]:
        """Gives new users the roles of their lines but those whose end is over; which by whom."""


# Milliseconds of work: a sign-in may have to wait for as much on a busy database.
PURGE_BATCH = 100


class PurgeStore(Protocol):
    """Removes rows that died before a moment, PURGE_BATCH at most, and returns how many.

    No row comes back to life but a hold; one that did meanwhile stays.
    """

    async def present(self) -> datetime:
        """Returns the database's time, by which rows die."""

    async def challenges(self, *, dead_before: datetime) -> int:
        """Removes expired challenges, each with its mails; used and ended ones expire as well."""

    async def email_changes(self, *, dead_before: datetime) -> int:
        """Removes ended changes of addresses, each with its notice."""

    async def budgets(self, *, dead_before: datetime) -> int:
        """Removes failure budgets that were not charged since."""

    async def settled_budgets(self, *, dead_before: datetime) -> int:
        """Removes those of them without a failure in a row: somebody signed in after the last."""

    async def registrations(self, *, dead_before: datetime) -> int:
        """Removes expired registrations; a challenge that one is bound to expires no later."""

    async def holds(self, *, dead_before: datetime) -> int:
        """Removes ended holds on usernames."""

    async def expired_sessions(self, *, dead_before: datetime) -> int:
        """Removes expired sessions."""

    async def revoked_sessions(self, *, dead_before: datetime) -> int:
        """Removes revoked sessions."""

    async def outdated_sessions(self, slot: int, *, dead_before: datetime) -> int:
        """Removes a slot's sessions below their user's epoch, if the user changed no later."""

    async def orphaned_roles(self, slot: int) -> int:
        """Removes a slot's assignments of roles that are gone."""

    async def audit_events(self, *, dead_before: datetime) -> int:
        """Removes audit events that were stored before; they die of their age."""

    async def changes(self, *, dead_before: datetime) -> int:
        """Removes changes of transactions that began before; by then every replica has them."""

    async def drained_limits(self, slot: int, *, dead_before: datetime) -> int:
        """Removes a 4096th of the buckets, the slot's, that have counted nothing since."""


class Tx(Protocol):
    """One connection's view of every store; valid inside the function that it was given to."""

    @property
    def users(self) -> UserStore: ...
    @property
    def user_lists(self) -> UserListStore: ...
    @property
    def user_files(self) -> UserFileStore: ...
    @property
    def service_keys(self) -> ServiceKeyStore: ...
    @property
    def registrations(self) -> RegistrationStore: ...
    @property
    def email_changes(self) -> EmailChangeStore: ...
    @property
    def challenges(self) -> ChallengeStore: ...
    @property
    def attempts(self) -> AttemptStore: ...
    @property
    def device_attempts(self) -> DeviceAttemptStore: ...
    @property
    def budgets(self) -> BudgetStore: ...
    @property
    def installation(self) -> InstallationStore: ...
    @property
    def sessions(self) -> SessionStore: ...
    @property
    def rotations(self) -> RotationStore: ...
    @property
    def fence(self) -> FenceStore: ...
    @property
    def key_use(self) -> KeyUseStore: ...
    @property
    def live_sessions(self) -> LiveSessionStore: ...
    @property
    def roles(self) -> RoleStore: ...
    @property
    def outbox(self) -> OutboxStore: ...
    @property
    def audit(self) -> AuditStore: ...
    @property
    def changes(self) -> ChangeStore: ...
    @property
    def limits(self) -> LimitStore: ...
    @property
    def purge(self) -> PurgeStore: ...


class Database(Protocol):
    """Runs functions on a connection of the pool; each call holds one connection and no second.

    All raise Overloaded when no connection came free in time and StorageUnavailable when the
    database is out of reach, too slow, or lost a race five times over.
    """

    async def run_tx(
        self,
        fn: Callable[[Tx], Awaitable[T]],
        *,
        committed: Callable[[Tx, T], Awaitable[bool]] | None = None,
    ) -> T:
        """Runs `fn` in a transaction, the whole of it again after a lost race (40001, 40P01).

        When the connection is lost in COMMIT, `committed` is asked on a new connection whether the
        change of this result is there: then it stands, otherwise it is CommitOutcomeUnknown.
        """

    async def run_statement(self, fn: Callable[[Tx], Awaitable[T]]) -> T:
        """Runs `fn`, which sends one statement, as a transaction of its own, committed on return.

        It saves the round trips of BEGIN and COMMIT; repeated like `run_tx` after a lost race.
        """
