"""The environment: read whole, refused whole, never shown."""

from datetime import timedelta
from pathlib import Path

import pytest

from watchword.config import ConfigError, load_config, load_database_settings, load_secrets
from watchword.crypto import KeyRing, random_key
from watchword.keyring import caller_entry, generate_secrets
from watchword.mail.settings import SenderName

CANARY = "CANARY-4711"


def environment(**settings: str) -> dict[str, str]:
    """A complete environment; settings without the prefix come over it, empty ones unset."""
    made = {**generate_secrets(), "WATCHWORD_DATABASE__URL": "postgresql://localhost/watchword"}
    return made | {f"WATCHWORD_{name}": value for name, value in settings.items()}


def problems_of(environ: dict[str, str]) -> list[str]:
    """What is wrong with an environment."""
    with pytest.raises(ConfigError) as caught:
        load_config(environ)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def test_the_least_environment_has_usable_defaults() -> None:
    """Database, ring and index key; everything else has the documented default."""
    environ = environment(CALLERS__KEYS="")
    config = load_config(environ)
    assert config.api.address == "127.0.0.1:50051"
    assert not config.api.reflection
    assert not config.api.allow_plaintext
    assert config.admin.address == "127.0.0.1:50052"
    assert not config.admin.reflection
    assert not config.admin.allow_plaintext
    assert config.database.pool_size == 10
    assert (config.otp.code_length, config.otp.attempts_max) == (6, 5)
    assert config.otp.lifetime == timedelta(minutes=5)
    assert config.session.lifetime == timedelta(days=30)
    assert not config.login.disclose_taken_email
    assert (config.log.format, config.log.level) == ("auto", "info")
    assert config.mail.senders == ()
    assert config.mail.code_in_subject


def test_every_error_comes_at_once() -> None:
    """Wrong values, missing ones, unknown names and unreadable files in one go."""
    environ = environment(
        OTP__CODE_LENGTH="5",
        OTP__LIFETIME="5 minutes",
        SESSION__LIFETIME="10y",
        DATABASE__POOL_SIZE="many",
        LOG__LEVEL="chatty",
        API__ADDRESS="nowhere",
        API__COLOUR="blue",
        NOVELTY__X="1",
        SECRETS__KEYS="",
        CALLERS__KEYS="",
        CALLERS__KEYS_FILE="/does/not/exist",
    )
    problems = problems_of(environ)
    for name in (
        "OTP__CODE_LENGTH",
        "OTP__LIFETIME",
        "SESSION__LIFETIME",
        "DATABASE__POOL_SIZE",
        "LOG__LEVEL",
        "API__ADDRESS",
        "API__COLOUR",
        "NOVELTY__X",
        "SECRETS__KEYS",
        "CALLERS__KEYS_FILE",
    ):
        assert sum(problem.startswith(f"`WATCHWORD_{name}` ") for problem in problems) == 1, name
    assert len(problems) == 10


def test_an_empty_environment_names_what_is_required() -> None:
    """Three variables, each with its whole name."""
    assert problems_of({}) == [
        "`WATCHWORD_DATABASE__URL` is required",
        "`WATCHWORD_SECRETS__KEYS` is required",
        "`WATCHWORD_SECRETS__INDEX_KEY` is required",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "OTP__CODELENGTH",
        "OTP__CODE_LENGTH_FILE",
        "OTPS__CODE_LENGTH",
        "LIMIT__SEND",
        "API__ADDRESS_FILE",
        "API__TLS_CERT",
        "__X",
        "API__",
        "DATABASE__URL__FILE",
        "GATE__ENABLE",
    ],
)
def test_an_unknown_name_is_refused(name: str) -> None:
    """A typing error must not leave a default standing; its value is not shown."""
    (problem,) = problems_of(environment(**{name: CANARY}))
    assert problem.startswith(f"`WATCHWORD_{name}` is not a setting of this version")
    assert CANARY not in problem


def test_a_mistyped_name_is_recognised() -> None:
    """What was probably meant is named, and nothing where that is a guess."""
    (problem,) = problems_of(environment(OTP__LIFTIME="5m"))
    assert problem.endswith("; did you mean `WATCHWORD_OTP__LIFETIME`?")
    (problem,) = problems_of(environment(OTP__COLOUR="blue"))
    assert problem.endswith("of this version")


@pytest.mark.parametrize(
    "name",
    [
        "API__TLS_CERT_FILE",
        "API__TLS_KEY_FILE",
        "API__TLS_CLIENT_CA_FILE",
        "API__TLS_CLIENT_AUTH",
        "ADMIN__TLS_CERT_FILE",
        "METRICS__ADDRESS",
    ],
)
def test_reserved_names_are_accepted_and_do_nothing(name: str) -> None:
    """Deployments may set what later versions read."""
    environ = environment()
    assert load_config({**environ, f"WATCHWORD_{name}": "whatever"}) == load_config(environ)


def test_names_without_a_section_are_not_ours() -> None:
    """Kubernetes injects WATCHWORD_SERVICE_HOST and its like."""
    environ = {"WATCHWORD_SERVICE_HOST": "10.0.0.1", "WATCHWORD_PORT": "x", "OTP__CODE_LENGTH": "1"}
    assert load_config({**environment(), **environ}).otp.code_length == 6


def test_empty_is_unset() -> None:
    """Compose files leave empty variables behind, also those that name a file."""
    environ = environment(OTP__LIFETIME="", SECRETS__KEYS_FILE="", LOG__FORMAT="")
    assert load_config(environ).otp.lifetime == timedelta(minutes=5)


@pytest.mark.parametrize(
    "name", ["DATABASE__URL", "SECRETS__KEYS", "SECRETS__INDEX_KEY", "CALLERS__KEYS"]
)
def test_every_secret_may_come_from_a_file(tmp_path: Path, name: str) -> None:
    """What the file holds, without its last line break; an empty variable beside it is none."""
    environ = environment()
    path = tmp_path / "secret"
    path.write_text(environ[f"WATCHWORD_{name}"] + "\n")
    expected = load_config(environ)
    environ |= {f"WATCHWORD_{name}": "", f"WATCHWORD_{name}_FILE": str(path)}
    assert load_config(environ) == expected
    del environ[f"WATCHWORD_{name}"]
    assert load_config(environ) == expected


def test_a_secret_and_its_file_are_one_too_many(tmp_path: Path) -> None:
    """Which of them holds would be a guess."""
    path = tmp_path / "secret"
    path.write_text("postgresql://localhost/other")
    (problem,) = problems_of(environment(DATABASE__URL_FILE=str(path)))
    assert "both set" in problem
    assert "WATCHWORD_DATABASE__URL" in problem


@pytest.mark.parametrize("make", ["missing", "folder", "binary"])
def test_a_file_that_cannot_be_read_is_named_by_its_variable(tmp_path: Path, make: str) -> None:
    """Neither the path nor what it holds is in the message."""
    path = tmp_path / CANARY
    if make == "folder":
        path.mkdir()
    elif make == "binary":
        path.write_bytes(b"\xff\xfe" + CANARY.encode())
    environ = environment(SECRETS__KEYS="", SECRETS__KEYS_FILE=str(path))
    problems = problems_of(environ)
    assert any(problem.startswith("`WATCHWORD_SECRETS__KEYS_FILE` ") for problem in problems)
    assert CANARY not in "\n".join(problems)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE__URL", f"mysql://u:{CANARY}@localhost/x"),
        ("DATABASE__URL", f"postgresql://u:{CANARY}@db.example/x"),
        ("DATABASE__URL", CANARY),
        ("SECRETS__KEYS", CANARY),
        ("SECRETS__KEYS", f"1:{CANARY}"),
        ("SECRETS__KEYS", f"999:{CANARY}"),
        ("SECRETS__INDEX_KEY", CANARY),
        ("CALLERS__KEYS", CANARY),
        ("CALLERS__KEYS", f"name:login:{CANARY}"),
        ("CALLERS__KEYS", f"name:{CANARY}:wwk_x"),
        ("MAIL__FROM", f"{CANARY}\r\nBcc: x@y.example"),
        ("OTP__CODE_LENGTH", CANARY),
        ("LOG__LEVEL", CANARY),
        ("API__ADDRESS", CANARY),
    ],
)
def test_no_value_is_in_an_error(name: str, value: str) -> None:
    """Errors name variables: a value may be a secret in the wrong place (threats row 24)."""
    with pytest.raises(ConfigError) as caught:
        load_config(environment(**{name: value}))
    error = caught.value
    assert CANARY not in str(error)
    assert CANARY not in repr(error)
    assert f"WATCHWORD_{name.partition('__')[0]}" in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_a_caller_key_of_another_index_key_is_refused() -> None:
    """It could never be accepted; the variable is named, the key is not."""
    entry = caller_entry(KeyRing([(1, random_key())], random_key()), "edge", ["login"])  # type: ignore[list-item]  # a scope is its text
    (problem,) = problems_of(environment(CALLERS__KEYS=entry))
    assert problem.startswith("`WATCHWORD_CALLERS__KEYS` ")
    assert "edge" in problem
    assert "wwk_" not in problem


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("90s", 90), ("5m", 300), ("010m", 600)],
)
def test_durations(text: str, seconds: int) -> None:
    """A number and one of s, m, h, d."""
    assert load_config(environment(OTP__LIFETIME=text)).otp.lifetime == timedelta(seconds=seconds)
    assert load_config(environment(SESSION__LIFETIME="12h")).session.lifetime == timedelta(hours=12)


@pytest.mark.parametrize("text", ["5", "m", "5M", "5 m", "5m ", "1h30m", "-5m", "5.5m", "٥m", "5w"])
def test_what_is_no_duration(text: str) -> None:
    """The message shows how to write one."""
    (problem,) = problems_of(environment(OTP__LIFETIME=text))
    assert "`90s`, `5m`, `12h` or `30d`" in problem


def test_a_duration_beyond_every_calendar() -> None:
    """Nine digits of days are an error, no crash."""
    (problem,) = problems_of(environment(SESSION__LIFETIME="999999999d"))
    assert "WATCHWORD_SESSION__LIFETIME" in problem


def test_senders_are_a_list_in_order_and_meant() -> None:
    """The senders that show codes need a switch, and `file` a folder."""
    (problem,) = problems_of(environment(MAIL__SENDERS="console"))
    assert "ALLOW_DEVELOPMENT_SENDERS" in problem
    (problem,) = problems_of(
        environment(MAIL__SENDERS="file", MAIL__ALLOW_DEVELOPMENT_SENDERS="true")
    )
    assert "WATCHWORD_MAIL__FILE_DIR" in problem
    config = load_config(
        environment(
            MAIL__SENDERS="file, console",
            MAIL__ALLOW_DEVELOPMENT_SENDERS="true",
            MAIL__FILE_DIR="/mails",
        )
    )
    assert config.mail.senders == (SenderName.FILE, SenderName.CONSOLE)


def test_commands_that_need_one_section_look_at_no_other() -> None:
    """`migrate` works where no key is configured, `secrets` where no database is."""
    url = {"WATCHWORD_DATABASE__URL": "postgresql://localhost/x"}
    assert load_database_settings(url).pool_size == 10
    made = generate_secrets()
    del made["WATCHWORD_CALLERS__KEYS"]
    assert load_secrets(made).key_ring().signing_key_id == 1
    with pytest.raises(ConfigError, match="WATCHWORD_SECRETS__KEYS"):
        load_secrets(url)
    with pytest.raises(ConfigError, match="WATCHWORD_DATABASE__URL"):
        load_database_settings(made)


def test_a_configuration_shows_no_secret() -> None:
    """repr, str and dump: wherever a configuration is printed by accident."""
    environ = environment(DATABASE__URL=f"postgresql://u:{CANARY}@localhost/x")
    config = load_config(environ)
    for shown in (repr(config), str(config), str(config.model_dump())):
        for secret in (CANARY, *generate_secrets(), "wwk_"):
            assert secret not in shown
        assert environ["WATCHWORD_SECRETS__KEYS"][2:] not in shown
        assert environ["WATCHWORD_SECRETS__INDEX_KEY"] not in shown
