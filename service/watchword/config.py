"""The configuration: environment variables `WATCHWORD_<SECTION>__<NAME>`, all errors at once.

Every secret may come from a file instead (`..._FILE`). A name that no section knows is refused:
a typing error must not leave a default standing. Names without `__` are not ours (Kubernetes makes
`WATCHWORD_SERVICE_HOST` and its like).
"""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeAlias, TypeVar

from pydantic import ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from watchword.audit.model import AuditSettings
from watchword.callers.registry import CallerRegistry, parse_caller_keys
from watchword.errors import ValueRejected
from watchword.gate import GateSettings
from watchword.jobs.purger import PurgeSettings
from watchword.keyring import SecretsSettings
from watchword.limits.policy import LimitsPolicy
from watchword.login.context import LoginSettings
from watchword.mail.settings import MailSettings, SenderName
from watchword.observability.logging import LogSettings
from watchword.otp.policy import OtpPolicy
from watchword.senders.resend import ResendSettings
from watchword.senders.smtp import SmtpSettings
from watchword.sessions.model import SessionPolicy
from watchword.settings import Section
from watchword.storage.pool import DatabaseSettings
from watchword.transport.server import AdminSettings, ApiSettings

PREFIX = "WATCHWORD_"
SECRETS = frozenset(
    {
        "CALLERS__KEYS",
        "DATABASE__URL",
        "RESEND__API_KEY",
        "SECRETS__INDEX_KEY",
        "SECRETS__KEYS",
        "SMTP__URL",
    }
)

# Names that deployments may set already; their parts are not there yet and they do nothing.
RESERVED = (
    "API__TLS_CERT_FILE",
    "API__TLS_KEY_FILE",
    "API__TLS_CLIENT_CA_FILE",
    "API__TLS_CLIENT_AUTH",
    "ADMIN__TLS_CERT_FILE",
    "ADMIN__TLS_KEY_FILE",
    "ADMIN__TLS_CLIENT_CA_FILE",
    "ADMIN__TLS_CLIENT_AUTH",
    "METRICS__ADDRESS",
)

# What `serve` cannot do without; the default is for the commands, which send no mail.
REQUIRED_BY_SERVE = ("MAIL__SENDERS",)
REQUIRED_BY_SENDER = {SenderName.SMTP: "SMTP__URL", SenderName.RESEND: "RESEND__API_KEY"}


class ConfigError(Exception):
    """The environment is wrong; `problems` has every variable, none of their values."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class CallersSettings(Section):
    """Who may call."""

    keys: SecretStr = Field(
        SecretStr(""), description="`name:scope+scope:wwk_...[,...]`; more are in the database"
    )

    @field_validator("keys")
    @classmethod
    def _check_keys(cls, keys: SecretStr) -> SecretStr:
        parse_caller_keys(keys.get_secret_value())
        return keys


class Config(Section):
    """Every section; the parts get their own and never this."""

    database: DatabaseSettings
    secrets: SecretsSettings
    callers: CallersSettings
    api: ApiSettings
    admin: AdminSettings
    gate: GateSettings
    mail: MailSettings
    smtp: SmtpSettings
    resend: ResendSettings
    otp: OtpPolicy
    session: SessionPolicy
    login: LoginSettings
    limits: LimitsPolicy
    purge: PurgeSettings
    audit: AuditSettings
    log: LogSettings

    @model_validator(mode="after")
    def _check_callers(self) -> Self:
        try:
            self.caller_registry()
        except ValueRejected as error:
            raise ValueError(f"CALLERS__KEYS {error}") from None
        return self

    def caller_registry(self) -> CallerRegistry:
        """Returns who may call; ValueError for a key that the index key has not made."""
        configured = parse_caller_keys(self.callers.keys.get_secret_value())
        return CallerRegistry(self.secrets.key_ring(), configured)


class DatabaseOnly(Section):
    """What commands need that work on the database alone; the other sections are not looked at."""

    model_config = ConfigDict(extra="ignore")

    database: DatabaseSettings


class SessionsOnly(Section):
    """What commands need that look at sessions."""

    model_config = ConfigDict(extra="ignore")

    session: SessionPolicy = Field(default_factory=SessionPolicy)


class SecretsOnly(Section):
    """What commands need that make keys."""

    model_config = ConfigDict(extra="ignore")

    secrets: SecretsSettings


C = TypeVar("C", bound=Section)
# What the environment says, by section and field.
Sections: TypeAlias = dict[str, dict[str, str]]


def load_config(environ: Mapping[str, str], *, required: Sequence[str] = ()) -> Config:
    """Reads the configuration; raises ConfigError with everything that is wrong.

    `required` names settings, like MAIL__SENDERS, that have a default which does not do here.
    """
    return _load(Config, environ, required)


def load_database_settings(environ: Mapping[str, str]) -> DatabaseSettings:
    """Reads the section `database` alone; raises ConfigError."""
    return _load(DatabaseOnly, environ).database


def load_session_policy(environ: Mapping[str, str]) -> SessionPolicy:
    """Reads the section `session` alone; raises ConfigError."""
    return _load(SessionsOnly, environ).session


def load_secrets(environ: Mapping[str, str]) -> SecretsSettings:
    """Reads the section `secrets` alone; raises ConfigError."""
    return _load(SecretsOnly, environ).secrets


def _load(model: type[C], environ: Mapping[str, str], required: Sequence[str] = ()) -> C:
    sections, problems = _read(environ)
    problems += [
        f"`{PREFIX}{name}` is required" for name in required if not _is_set(sections, name)
    ]
    if model is Config:
        problems += _lacking_senders(sections)
    try:
        config = model.model_validate(sections)
    except ValidationError as error:
        raise ConfigError(problems + [_describe(detail) for detail in error.errors()]) from None
    if problems:
        raise ConfigError(problems)
    return config


def _lacking_senders(sections: Sections) -> list[str]:
    """What the chosen senders need and do not have, a line each."""
    chosen = {name.strip() for name in sections["mail"].get("senders", "").split(",")}
    return [
        f"`{PREFIX}{name}` is required by the sender `{sender}`"
        for sender, name in REQUIRED_BY_SENDER.items()
        if sender in chosen and not _is_set(sections, name)
    ]


def _is_set(sections: Sections, variable: str) -> bool:
    section, _, field = variable.lower().partition("__")
    return field in sections[section]


def _read(environ: Mapping[str, str]) -> tuple[Sections, list[str]]:
    """Returns the raw values by section and field, and what is wrong with names and files."""
    problems: list[str] = []
    sections: Sections = {name: {} for name in Config.model_fields}
    for name, value in sorted(environ.items()):
        variable = name.removeprefix(PREFIX)
        if variable == name or "__" not in variable or is_reserved(variable):
            continue
        try:
            variable, read = _read_file(variable, value, environ)
        except ValueRejected as error:
            problems.append(f"`{name}` {error}")
            continue
        section, _, field = variable.lower().partition("__")
        if not _is_known(section, field):
            problems.append(f"`{name}` is not a setting of this version{_nearest(section, field)}")
        elif read:  # empty is unset: compose files and templates leave such variables behind
            sections[section][field] = read
    return sections, problems


def _read_file(variable: str, value: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Replaces `X_FILE` by `X` and what the file holds, without its last line break."""
    secret = variable.removesuffix("_FILE")
    if secret == variable or secret not in SECRETS:
        return variable, value
    if not value:  # as unset as an empty variable
        return secret, ""
    if environ.get(PREFIX + secret):
        raise ValueRejected(f"and `{PREFIX}{secret}` are both set; set one")
    try:
        return secret, Path(value).read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueRejected(f"names a file that cannot be read: {type(error).__name__}") from None


def is_reserved(variable: str) -> bool:
    """Whether a name without its prefix is accepted and does nothing yet."""
    return variable in RESERVED


def _nearest(section: str, field: str) -> str:
    """Names the setting that was probably meant."""
    known = [f"{s}__{f}" for s in Config.model_fields for f in _fields_of(s)]
    near = difflib.get_close_matches(f"{section}__{field}", known, n=1, cutoff=0.8)
    return f"; did you mean `{PREFIX}{near[0].upper()}`?" if near else ""


def _is_known(section: str, field: str) -> bool:
    return field in _fields_of(section)


def _fields_of(section: str) -> set[str]:
    section_field = Config.model_fields.get(section)
    model = section_field.annotation if section_field is not None else None
    if not (isinstance(model, type) and issubclass(model, Section)):
        return set()
    return {known.alias or name for name, known in model.model_fields.items()}


def _describe(detail: Any) -> str:
    """One line for one error of pydantic, without the input."""
    where = [str(part) for part in detail["loc"][:2]]
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "missing":
        message = "is required"
    if len(where) < 2:
        # A validator of a whole section, or of all: its message begins with the field.
        field, _, message = message.partition(" ")
        where.append(field)
    return f"`{PREFIX}{'__'.join(where).upper()}` {message[:1].lower()}{message[1:]}"
