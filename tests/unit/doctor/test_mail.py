"""Checks of the senders, on the servers that their own tests use."""

from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.resend_server import API_KEY, Answer, resend_server
from tests.support.smtp_server import PASSWORD, USERNAME, smtp_server
from watchword.config import Config, load_config
from watchword.doctor import mail
from watchword.doctor.findings import Finding, Level
from watchword.keyring import generate_secrets
from watchword.mail.settings import SenderName
from watchword.senders import smtp


def config(**settings: str) -> Config:
    """A complete configuration with these settings."""
    environ = {
        **generate_secrets(),
        "WATCHWORD_DATABASE__URL": "postgresql:///watchword",
        "WATCHWORD_MAIL__FROM": "Acme <no-reply@acme.example>",
    }
    return load_config(environ | {f"WATCHWORD_{name}": it for name, it in settings.items()})


async def found_for(name: SenderName, **settings: str) -> Finding:
    """The one finding about this sender."""
    (finding,) = await mail.sender(name, config(**settings))
    assert bool(finding.hint) == (finding.level is not Level.OK)
    return finding


async def test_smtp_on_this_machine() -> None:
    """Plain text is fine there; whether there is a login is told, not whose."""
    async with smtp_server(auth=True) as server:
        place = f"127.0.0.1:{server.port}"
        right = await found_for(
            SenderName.SMTP, SMTP__URL=f"smtp://{USERNAME}:{quote(PASSWORD, safe='')}@{place}"
        )
        wrong = await found_for(SenderName.SMTP, SMTP__URL=f"smtp://{USERNAME}:CANARY@{place}")
    assert (right.level, right.message) == (
        Level.OK,
        f"`{place}` answers on this machine, in plain text; the login was accepted",
    )
    assert (wrong.level, wrong.message) == (
        Level.FAILURE,
        f"`{place}` refuses the login with code 535",
    )
    assert server.taken == []
    for finding in (right, wrong):
        assert USERNAME not in str(finding)
        assert "CANARY" not in str(finding)


async def test_smtp_in_plain_text_across_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning where it is allowed, a failure where it is not: no mail would leave."""
    for module in (smtp, mail):
        monkeypatch.setattr(module, "is_loopback", lambda host: False)
    async with smtp_server() as server:
        url = f"smtp://127.0.0.1:{server.port}"
        allowed = await found_for(SenderName.SMTP, SMTP__URL=url, SMTP__ALLOW_PLAINTEXT="true")
        refused = await found_for(SenderName.SMTP, SMTP__URL=url)
    assert allowed.level is Level.WARNING
    assert "answers in plain text" in allowed.message
    assert refused.level is Level.FAILURE
    assert "STARTTLS" in refused.hint


async def test_no_smtp_server() -> None:
    """The place is named."""
    found = await found_for(SenderName.SMTP, SMTP__URL="smtp://u:CANARY@127.0.0.1:1")
    assert found.level is Level.FAILURE
    assert "`127.0.0.1:1` cannot be used" in found.message
    assert "CANARY" not in str(found)


@pytest.mark.parametrize(
    ("domains", "level", "words"),
    [
        ({"acme.example": "verified"}, Level.OK, "is verified"),
        (None, Level.OK, "may only send"),
        ({"acme.example": "pending"}, Level.FAILURE, "is `pending`"),
        ({"acme.example": "failed"}, Level.FAILURE, "is `failed`"),
        ({"acme.example": "partially_failed"}, Level.WARNING, "is `partially_failed`"),
        ({"mail.acme.example": "verified"}, Level.FAILURE, "is not a domain of the account"),
        ({}, Level.FAILURE, "is not a domain of the account"),
    ],
)
async def test_resend_knows_the_domain(
    domains: dict[str, str] | None, level: Level, words: str
) -> None:
    """The one of WATCHWORD_MAIL__FROM, to the letter; a key that may only send cannot see it."""
    async with resend_server() as server:
        server.domains = domains
        found = await found_for(
            SenderName.RESEND, RESEND__API_KEY=API_KEY, RESEND__BASE_URL=server.base_url
        )
    assert found.level is level
    assert words in found.message
    assert "`acme.example`" in found.message
    assert API_KEY not in str(found)
    assert server.sent == []


async def test_resend_refuses_the_key() -> None:
    """Status and Resend's word for it; the key is not shown."""
    async with resend_server() as server:
        settings = {"RESEND__API_KEY": "re_CANARY", "RESEND__BASE_URL": server.base_url}
        found = await found_for(SenderName.RESEND, **settings)
        server.errors = [Answer(422, "validation_error")]
        odd = await found_for(SenderName.RESEND, **settings)
    assert (found.level, found.message) == (Level.FAILURE, "Resend answered 403 invalid_api_key")
    assert "WATCHWORD_RESEND__API_KEY" in found.hint
    assert (odd.level, odd.message) == (Level.FAILURE, "Resend answered 422 validation_error")
    assert "CANARY" not in str([found, odd])


async def test_development_senders(tmp_path: Path) -> None:
    """Warnings; the folder is looked at and not made."""
    settings = {"MAIL__ALLOW_DEVELOPMENT_SENDERS": "true", "MAIL__SENDERS": "file,console"}
    folder = tmp_path / "new" / "mails"
    found = await found_for(SenderName.FILE, MAIL__FILE_DIR=str(folder), **settings)
    assert found.level is Level.WARNING
    assert not folder.exists()
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "mails"
    found = await found_for(SenderName.FILE, MAIL__FILE_DIR=str(below), **settings)
    assert found.level is Level.FAILURE
    found = await found_for(SenderName.CONSOLE, MAIL__FILE_DIR=str(folder), **settings)
    assert found.level is Level.WARNING
