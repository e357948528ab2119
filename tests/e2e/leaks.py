"""Finds issued codes and tokens in what must not hold them: dumps and logs."""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

CODE_LENGTH = 10
# Of the 57 bytes of a session token the 18th to the 49th are its secret; in base64 these characters
# are made of them alone, and in hexadecimal these. Of the 33 bytes of a device token the last 15.
_SECRET_BASE64 = slice(24, 64)
_SECRET_BYTES = slice(17, 49)
_DEVICE_BASE64 = slice(24, 44)
_DEVICE_BYTES = slice(18, 33)
_DIGITS = re.compile(r"\d+")
_BASE64 = re.compile(r"[A-Za-z0-9_+/-]{20,}")
_HEX = re.compile(r"[0-9a-f]{30,}")


@dataclass
class Canaries:
    """Codes of 10 digits and tokens that were issued; `found_in` says which of them leaked.

    Six digits would be found by chance. A code is looked for as a number of its own, and grouped
    by one space or dash as people write it.
    """

    codes: set[str] = field(default_factory=set)
    tokens: set[str] = field(default_factory=set)
    device_tokens: set[str] = field(default_factory=set)

    def found_in(self, text: str) -> set[str]:
        """Returns the codes and tokens that the text holds, whole or as their secret part."""
        return self._codes_in(text) | self._tokens_in(text)

    def _codes_in(self, text: str) -> set[str]:
        numbers = set(_DIGITS.findall(text))
        for joint in (" ", "-"):
            grouped = re.findall(rf"\d+(?:{joint}\d+)+", text)
            numbers.update(number.replace(joint, "") for number in grouped)
        return self.codes & numbers

    def _tokens_in(self, text: str) -> set[str]:
        base64_parts = {token[3:][_SECRET_BASE64]: token for token in self.tokens}
        base64_parts |= {token[4:][_DEVICE_BASE64]: token for token in self.device_tokens}
        hex_parts = {_bytes_of(token[3:])[_SECRET_BYTES].hex(): token for token in self.tokens}
        hex_parts |= {
            _bytes_of(token[4:])[_DEVICE_BYTES].hex(): token for token in self.device_tokens
        }
        runs = [run.translate(_URL_SAFE) for run in _BASE64.findall(text)]
        found = _found(base64_parts, runs)
        return found | _found(hex_parts, _HEX.findall(text.lower()))


_URL_SAFE = str.maketrans("+/", "-_")


def _bytes_of(text: str) -> bytes:
    return base64.urlsafe_b64decode(text)


def _found(parts: Mapping[str, str], runs: Sequence[str]) -> set[str]:
    sizes = {len(part) for part in parts}
    return {parts[part] for size in sizes for part in _windows(runs, size) if part in parts}


def _windows(runs: Iterable[str], size: int) -> Iterable[str]:
    return (run[at : at + size] for run in runs for at in range(len(run) - size + 1))
