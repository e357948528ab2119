"""What `config show` and `config schema` are made of."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from watchword.config import PREFIX, RESERVED, SECRETS, load_config
from watchword.keyring import generate_secrets
from watchword.reference import Effective, effective, json_schema, settings
from watchword.settings import format_duration, parse_duration

CANARY = "CANARY-4711"
ENVIRONMENT = {
    **generate_secrets(),
    "WATCHWORD_DATABASE__URL": f"postgresql://u:{CANARY}@localhost/x",
    "WATCHWORD_MAIL__SENDERS": "smtp, resend",
    "WATCHWORD_MAIL__FROM": "Acme <a@acme.example>",
    "WATCHWORD_SMTP__URL": f"smtp://u:{CANARY}@mail.example",
    "WATCHWORD_RESEND__API_KEY": f"re_{CANARY}",
    "WATCHWORD_OTP__LIFETIME": "120s",
    "WATCHWORD_API__REFLECTION": "yes",
}


def shown(environ: dict[str, str]) -> dict[str, Effective]:
    """What holds in an environment, by variable without its prefix."""
    return {one.setting.variable: one for one in effective(load_config(environ), environ)}


def test_every_value_has_its_source(tmp_path: Path) -> None:
    """Default, environment or file; empty variables count for nothing."""
    path = tmp_path / "url"
    path.write_text(ENVIRONMENT["WATCHWORD_SMTP__URL"])
    environ = {**ENVIRONMENT, "WATCHWORD_SMTP__URL": "", "WATCHWORD_SMTP__URL_FILE": str(path)}
    environ["WATCHWORD_LOG__LEVEL"] = ""
    values = shown(environ)
    expected = {
        "SMTP__URL": ("***", "file"),
        "DATABASE__URL": ("***", "environment"),
        "OTP__LIFETIME": ("2m", "environment"),
        "OTP__CODE_LENGTH": ("6", "default"),
        "SESSION__LIFETIME": ("30d", "default"),
        "API__REFLECTION": ("true", "environment"),
        "MAIL__SENDERS": ("smtp,resend", "environment"),
        "MAIL__FROM": ("Acme <a@acme.example>", "environment"),
        "MAIL__FILE_DIR": ("", "default"),
        "LOG__LEVEL": ("info", "default"),
    }
    for variable, (value, source) in expected.items():
        assert (values[variable].value, values[variable].source) == (value, source), variable


def test_no_secret_is_shown() -> None:
    """Each is `***`, or nothing where there is none (the guard: reference._text)."""
    values = shown(ENVIRONMENT)
    for variable in SECRETS:
        assert values[variable].setting.secret
        assert values[variable].value == "***"
    text = str(values)
    for secret in (CANARY, *(ENVIRONMENT[f"{PREFIX}{name}"] for name in SECRETS)):
        assert secret not in text
    del (environ := dict(ENVIRONMENT))["WATCHWORD_CALLERS__KEYS"]
    assert shown(environ)["CALLERS__KEYS"].value == ""


def test_what_is_shown_can_be_set() -> None:
    """Every shown value, given as a variable, makes the same configuration."""
    config = load_config(ENVIRONMENT)
    again = {
        PREFIX + one.setting.variable: ENVIRONMENT[PREFIX + one.setting.variable]
        if one.setting.secret
        else one.value
        for one in effective(config, ENVIRONMENT)
    }
    assert load_config(again) == config


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (1, "1s"),
        (90, "90s"),
        (300, "5m"),
        (5400, "90m"),
        (43_200, "12h"),
        (86_400, "1d"),
    ],
)
def test_durations_are_written_as_they_are_read(seconds: int, text: str) -> None:
    """In the largest unit that divides them."""
    assert format_duration(timedelta(seconds=seconds)) == text
    assert parse_duration(text) == timedelta(seconds=seconds)


def test_the_schema_names_every_variable() -> None:
    """With its default and bounds; secrets also by file, and marked; reserved names by pattern."""
    schema = json.loads(json.dumps(json_schema()))
    properties = schema["properties"]
    for setting in settings():
        variable = PREFIX + setting.variable
        assert properties[variable]["description"] == setting.meaning != ""
        assert setting.secret == (f"{variable}_FILE" in properties)
        assert setting.secret == properties[variable].get("writeOnly", False)
    assert properties["WATCHWORD_OTP__CODE_LENGTH"] == {
        "type": "integer",
        "minimum": 6,
        "maximum": 10,
        "default": 6,
        "description": "digits of a mailed code",
    }
    lifetime = properties["WATCHWORD_SESSION__LIFETIME"]
    assert lifetime["default"] == "30d"
    assert re.match(lifetime["pattern"], lifetime["default"])
    senders = properties["WATCHWORD_MAIL__SENDERS"]
    assert senders["type"] == "string"
    assert re.match(senders["pattern"], "smtp, resend")
    assert not re.match(senders["pattern"], "pigeon")
    assert schema["additionalProperties"] is False
    patterns = schema["patternProperties"]
    for name in RESERVED:
        variable = PREFIX + name.replace("*", "ENABLED")
        assert any(re.match(pattern, variable) for pattern in patterns)
    assert not any(re.match(pattern, "WATCHWORD_OTP__LENGTH") for pattern in patterns)
    needed = [option["required"][0] for one in schema["allOf"] for option in one["oneOf"]]
    assert set(needed) >= {"WATCHWORD_DATABASE__URL", "WATCHWORD_DATABASE__URL_FILE"}
    assert "WATCHWORD_MAIL__SENDERS" in needed
    assert "WATCHWORD_SMTP__URL" not in needed
