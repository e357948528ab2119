"""A real Watchword in the test's own process: the app, a client, its mails, its statements."""

import asyncio
import email
import email.policy
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path

import asyncpg
from asyncpg.connection import LoggedQuery

from tests.support.postgres import fetch
from watchword.app import App
from watchword.callers.model import Scope
from watchword.callers.registry import parse_caller_keys
from watchword.config import PREFIX, Config, load_config
from watchword.crypto import KeyRing
from watchword.dev.ready import first_service_key
from watchword.keyring import SecretsSettings, caller_entry, generate_secrets
from watchword.storage.pool import Isolation
from watchword_client import AsyncAdminClient, AsyncClient
from watchword_client import auth_service_pb2 as pb

MAIL_TIMEOUT_SECONDS = 10.0
# Tests guess more in a minute than an installation puts up with: those of its level set their own.
NO_ALARM = {
    "OTP__EIGHT_DIGITS_PER_MINUTE": "1000000",
    "OTP__EIGHT_DIGITS_PER_DAY": "1000000",
    "OTP__LONG_CODES_PER_MINUTE": "1000000",
}


@dataclass
class Statements:
    """Every statement that reached PostgreSQL since `clear`, BEGIN and COMMIT left out."""

    seen: list[str] = field(default_factory=list)

    def log(self, query: LoggedQuery) -> None:
        """The callback for asyncpg."""
        text = query.query.strip()
        if not text.upper().startswith(("BEGIN", "COMMIT", "ROLLBACK")):
            self.seen.append(text)

    def clear(self) -> None:
        """Starts counting anew."""
        self.seen.clear()


@dataclass
class RunningApp:
    """What a test works with."""

    app: App
    config: Config
    client: AsyncClient
    admin: AsyncAdminClient
    mails: "MailFolder"
    statements: Statements
    database_url: str

    @property
    def keys(self) -> KeyRing:
        """The installation's keys."""
        return self.config.secrets.key_ring()

    async def sql(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Runs a statement on a connection of its own."""
        return await fetch(self.database_url, statement, *arguments)

    async def register(self, username: str = "ada", **fields: object) -> pb.RegisterResponse:
        """Registers `<username>@example.com`; other fields as given."""
        request = {
            "full_name": "Ada Lovelace",
            "username": username,
            "email": f"{username}@example.com",
            "send_otp": True,
        } | fields
        return await self.client.register(**request)  # type: ignore[arg-type]  # a test's own mix

    async def sign_in(self, username: str = "ada") -> pb.VerifyOtpResponse:
        """Registers and signs in; returns the whole answer."""
        registered = await self.register(username)
        return await self.client.verify_otp(
            challenge_id=registered.challenge.id,
            code=await self.mails.code_for(f"{username}@example.com"),
        )

    def client_with(self, *scopes: Scope) -> AsyncClient:
        """A client whose key holds these scopes only; the key must be configured beforehand."""
        return AsyncClient(self.app.api_address, service_key=self.service_key(*scopes))

    def service_key(self, *scopes: Scope) -> str:
        """The configured key that holds exactly these scopes."""
        wanted = frozenset(scopes)
        for entry in parse_caller_keys(self.config.callers.keys.get_secret_value()):
            if entry.scopes == wanted:
                return entry.key.reveal()
        raise LookupError(f"no configured key has exactly {sorted(wanted)}")


class MailFolder:
    """The folder that the file sender writes to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, EmailMessage] = {}

    def all(self) -> list[EmailMessage]:
        """Returns every mail, the oldest first."""
        files = sorted(self.folder.glob("*.eml"), key=lambda path: path.stat().st_mtime_ns)
        for path in files:
            if path not in self._read:
                content = path.read_bytes()
                self._read[path] = email.message_from_bytes(content, policy=email.policy.default)
        return [self._read[path] for path in files]

    async def wait_for(self, address: str, *, count: int = 1) -> list[EmailMessage]:
        """Returns the mails to the address once there are so many."""
        async with asyncio.timeout(MAIL_TIMEOUT_SECONDS):
            while len(found := [mail for mail in self.all() if mail["To"] == address]) < count:
                await asyncio.sleep(0.01)
        return found

    async def code_for(self, address: str, *, count: int = 1) -> str:
        """Returns the code of the latest mail to the address, once there are so many."""
        return code_of((await self.wait_for(address, count=count))[-1])


def code_of(mail: EmailMessage) -> str:
    """Returns the code that a code mail begins with."""
    return str(mail["Subject"]).partition(" ")[0]


def caller_keys(secrets: SecretsSettings) -> str:
    """A caller with every scope first, then one for each scope alone."""
    keys = secrets.key_ring()
    each = [caller_entry(keys, f"only-{scope}", [scope]) for scope in Scope]
    return ",".join([caller_entry(keys, "tests", Scope), *each])


def installation_environment(database_url: str, mail_dir: Path, **settings: str) -> dict[str, str]:
    """The environment of a new installation; `settings` like OTP__CODE_LENGTH come over it."""
    made = generate_secrets()
    secrets = SecretsSettings(
        keys=made[f"{PREFIX}SECRETS__KEYS"],  # type: ignore[arg-type]  # pydantic wraps it
        index_key=made[f"{PREFIX}SECRETS__INDEX_KEY"],  # type: ignore[arg-type]  # likewise
    )
    return {
        **made,
        f"{PREFIX}DATABASE__URL": database_url,
        f"{PREFIX}CALLERS__KEYS": caller_keys(secrets),
        f"{PREFIX}API__ADDRESS": "127.0.0.1:0",
        f"{PREFIX}ADMIN__ADDRESS": "127.0.0.1:0",
        f"{PREFIX}MAIL__SENDERS": "file",
        f"{PREFIX}MAIL__ALLOW_DEVELOPMENT_SENDERS": "true",
        f"{PREFIX}MAIL__FILE_DIR": str(mail_dir),
        # Tests age rows by weeks and count statements: the purger works where it is asked for.
        f"{PREFIX}PURGE__INTERVAL": "1d",
        # Tests change rows behind Watchword's back: those of the cache turn it on.
        f"{PREFIX}GATE__CACHE_MIB": "0",
        # One mailbox gets many mails, and one address many people: tests of limits turn them on.
        f"{PREFIX}LIMITS__ENABLED": "false",
        **{PREFIX + name: value for name, value in NO_ALARM.items()},
        **{PREFIX + name: value for name, value in settings.items()},
    }


@asynccontextmanager
async def running_app(
    database_url: str, *, isolation: Isolation = "read_committed", **settings: str
) -> AsyncIterator[RunningApp]:
    """Starts a server on a migrated database and stops it; settings like OTP__CODE_LENGTH="10"."""
    with tempfile.TemporaryDirectory(prefix="watchword-mail-") as folder:
        config = load_config(installation_environment(database_url, Path(folder), **settings))
        statements = Statements()
        app = App(config, isolation=isolation, query_logger=statements.log)
        await app.start()
        try:
            await app.wait_ready()
            key = first_service_key(config)
            assert key is not None
            async with (
                AsyncClient(app.api_address, service_key=key) as client,
                AsyncAdminClient(app.admin_address, service_key=key) as admin,
            ):
                yield RunningApp(
                    app=app,
                    config=config,
                    client=client,
                    admin=admin,
                    mails=MailFolder(Path(folder)),
                    statements=statements,
                    database_url=database_url,
                )
        finally:
            await app.stop()
