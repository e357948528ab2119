"""What every section of the configuration is made of; config.py joins the sections.

A section stands beside the part that it configures, is frozen, and never shows a secret.
"""

import re
from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")


class Section(BaseModel):
    """One section of the configuration: `WATCHWORD_<SECTION>__<NAME>`."""

    # pydantic's errors print the input, which may be a secret.
    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, arbitrary_types_allowed=True
    )


def parse_duration(text: object) -> object:
    """Reads `90s`, `5m`, `12h` or `30d`; anything that is not text is left to pydantic."""
    if not isinstance(text, str):
        return text
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("is no duration; write `90s`, `5m`, `12h` or `30d`")
    try:
        return timedelta(seconds=int(match[1]) * _UNIT_SECONDS[match[2]])
    except OverflowError:
        raise ValueError("is too long a duration") from None


def format_duration(duration: timedelta) -> str:
    """Writes whole seconds as `parse_duration` reads them, in the largest unit that fits."""
    seconds = duration // timedelta(seconds=1)
    for unit in "dhm":
        count, rest = divmod(seconds, _UNIT_SECONDS[unit])
        if count and not rest:
            return f"{count}{unit}"
    return f"{seconds}s"


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]


def is_loopback(host: str) -> bool:
    """Whether traffic to this host name or address stays on the machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False
