"""The one way to the database: transactions that are run again, and what a failure means.

40001 (serialization failure) and 40P01 (deadlock) are answers to a race: the whole function runs
again, at most 5 times. A lost connection, a full or starting server, a statement that took too long
and a schema that is not there yet are StorageUnavailable. Anything else is a defect and passes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from typing import TypeVar

import asyncpg
import structlog
from asyncpg import exceptions as pg

from watchword.crypto import jitter_seconds
from watchword.errors import CommitOutcomeUnknown, StorageUnavailable
from watchword.login.ports import Tx
from watchword.storage.attempts import AttemptStore
from watchword.storage.audit import AuditStore
from watchword.storage.budgets import BudgetStore
from watchword.storage.changes import ChangeStore
from watchword.storage.device_attempts import DeviceAttemptStore
from watchword.storage.email_changes import EmailChangeStore
from watchword.storage.fence import FenceStore
from watchword.storage.installation import InstallationStore
from watchword.storage.key_use import KeyUseStore
from watchword.storage.limits import LimitStore
from watchword.storage.live_sessions import LiveSessionStore
from watchword.storage.otp import ChallengeStore
from watchword.storage.outbox import OutboxStore
from watchword.storage.pool import Connection, Pool
from watchword.storage.purge import PurgeStore
from watchword.storage.registrations import RegistrationStore
from watchword.storage.roles import RoleStore
from watchword.storage.rotations import RotationStore
from watchword.storage.service_keys import ServiceKeyStore
from watchword.storage.sessions import SessionStore
from watchword.storage.user_files import UserFileStore
from watchword.storage.user_lists import UserListStore
from watchword.storage.users import UserStore

T = TypeVar("T")

ATTEMPTS_MAX = 5

_LOST_RACE = (
    pg.SerializationError,
    pg.DeadlockDetectedError,
    # A migration has changed a column meanwhile; the second time the statement is prepared anew.
    pg.InvalidCachedStatementError,
)
_CONNECTION_LOST = (
    pg.PostgresConnectionError,
    pg.AdminShutdownError,
    pg.CrashShutdownError,
    pg.IdleInTransactionSessionTimeoutError,
    asyncpg.InterfaceError,
    # The driver was told of the end while nothing was asked, and has not seen it yet.
    asyncpg.InternalClientError,
    OSError,
    asyncio.IncompleteReadError,
)
_UNAVAILABLE = (
    *_CONNECTION_LOST,
    TimeoutError,
    # Classes 53 (connections, memory, disk), 57 (starting, stopping, cancelled) and 58 (its disk).
    pg.InsufficientResourcesError,
    pg.OperatorInterventionError,
    pg.PostgresSystemError,
    pg.ReadOnlySQLTransactionError,
    # The schema has not been migrated yet, or by a newer program that this one is not fit for.
    pg.UndefinedTableError,
    pg.UndefinedColumnError,
    # Wrong credentials or database name: the operator's to mend, and no defect of a call.
    pg.InvalidAuthorizationSpecificationError,
    pg.InvalidCatalogNameError,
)

_log = structlog.get_logger(__name__)


class PgTx:
    """Implements watchword.login.ports.Tx on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @cached_property
    def users(self) -> UserStore:
        return UserStore(self._connection)

    @cached_property
    def user_lists(self) -> UserListStore:
        return UserListStore(self._connection)

    @cached_property
    def user_files(self) -> UserFileStore:
        return UserFileStore(self._connection)

    @cached_property
    def service_keys(self) -> ServiceKeyStore:
        return ServiceKeyStore(self._connection)

    @cached_property
    def registrations(self) -> RegistrationStore:
        return RegistrationStore(self._connection)

    @cached_property
    def email_changes(self) -> EmailChangeStore:
        return EmailChangeStore(self._connection)

    @cached_property
    def challenges(self) -> ChallengeStore:
        return ChallengeStore(self._connection)

    @property
    def attempts(self) -> AttemptStore:
        return AttemptStore(self._connection)

    @cached_property
    def device_attempts(self) -> DeviceAttemptStore:
        return DeviceAttemptStore(self._connection)

    @cached_property
    def budgets(self) -> BudgetStore:
        return BudgetStore(self._connection)

    @cached_property
    def installation(self) -> InstallationStore:
        return InstallationStore(self._connection)

    @cached_property
    def sessions(self) -> SessionStore:
        return SessionStore(self._connection)

    @cached_property
    def fence(self) -> FenceStore:
        return FenceStore(self._connection)

    @cached_property
    def key_use(self) -> KeyUseStore:
        return KeyUseStore(self._connection)

    @cached_property
    def rotations(self) -> RotationStore:
        return RotationStore(self._connection)

    @cached_property
    def live_sessions(self) -> LiveSessionStore:
        return LiveSessionStore(self._connection)

    @cached_property
    def roles(self) -> RoleStore:
        return RoleStore(self._connection)

    @cached_property
    def outbox(self) -> OutboxStore:
        return OutboxStore(self._connection)

    @cached_property
    def audit(self) -> AuditStore:
        return AuditStore(self._connection)

    @cached_property
    def changes(self) -> ChangeStore:
        return ChangeStore(self._connection)

    @cached_property
    def limits(self) -> LimitStore:
        return LimitStore(self._connection)

    @cached_property
    def purge(self) -> PurgeStore:
        return PurgeStore(self._connection)


class PgDatabase:
    """Implements watchword.login.ports.Database."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def run_tx(
        self,
        fn: Callable[[Tx], Awaitable[T]],
        *,
        committed: Callable[[Tx, T], Awaitable[bool]] | None = None,
    ) -> T:
        # Set before each COMMIT: what the look-up after a lost one answers with.
        decided: list[T] = []

        async def attempt(connection: Connection) -> T:
            decided.clear()
            transaction = connection.transaction(isolation=self._pool.isolation)
            await transaction.start()
            try:
                result = await fn(PgTx(connection))
            except asyncio.CancelledError:
                # The pool cuts the connection off; a frozen server would never answer a ROLLBACK.
                raise
            except BaseException:
                # A connection that is gone has rolled back by itself; what was raised stays.
                with suppress(*_CONNECTION_LOST):
                    await transaction.rollback()
                raise
            decided.append(result)
            await _commit(transaction)
            return result

        try:
            return await self._repeat(attempt)
        except CommitOutcomeUnknown:
            if committed is None or not decided:
                raise
            result = decided[0]
            if not await self.run_statement(lambda tx: committed(tx, result)):
                raise
            return result

    async def run_statement(self, fn: Callable[[Tx], Awaitable[T]]) -> T:
        async def attempt(connection: Connection) -> T:
            return await fn(PgTx(connection))

        return await self._repeat(attempt)

    async def _repeat(self, attempt: Callable[[Connection], Awaitable[T]]) -> T:
        async with (
            _translated(),
            asyncio.timeout(self._pool.longest_seconds),
            self._pool.connection() as connection,
        ):
            for number in range(1, ATTEMPTS_MAX + 1):
                try:
                    return await attempt(connection)
                except _LOST_RACE as error:
                    _log.debug("lost a race", sqlstate=error.sqlstate, attempt=number)
                    if number == ATTEMPTS_MAX:
                        raise StorageUnavailable from error
                    await asyncio.sleep(jitter_seconds(0.002 * 2**number))
        raise AssertionError("unreachable: the last attempt returns or raises")


async def _commit(transaction: asyncpg.transaction.Transaction) -> None:
    try:
        await transaction.commit()
    except (*_CONNECTION_LOST, pg.InternalServerError) as error:
        raise CommitOutcomeUnknown from error


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except _UNAVAILABLE as error:
        # The driver's own words stay in the log.
        _log.warning("database unavailable", error=type(error).__name__, detail=str(error))
        raise StorageUnavailable from error
