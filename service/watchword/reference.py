"""Every setting as the models have it: for `watchword config` and docs/configuration.md."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from watchword.config import PREFIX, REQUIRED_BY_SERVE, RESERVED, SECRETS, Config
from watchword.settings import Section, format_duration

SECRET_SHOWN: Final = "***"
Source = Literal["default", "environment", "file"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable; `default` is as one writes it, None where there is none.

    `schema` is the JSON Schema of the value that the text stands for.
    """

    section: str
    field: str
    variable: str
    meaning: str
    accepts: str
    default: str | None
    secret: bool
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Effective:
    """What a setting is in an environment, as one writes it; a secret is never shown."""

    setting: Setting
    value: str
    source: Source


def sections() -> Iterator[tuple[str, type[Section]]]:
    """Every section and its model, in the order of Config."""
    for name, field in Config.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, Section)
        yield name, model


def settings() -> Iterator[Setting]:
    """Every setting, section by section."""
    for section, model in sections():
        schemas = model.model_json_schema()
        for name, field in model.model_fields.items():
            written = field.alias or name
            yield _setting(section, name, written, field, _schema(schemas, written, field))


def effective(config: Config, environ: Mapping[str, str]) -> Iterator[Effective]:
    """What holds, and where each value comes from; `config` was read from `environ`."""
    for setting in settings():
        value = getattr(getattr(config, setting.section), setting.field)
        yield Effective(setting, _text(value), _source(setting, environ))


def json_schema() -> dict[str, Any]:
    """A JSON Schema of the variables of `serve` (2020-12); values as their text stands for them."""
    properties: dict[str, Any] = {}
    needed: list[dict[str, Any]] = []
    for setting in settings():
        variable = PREFIX + setting.variable
        properties[variable] = setting.schema
        if setting.secret:
            properties[f"{variable}_FILE"] = {
                "type": "string",
                "description": f"path of a file that holds {variable}",
            }
        if setting.default is None or setting.variable in REQUIRED_BY_SERVE:
            names = [variable, f"{variable}_FILE"] if setting.secret else [variable]
            needed.append({"oneOf": [{"required": [name]} for name in names]})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The environment of `watchword serve`",
        "type": "object",
        "properties": properties,
        "patternProperties": {
            f"^{PREFIX}{name.replace('*', '[A-Z0-9_]+')}$": {
                "description": "accepted, and without effect in this version"
            }
            for name in RESERVED
        },
        "additionalProperties": False,
        "allOf": needed,
    }


def _setting(
    section: str, name: str, written: str, field: FieldInfo, schema: dict[str, Any]
) -> Setting:
    variable = f"{section}__{written}".upper()
    return Setting(
        section=section,
        field=name,
        variable=variable,
        meaning=field.description or "",
        accepts=_accepts(field, schema),
        default=None if field.is_required() else _text(field.default),
        secret=variable in SECRETS,
        schema=schema,
    )


def _schema(schemas: dict[str, Any], written: str, field: FieldInfo) -> dict[str, Any]:
    """The value's schema as pydantic has it, but for what is written in another way than JSON."""
    schema = dict(schemas["properties"][written])
    schema.pop("title", None)
    default = schema.pop("default", None)
    for option in schema.pop("anyOf", []):
        if option["type"] != "null":
            schema |= option
    if field.annotation is timedelta:
        default = _text(field.default)
        schema = {**schema, "pattern": "^[0-9]{1,9}[smhd]$"}
        del schema["format"]
    if schema["type"] == "array":
        names = "|".join(schemas["$defs"][schema.pop("items")["$ref"].rpartition("/")[2]]["enum"])
        default = _text(field.default)
        schema |= {"type": "string", "pattern": f"^({names})(, *({names}))*$"}
    if default not in (None, ""):
        schema["default"] = default
    return schema


def _accepts(field: FieldInfo, schema: dict[str, Any]) -> str:
    """The bounds in words; empty where the meaning says it all."""
    if "enum" in schema:
        return ", ".join(f"`{name}`" for name in schema["enum"])
    if schema["type"] == "boolean":
        return "`true`, `false`"
    if schema["type"] == "integer":
        return f"{schema['minimum']} to {schema['maximum']}"
    if field.annotation is not timedelta:
        return ""
    words = [
        f"{word} `{format_duration(limit)}`"
        for name, word in (("ge", "at least"), ("gt", "more than"), ("le", "at most"))
        for bound in field.metadata
        if (limit := getattr(bound, name, None)) is not None
    ]
    return ", ".join(words)


def _source(setting: Setting, environ: Mapping[str, str]) -> Source:
    variable = PREFIX + setting.variable
    if environ.get(variable):
        return "environment"
    if setting.secret and environ.get(f"{variable}_FILE"):
        return "file"
    return "default"


def _text(value: object) -> str:
    """A value as one writes it in the environment."""
    if isinstance(value, SecretStr):
        return SECRET_SHOWN if value else ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    return "" if value is None else str(value)
