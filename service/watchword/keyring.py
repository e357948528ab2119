"""The secrets of an installation: how they are written in the environment, read and made.

`WATCHWORD_SECRETS__KEYS` is `id:base64(32 bytes)[,...]`, the first key signs and all verify;
`WATCHWORD_SECRETS__INDEX_KEY` is base64 of 32 bytes. Standard and url-safe base64 are read, with or
without padding.
"""

import base64
import binascii
import re
from collections.abc import Iterable

from pydantic import Field, SecretStr, field_validator

from watchword.callers.model import Scope
from watchword.crypto import KeyRing, random_key
from watchword.settings import Section

KEY_BYTES = 32
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{43}=?")


class SecretsSettings(Section):
    """The key ring and the index key; `watchword secrets generate` makes both."""

    keys: SecretStr = Field(description="key ring `id:base64(32 bytes)[,...]`, ids 1 to 255")
    index_key: SecretStr = Field(description="base64 of 32 bytes; never rotated")

    @field_validator("keys")
    @classmethod
    def _check_keys(cls, keys: SecretStr) -> SecretStr:
        parse_ring(keys.get_secret_value())
        return keys

    @field_validator("index_key")
    @classmethod
    def _check_index_key(cls, key: SecretStr) -> SecretStr:
        _decode_key(key.get_secret_value())
        return key

    def key_ids(self) -> list[int]:
        """Returns the ids of the ring in its order: the first key signs."""
        return [key_id for key_id, _ in parse_ring(self.keys.get_secret_value())]

    def key_ring(self) -> KeyRing:
        """Returns the keys, ready for use."""
        return KeyRing(
            parse_ring(self.keys.get_secret_value()),
            _decode_key(self.index_key.get_secret_value()),
        )


def parse_ring(text: str) -> list[tuple[int, bytes]]:
    """Reads `id:base64,...`; ValueError names the entry by its number, never its text."""
    ring: list[tuple[int, bytes]] = []
    for number, entry in enumerate(text.split(","), start=1):
        key_id, colon, key = entry.strip().partition(":")
        # ASCII: `isdecimal` alone also takes the digits of other scripts.
        if not (colon and key_id.isascii() and key_id.isdecimal() and 1 <= len(key_id) <= 3):
            raise ValueError(f"entry {number} must be `id:base64(32 bytes)`")
        if not 1 <= int(key_id) <= 255:
            raise ValueError(f"entry {number} must have an id of 1 to 255")
        if int(key_id) in (known for known, _ in ring):
            raise ValueError(f"entry {number} repeats the id of an earlier key")
        decoded = _decode_key(key, where=f"entry {number} ")
        if decoded in (known for _, known in ring):
            raise ValueError(f"entry {number} repeats an earlier key under another id")
        ring.append((int(key_id), decoded))
    return ring


def _decode_key(text: str, *, where: str = "") -> bytes:
    """Raises ValueError, whose message begins with `where`."""
    if _BASE64.fullmatch(text.strip()):
        standard = text.strip().rstrip("=").translate(str.maketrans("-_", "+/"))
        try:
            key = base64.b64decode(standard + "=", validate=True)
        except binascii.Error:
            key = b""
        if len(key) == KEY_BYTES:
            return key
    raise ValueError(f"{where}must be base64 of {KEY_BYTES} bytes")


def generate_secrets() -> dict[str, str]:
    """Makes the environment of a new installation: ring, index key, one caller with every scope."""
    ring_key, index_key = random_key(), random_key()
    return {
        "WATCHWORD_SECRETS__KEYS": f"1:{base64.b64encode(ring_key).decode()}",
        "WATCHWORD_SECRETS__INDEX_KEY": base64.b64encode(index_key).decode(),
        "WATCHWORD_CALLERS__KEYS": caller_entry(
            KeyRing([(1, ring_key)], index_key), "default", Scope
        ),
    }


def caller_entry(keys: KeyRing, name: str, scopes: Iterable[Scope]) -> str:
    """Makes a service key and returns it as an entry of WATCHWORD_CALLERS__KEYS."""
    return f"{name}:{'+'.join(scopes)}:{keys.mint_service_key().reveal()}"
