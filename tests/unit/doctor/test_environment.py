"""Checks of the configuration alone."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from watchword.config import Config, load_config
from watchword.doctor import environment
from watchword.doctor.checkup import examine
from watchword.doctor.findings import Finding, Level
from watchword.keyring import generate_secrets

SECRETS = generate_secrets()
ENVIRONMENT = {
    **SECRETS,
    "WATCHWORD_DATABASE__URL": "postgresql:///watchword?host=/nowhere",
    "WATCHWORD_MAIL__SENDERS": "smtp",
    "WATCHWORD_MAIL__FROM": "a@acme.example",
    "WATCHWORD_SMTP__URL": "smtp://u:CANARY@127.0.0.1:1",
}


def config(**settings: str) -> Config:
    """A complete configuration with these settings."""
    return load_config(ENVIRONMENT | {f"WATCHWORD_{name}": it for name, it in settings.items()})


def levels(found: Sequence[Finding]) -> list[Level]:
    """Their levels."""
    return [finding.level for finding in found]


async def test_every_problem_of_the_configuration_is_a_finding() -> None:
    """As `serve` would tell them."""
    found = await environment.configuration({"WATCHWORD_X__Y": "CANARY"})
    assert levels(found) == [Level.FAILURE] * 5
    assert "CANARY" not in str(found)
    assert levels(await environment.configuration(ENVIRONMENT)) == [Level.OK]


async def test_limits_that_are_off_are_told() -> None:
    """All of them off is a failure, a single one a warning that names it."""
    (found,) = await environment.limits(config(LIMITS__ENABLED="false"))
    assert found.level is Level.FAILURE
    assert "`WATCHWORD_LIMITS__ENABLED`" in found.message
    (found,) = await environment.limits(config(LIMITS__MAILBOX_DAY="off"))
    assert found.level is Level.WARNING
    assert "`WATCHWORD_LIMITS__MAILBOX_DAY`" in found.message
    assert levels(await environment.limits(config())) == [Level.OK]


async def test_settings_that_do_nothing_yet_are_warned_of() -> None:
    """TLS that is configured and not there, above all; empty ones are unset."""
    variables = {"WATCHWORD_API__TLS_CERT_FILE": "/x", "WATCHWORD_GATE__ENABLED": ""}
    (found,) = await environment.without_effect(ENVIRONMENT | variables)
    assert found.level is Level.WARNING
    assert "`WATCHWORD_API__TLS_CERT_FILE`" in found.message
    assert levels(await environment.without_effect(ENVIRONMENT)) == [Level.OK]


@pytest.mark.parametrize(
    ("mode", "level"),
    [
        (0o400, Level.OK),
        (0o600, Level.OK),
        (0o640, Level.WARNING),
        (0o604, Level.WARNING),
        (0o610, Level.WARNING),
    ],
)
async def test_files_of_secrets_are_their_owners(tmp_path: Path, mode: int, level: Level) -> None:
    """The variable is named, the path and what is in it are not."""
    path = tmp_path / "CANARY"
    path.write_text("CANARY")
    path.chmod(mode)
    (found,) = await environment.secret_files({"WATCHWORD_SMTP__URL_FILE": str(path)})
    assert found.level is level
    assert "CANARY" not in str(found)
    if level is Level.WARNING:
        assert f"`WATCHWORD_SMTP__URL_FILE` is open to others than its owner (mode {mode:04o})" in (
            found.message
        )


@pytest.mark.parametrize("path", ["/nowhere/CANARY", "CANARY\0"])
async def test_a_file_that_is_not_there(path: str) -> None:
    """A failure, without its path."""
    (found,) = await environment.secret_files({"WATCHWORD_SECRETS__KEYS_FILE": path})
    assert found.level is Level.FAILURE
    assert "CANARY" not in str(found)


async def test_somebody_may_call() -> None:
    """No key is warned of, since the table may have some; one with every scope is noted."""
    (nobody,) = await environment.callers(config(CALLERS__KEYS=""))
    assert nobody.level is Level.WARNING
    assert "secrets generate --caller" in nobody.hint
    (found,) = await environment.callers(config())
    assert (found.level, found.message) == (
        Level.OK,
        "keys of `default`; note: `default` holds every scope",
    )


@pytest.mark.parametrize(
    "name",
    [
        "API__ALLOW_PLAINTEXT",
        "DATABASE__ALLOW_PLAINTEXT",
        "SMTP__ALLOW_PLAINTEXT",
        "MAIL__ALLOW_DEVELOPMENT_SENDERS",
    ],
)
async def test_switches_that_weaken_are_warned_of(name: str) -> None:
    """Each by its name."""
    (found,) = await environment.switches(config(**{name: "true"}))
    assert found.level is Level.WARNING
    assert f"`WATCHWORD_{name}` is on" in found.message
    assert levels(await environment.switches(config())) == [Level.OK]


async def test_what_is_wrong_with_one_section_hides_no_other() -> None:
    """The database is asked although the configuration is incomplete; nothing secret is told."""
    environ = ENVIRONMENT | {"WATCHWORD_OTP__CODE_LENGTH": "CANARY"}
    found = await examine(environ)
    failed = [finding.check for finding in found if finding.level is Level.FAILURE]
    assert failed == ["configuration", "database"]
    whole = await examine(ENVIRONMENT)
    failed = [finding.check for finding in whole if finding.level is Level.FAILURE]
    assert failed == ["database", "sender smtp"]
    for secret in ("CANARY", *SECRETS.values()):
        assert secret not in str([*found, *whole])
