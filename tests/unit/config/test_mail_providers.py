"""The senders `smtp` and `resend`: what they need, and what is refused."""

from pathlib import Path

import pytest

from watchword.config import ConfigError, load_config
from watchword.keyring import generate_secrets
from watchword.mail.settings import SenderName
from watchword.senders.smtp import SmtpServer

BASE = {**generate_secrets(), "WATCHWORD_DATABASE__URL": "postgresql://localhost/watchword"}
SMTP = {"MAIL__FROM": "Acme <a@acme.example>", "SMTP__URL": "smtp://u:CANARY@mail.example"}
RESEND = {"MAIL__FROM": "Acme <a@acme.example>", "RESEND__API_KEY": "re_CANARY"}


def environment(settings: dict[str, str]) -> dict[str, str]:
    """A complete environment with these settings."""
    return BASE | {f"WATCHWORD_{name}": value for name, value in settings.items()}


def problems_of(settings: dict[str, str]) -> list[str]:
    """What is wrong; the values are never shown."""
    with pytest.raises(ConfigError) as caught:
        load_config(environment(settings))
    assert "CANARY" not in str(caught.value)
    return caught.value.problems


def test_providers_need_no_switch() -> None:
    """They are in order, with their defaults, and nothing is shown."""
    config = load_config(environment({**SMTP, **RESEND, "MAIL__SENDERS": "resend, smtp"}))
    assert config.mail.senders == (SenderName.RESEND, SenderName.SMTP)
    assert config.smtp.server() == SmtpServer("smtp", "mail.example", 587, "u", "CANARY")
    assert not config.smtp.allow_plaintext
    assert config.resend.key() == "re_CANARY"
    assert config.resend.base_url == "https://api.resend.com"
    for shown in (repr(config), str(config.model_dump())):
        assert "CANARY" not in shown


@pytest.mark.parametrize("senders", ["smtp,console", "file,smtp"])
def test_the_switch_is_for_the_senders_that_show_codes(senders: str) -> None:
    """Also beside a provider."""
    (problem,) = problems_of({**SMTP, "MAIL__SENDERS": senders, "MAIL__FILE_DIR": "/mails"})
    assert "ALLOW_DEVELOPMENT_SENDERS" in problem


LACKING = {
    "smtp": "`WATCHWORD_SMTP__URL` is required by the sender `smtp`",
    "resend": "`WATCHWORD_RESEND__API_KEY` is required by the sender `resend`",
}


@pytest.mark.parametrize("senders", [["smtp"], ["resend"], ["smtp", "resend"]])
def test_what_a_provider_lacks_is_named(senders: list[str]) -> None:
    """Each variable in a line of its own, by its whole name."""
    settings = {"MAIL__SENDERS": ", ".join(senders), "MAIL__FROM": "a@acme.example"}
    assert problems_of(settings) == [LACKING[sender] for sender in senders]


def test_what_a_provider_lacks_is_told_beside_the_rest() -> None:
    """All at once, also where another section is wrong."""
    problems = problems_of({"MAIL__SENDERS": "smtp,pigeon", "OTP__CODE_LENGTH": "5"})
    assert LACKING["smtp"] in problems
    for name in ("MAIL__SENDERS", "OTP__CODE_LENGTH"):
        assert any(problem.startswith(f"`WATCHWORD_{name}") for problem in problems)
    assert len(problems) == 3


def test_an_empty_secret_lacks_too() -> None:
    """Compose files leave empty variables behind."""
    settings = {"MAIL__SENDERS": "smtp", "MAIL__FROM": "a@acme.example", "SMTP__URL": ""}
    assert problems_of(settings) == [LACKING["smtp"]]


@pytest.mark.parametrize("senders", ["smtp,smtp", "resend, smtp,resend"])
def test_a_sender_is_named_once(senders: str) -> None:
    """Twice would be a mail twice, or a fail-over to itself (the guard: _check_repeated)."""
    (problem,) = problems_of({**SMTP, **RESEND, "MAIL__SENDERS": senders})
    assert problem == "`WATCHWORD_MAIL__SENDERS` must name each sender once"


@pytest.mark.parametrize("settings", [SMTP, RESEND], ids=["smtp", "resend"])
def test_mail_to_people_is_from_somebody(settings: dict[str, str]) -> None:
    """The default is for development: no provider takes mail from localhost."""
    settings = {**settings, "MAIL__SENDERS": "smtp" if settings is SMTP else "resend"}
    del settings["MAIL__FROM"]
    assert problems_of(settings) == [
        "`WATCHWORD_MAIL__FROM` is required by the senders `smtp` and `resend`"
    ]


@pytest.mark.parametrize("name", ["SMTP__URL", "RESEND__API_KEY"])
def test_secrets_may_come_from_a_file(tmp_path: Path, name: str) -> None:
    """As every other secret."""
    settings = {**SMTP, **RESEND, "MAIL__SENDERS": "smtp,resend"}
    expected = load_config(environment(settings))
    path = tmp_path / "secret"
    path.write_text(settings.pop(name) + "\n")
    assert load_config(environment({**settings, f"{name}_FILE": str(path)})) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SMTP__URL", "http://u:CANARY@mail.example"),
        ("SMTP__URL", "CANARY"),
        ("SMTP__ALLOW_PLAINTEXT", "CANARY"),
        ("RESEND__API_KEY", "re_CANARY\r\nx: y"),
        ("RESEND__API_KEY", "re_ CANARY"),
        ("RESEND__API_KEY", "re_CANARYü"),
        ("RESEND__BASE_URL", "CANARY"),
        ("RESEND__BASE_URL", "ftp://api.example/CANARY"),
        ("RESEND__BASE_URL", "https://u:CANARY@api.example"),
        ("RESEND__BASE_URL", "https://api.example/?CANARY"),
        ("RESEND__BASE_URL", "https://api.example:CANARY"),
        ("RESEND__BASE_URL", "https://[CANARY"),
        ("RESEND__BASE_URL", "http://api.example/CANARY"),
        ("RESEND__BASE_URL", "http://localhost.CANARY.example"),
        ("RESEND__BASE_URL", "http://127.0.0.1@CANARY.example"),
    ],
)
def test_a_wrong_value_is_refused_unseen(name: str, value: str) -> None:
    """The variable is named; codes and keys must not leave in plain text."""
    (problem,) = problems_of({name: value})
    assert problem.startswith(f"`WATCHWORD_{name}` ")


@pytest.mark.parametrize(
    "url",
    [
        "https://api.eu.example",
        "https://api.example:8443/resend/",
        "http://127.0.0.1:8080",
        "http://[::1]:1",
        "http://localhost",
    ],
)
def test_base_urls(url: str) -> None:
    """TLS anywhere, plain text on this machine."""
    settings = {**RESEND, "MAIL__SENDERS": "resend", "RESEND__BASE_URL": url}
    assert load_config(environment(settings)).resend.base_url == url
