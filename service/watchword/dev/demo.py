"""`watchword demo`: one sign-in as a person follows it, against a real server and a real mail."""

import asyncio
import email
import email.policy
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from uuid import UUID

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from watchword.app import App
from watchword.audit.model import CLI
from watchword.dev.installation import default_addresses, development_config, open_installation
from watchword.dev.ready import first_service_key
from watchword.dev.server import prepare_database
from watchword.login.role_admin import assign_role, create_role
from watchword.observability.logging import LogSettings, configure_logging
from watchword_client import AsyncClient, SessionInvalid

MAIL_TIMEOUT_SECONDS = 10.0
ROLE, PERMISSIONS = "editor", ("article:read", "article:write")


class DemoFailed(Exception):
    """The round trip did not go as it should."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What `demo --json` prints."""

    user_id: str
    challenge_id: str
    session_id: str
    roles: list[str]
    validated_before_revoke: bool
    validated_after_revoke: bool


async def run_demo(*, quiet: bool) -> DemoResult:
    """Starts a temporary installation, signs somebody in and out, and takes it all down again.

    Raises DemoFailed, DevelopmentPostgresError and ConfigError.
    """
    configure_logging(LogSettings(level="warning"))
    console = Console(quiet=quiet, highlight=False)
    with (
        tempfile.TemporaryDirectory(prefix="watchword-mail-") as mails,
        console.status("starting PostgreSQL and Watchword"),
        open_installation(ephemeral=True, database_url=None) as installation,
    ):
        mail_dir = Path(mails)
        # Nothing of the environment: the demonstration is the same everywhere.
        addresses = default_addresses(ephemeral=True)
        config = development_config(
            installation, {}, addresses=addresses, mail_dir=mail_dir, console=False
        )
        app = App(config)
        await prepare_database(installation)
        await app.start()
        try:
            await app.wait_ready()
            key = first_service_key(config) or ""
            async with AsyncClient(app.api_address, service_key=key) as client:
                return await _sign_in_and_out(client, app, mail_dir, console)
        finally:
            await app.stop()


async def _sign_in_and_out(
    client: AsyncClient, app: App, mail_dir: Path, console: Console
) -> DemoResult:
    console.rule("1. Ada registers and asks for a code")
    registered = await client.register(
        full_name="Ada Lovelace", username="ada", email="ada@example.com", send_otp=True
    )
    challenge = registered.challenge
    console.print(
        _facts({"challenge": challenge.id, "code": f"{challenge.code_length} digits, by mail"})
    )

    console.rule("2. the mail arrives")
    mail = await _wait_for_mail(mail_dir)
    body = mail.get_body(("plain",))
    text = body.get_content() if body is not None else ""
    headers = "".join(f"{name}: {mail[name]}\n" for name in ("From", "To", "Subject"))
    console.print(Panel(Text(f"{headers}\n{text.strip()}"), title="mail", title_align="left"))
    code = re.search(r"\d{6,10}", text.partition("\n")[0])
    if code is None:
        raise DemoFailed("the mail has no code in its first line")

    console.rule("3. Ada types the code: a session begins")
    signed_in = await client.verify_otp(challenge_id=challenge.id, code=code[0])
    token = signed_in.session_token
    await create_role(app.database, ROLE, PERMISSIONS, actor=CLI)
    await assign_role(app.database, ROLE, UUID(signed_in.user.id), actor=CLI)
    console.print(
        _facts(
            {
                "session": signed_in.session.id,
                "until": signed_in.session.expire_time.ToJsonString(),
                "token": f"{token[:6]}... ({len(token)} characters)",
            }
        )
    )

    console.rule("4. a backend asks: whose session is this, and what may they do?")
    live = await client.validate_session(token)
    console.print(
        _facts(
            {
                "user": f"{live.user.full_name} <{live.user.email}>, `{live.user.username}`",
                "roles": ", ".join(live.user.roles),
                "permissions": ", ".join(live.user.permissions),
            }
        )
    )

    console.rule("5. Ada signs out; the token is worth nothing from now on")
    revoked = await client.revoke(token)
    after, refusal = await _validates(client, token)
    console.print(_facts({"sessions revoked": str(revoked.revoked_count), "asked again": refusal}))
    result = DemoResult(
        user_id=live.user.id,
        challenge_id=challenge.id,
        session_id=live.session.id,
        roles=list(live.user.roles),
        validated_before_revoke=live.session.id == signed_in.session.id,
        validated_after_revoke=after,
    )
    if after or not result.validated_before_revoke or result.roles != [ROLE]:
        raise DemoFailed(f"the round trip answered {result}")
    console.print("\n[green]done[/green]: `make dev` starts one to play with")
    return result


async def _validates(client: AsyncClient, token: str) -> tuple[bool, str]:
    try:
        await client.validate_session(token)
    except SessionInvalid as error:
        return False, f"{error.code.name} {error.reason}: {error.message}"
    return True, "still valid"


async def _wait_for_mail(mail_dir: Path) -> EmailMessage:
    try:
        async with asyncio.timeout(MAIL_TIMEOUT_SECONDS):
            while not (files := list(mail_dir.glob("*.eml"))):
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise DemoFailed(f"no mail came within {MAIL_TIMEOUT_SECONDS:.0f} s") from None
    return email.message_from_bytes(files[0].read_bytes(), policy=email.policy.default)


def _facts(facts: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        table.add_row(Text(name, style="dim"), Text(value))
    return table
