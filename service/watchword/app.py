"""The composition root: the only file that knows every class.

`App` is one process of Watchword. It starts NOT_SERVING, serves once the database is there with
this program's schema, and on SIGTERM drains: NOT_SERVING, finish calls (gate, then grpc.aio) and
mails under way, store what was refused and seen, stop the jobs, close the pool.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Final

import structlog
from asyncpg.connection import LoggedQuery

from watchword.audit.refusals import Refusals
from watchword.callers.registry import CallerRegistry
from watchword.config import Config
from watchword.crypto import KeyRing
from watchword.errors import Overloaded, ReauthenticationNeeded, SessionInvalid, StorageUnavailable
from watchword.gate import Gate, has_gate, unary_calls
from watchword.jobs.audit_writer import AuditWriter
from watchword.jobs.change_poller import ChangePoller
from watchword.jobs.first_use_writer import FirstUseWriter
from watchword.jobs.last_seen_writer import LastSeenWriter
from watchword.jobs.level_watch import LevelWatch
from watchword.jobs.mail_dispatcher import MailDispatcher
from watchword.jobs.mail_limits import MailLimits
from watchword.jobs.purger import Purger
from watchword.jobs.readiness import Readiness
from watchword.jobs.service_key_reader import ServiceKeyReader
from watchword.jobs.supervisor import Supervisor
from watchword.listener import Listener
from watchword.login.context import LoginContext
from watchword.login.failures import FailureCounter
from watchword.login.limits import Limits
from watchword.mail.ports import Sender
from watchword.mail.rendering import Renderer
from watchword.senders.configured import configured_senders
from watchword.session_cache import GateCache, GateRefusals
from watchword.sessions.first_use import FirstUses
from watchword.sessions.last_seen import LastSeen
from watchword.storage.changes import ChangeFeed
from watchword.storage.pool import Isolation, Pool
from watchword.storage.probe import DatabaseProbe
from watchword.storage.service_keys import ServiceKeyFeed
from watchword.storage.transactions import PgDatabase
from watchword.transport.admin_service import AdminService
from watchword.transport.auth_service import AuthService
from watchword.transport.errors import status_of
from watchword.transport.pipeline import Pipeline
from watchword.transport.server import GrpcServer
from watchword.transport.session_reader import SessionReader
from watchword.transport.unary_server import UnaryServer

# Calls that Python answers at once for each connection to the database: enough to keep all of them
# busy, and few enough that nobody waits long for one.
CALLS_PER_CONNECTION: Final = 4

_log = structlog.get_logger(__name__)


class App:
    """One running Watchword; `start` and `stop`, or `run_until_signal` for a whole process."""

    def __init__(
        self,
        config: Config,
        *,
        isolation: Isolation = "read_committed",
        query_logger: Callable[[LoggedQuery], None] | None = None,
    ) -> None:
        keys = config.secrets.key_ring()
        self._pool = Pool(config.database, isolation=isolation, query_logger=query_logger)
        self.database = PgDatabase(self._pool)
        self._senders = configured_senders(config.mail, config.smtp, config.resend)
        self._dispatcher = _dispatcher(config, keys, self.database, self._senders)
        refusals = Refusals()
        self._audit_writer = AuditWriter(self.database, refusals)
        self.limits = Limits(self.database, keys, config.limits, refusals)
        callers = config.caller_registry()
        last_seen = LastSeen(config.session.idle_lifetime)
        self._cache = _cache(config, keys, callers, last_seen)
        self._last_seen_writer = LastSeenWriter(self.database, last_seen, self._cache)
        first_uses = FirstUses()
        self._first_use_writer = FirstUseWriter(self.database, first_uses, self._cache)
        self._service_keys = ServiceKeyReader(
            ServiceKeyFeed(self._pool), callers, self._cache, self.database
        )
        context = LoginContext(
            database=self.database,
            keys=keys,
            otp=config.otp,
            sessions=config.session,
            settings=config.login,
            refusals=refusals,
            limits=self.limits,
            failures=FailureCounter(self.database),
            last_seen=last_seen,
            first_uses=first_uses,
            mail_queued=self._dispatcher.wake,
            callers_changed=self._service_keys.read,
            cache=self._cache,
        )
        pipeline = Pipeline(callers, refusals)
        server = GrpcServer(config.api, pipeline, AuthService(context))
        self._leaving = (config.api.shutdown_delay, config.api.drain_timeout)
        gate_jobs: dict[str, Callable[[], Awaitable[None]]] = {}
        api_gate = None
        if self._cache is not None:
            calls = unary_calls(list(server.handlers))
            api_gate = Gate(config.gate, config.api, server.services, self._cache.lane, calls)
            gate_jobs["unary server"] = UnaryServer(
                calls,
                list(server.handlers.values()),
                at_once=CALLS_PER_CONNECTION * config.database.pool_size,
            ).run
            gate_jobs["session reader"] = SessionReader(context, self._cache).run
        self._api = Listener(server, api_gate)
        self._admin = _admin_listener(config, pipeline, context)
        self._listeners = (self._api, self._admin)
        self._probe = DatabaseProbe(self._pool)
        self._readiness = Readiness(self._probe, self._set_serving)
        if self._cache is not None and config.gate.cache_mib > 0:
            poller = ChangePoller(
                ChangeFeed(self._pool),
                self._cache,
                longest_transaction=timedelta(seconds=self._pool.longest_seconds),
            )
            gate_jobs["change poller"] = self._once_ready(poller.run)
        self._jobs = Supervisor(
            {
                **gate_jobs,
                "api gate": self._api.watch,
                "admin gate": self._admin.watch,
                "service keys": self._once_ready(self._service_keys.run),
                "readiness": self._readiness.run,
                "mail dispatcher": self._once_ready(self._dispatcher.run),
                "level watch": self._once_ready(LevelWatch(self.database, config.otp).run),
                "purger": self._once_ready(Purger(self.database, config.purge, config.audit).run),
                "audit writer": self._once_ready(self._audit_writer.run),
                "last-seen writer": self._once_ready(self._last_seen_writer.run),
                "first-use writer": self._once_ready(self._first_use_writer.run),
            }
        )

    @property
    def api_address(self) -> str:
        """Where AuthService is, once it listens."""
        return self._api.address

    @property
    def admin_address(self) -> str:
        """Where AdminService is, likewise."""
        return self._admin.address

    async def _set_serving(self, serving: bool) -> None:
        for listener in self._listeners:
            await listener.set_serving(serving)

    def _once_ready(self, job: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """Keeps a job from asking for tables that are not there yet."""

        async def run() -> None:
            await self.wait_ready()
            await job()

        return run

    async def start(self) -> None:
        """Listens and starts the jobs; raises AddressTaken. Serving follows by itself."""
        await self._pool.open()
        await self._listen()
        _log.info("listening", api=self.api_address, admin=self.admin_address)
        if not self.limits.enabled:
            _log.warning("send and call limits are off", hint="unset `WATCHWORD_LIMITS__ENABLED`")
        self._jobs.start()

    async def _listen(self) -> None:
        """Starts all listeners, or none."""
        await self._api.start()
        try:
            await self._admin.start()
        except BaseException:
            await self._api.drain(0)
            raise

    async def wait_ready(self) -> None:
        """Returns once health has become SERVING for the first time."""
        await self._readiness.became_ready.wait()

    async def wait_failed(self) -> None:
        """Returns never; raises TaskDiedTooOften when a background task cannot be kept alive."""
        assert self._jobs.failed is not None, "`start` comes first"
        await self._jobs.failed

    async def stop(self) -> None:
        """Drains and closes everything."""
        shutdown_delay, drain_timeout = self._leaving
        for listener in self._listeners:
            await listener.leave()
        await asyncio.sleep(shutdown_delay.total_seconds())
        await asyncio.gather(
            *(listener.drain(drain_timeout.total_seconds()) for listener in self._listeners)
        )
        await asyncio.gather(
            self._service_keys.drain(),
            self._dispatcher.drain(),
            self._audit_writer.drain(),
            self._last_seen_writer.drain(),
            self._first_use_writer.drain(),
        )
        await self._jobs.stop()
        for sender in self._senders:
            await sender.close()
        self._probe.close()
        await self._pool.close()
        _log.info("stopped")


async def run_until_signal(
    app: App,
    *,
    on_start: Callable[[], Awaitable[None]] | None = None,
    on_ready: Callable[[App], None] | None = None,
    until: Callable[[], Coroutine[None, None, None]] | None = None,
) -> None:
    """Runs the app until SIGTERM or SIGINT; raises TaskDiedTooOften after an orderly stop.

    `on_start` is awaited before anything is called ready, `on_ready` is called once when it is.
    What `until` raises ends it as well.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await app.start()
    waits: list[asyncio.Task[object]] = [
        asyncio.create_task(stopping.wait(), name="signal"),
        asyncio.create_task(app.wait_failed(), name="jobs"),
    ]
    if until is not None:
        waits.append(asyncio.create_task(until(), name="until"))
    ready = asyncio.create_task(_announce(app, on_start, on_ready), name="announce")
    try:
        done, _ = await asyncio.wait([*waits, ready], return_when=asyncio.FIRST_COMPLETED)
        if ready in done:
            ready.result()
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*waits, ready):
            task.cancel()
        await app.stop()
    for task in done:
        task.result()


async def _announce(
    app: App,
    on_start: Callable[[], Awaitable[None]] | None,
    on_ready: Callable[[App], None] | None,
) -> None:
    if on_start is not None:
        await on_start()
    await app.wait_ready()
    if on_ready is not None:
        on_ready(app)


def _admin_listener(config: Config, pipeline: Pipeline, context: LoginContext) -> Listener:
    server = GrpcServer(config.admin, pipeline, AdminService(context))
    # Few calls come here, each by grpc.aio; the gate in front bounds connections and streams.
    gated = has_gate(config.gate, config.admin)
    return Listener(server, Gate(config.gate, config.admin, server.services) if gated else None)


def _cache(
    config: Config, keys: KeyRing, callers: CallerRegistry, last_seen: LastSeen
) -> GateCache | None:
    if not has_gate(config.gate, config.api):
        return None
    # Without a poller there is no lease, and the database is asked each time.
    return GateCache(
        keys,
        callers,
        GateRefusals(
            invalid=status_of(SessionInvalid()),
            reauthentication_needed=status_of(ReauthenticationNeeded()),
            overloaded=status_of(Overloaded()),
            unavailable=status_of(StorageUnavailable()),
        ),
        bytes_max=config.gate.cache_mib * 1024 * 1024,
        idle_lifetime=config.session.idle_lifetime,
        report_period=last_seen.period,
    )


def _dispatcher(
    config: Config, keys: KeyRing, database: PgDatabase, senders: list[Sender]
) -> MailDispatcher:
    return MailDispatcher(
        database,
        keys,
        Renderer(config.mail.from_, config.mail.code_in_subject),
        senders,
        MailLimits(database, keys, config.limits),
        code_lifetime=config.otp.lifetime,
    )
