"""Which language a mail is asked for in: the request's, else the stored one, else English.

Most of these tests look at what the dispatcher is given to choose from; the last ones at the mails.
"""

import pytest

from tests.rpc.wire import settled
from tests.support.running import RunningApp
from watchword.jobs import mail_dispatcher


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str | None, str | None]]:
    """The request's and the stored language of every mail, in order."""
    seen: list[tuple[str | None, str | None]] = []
    negotiate = mail_dispatcher.negotiate

    def note(requested: str | None, stored: str | None, available: frozenset[str]) -> str:
        seen.append((requested, stored))
        return negotiate(requested, stored, available)

    monkeypatch.setattr(mail_dispatcher, "negotiate", note)
    return seen


async def test_the_language_of_a_registration(
    app: RunningApp, asked: list[tuple[str | None, str | None]]
) -> None:
    """Register's own is both; SendOtp's goes before it; a resend has one of its own."""
    challenge = (await app.register(locale="pt-BR")).challenge
    await settled(app)
    await app.client.send_otp(email="ada@example.com", locale="de")
    await settled(app)
    await app.client.send_otp(email="ada@example.com")
    await settled(app)
    await app.client.send_otp(challenge_id=challenge.id, locale="tlh")
    await settled(app)
    assert asked == [("pt-BR", "pt-BR"), ("de", "pt-BR"), (None, "pt-BR"), ("tlh", "pt-BR")]


async def test_the_language_of_an_account(
    app: RunningApp, asked: list[tuple[str | None, str | None]]
) -> None:
    """The account keeps its registration's; another Register does not change it."""
    registered = await app.register(locale="pt-BR")
    code = await app.mails.code_for("ada@example.com")
    await app.client.verify_otp(challenge_id=registered.challenge.id, code=code)
    await app.client.send_otp(email="ada@example.com")
    await settled(app)
    await app.register("other", email="ada@example.com", locale="fr")
    await settled(app)
    assert asked == [("pt-BR", "pt-BR"), (None, "pt-BR"), ("fr", "pt-BR")]
    assert (await app.sql("SELECT locale FROM users"))[0][0] == "pt-BR"


async def test_no_language_at_all_is_english(
    app: RunningApp, asked: list[tuple[str | None, str | None]]
) -> None:
    """Nothing asked and nothing stored: the mail is written, in English."""
    await app.register()
    mail = (await app.mails.wait_for("ada@example.com"))[0]
    assert asked == [(None, None)]
    assert "sign-in code" in str(mail.get_body(("plain",)))


@pytest.mark.parametrize("locale", ["de", "de-CH", "DE"])
async def test_a_german_request_brings_a_german_mail(app: RunningApp, locale: str) -> None:
    """The mail that arrives is German throughout, and its code signs in."""
    registered = await app.register(locale=locale)
    mail = (await app.mails.wait_for("ada@example.com"))[0]
    assert mail["Content-Language"] == "de"
    assert " ist Ihr Code für " in mail["Subject"]
    assert "ist Ihr Anmeldecode für" in str(mail.get_body(("plain",)).get_content())  # type: ignore[union-attr]  # every mail has one
    assert '<html lang="de"' in str(mail.get_body(("html",)).get_content())  # type: ignore[union-attr]  # likewise
    code = await app.mails.code_for("ada@example.com")
    signed_in = await app.client.verify_otp(challenge_id=registered.challenge.id, code=code)
    assert signed_in.session_token


async def test_an_unknown_language_brings_the_stored_one(app: RunningApp) -> None:
    """Who registered in German and asks in a language without templates reads German."""
    await app.register(locale="de-AT")
    await app.mails.wait_for("ada@example.com")
    await app.client.send_otp(email="ada@example.com", locale="tlh")
    mails = await app.mails.wait_for("ada@example.com", count=2)
    assert [mail["Content-Language"] for mail in mails] == ["de", "de"]
