"""Who may call: service keys of the configuration, looked up by the hash of their secret.

A refused caller is a CallerError, never UNAUTHENTICATED: that would tell a backend whose own key
was revoked to sign all of its users out.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from watchword.callers.model import Caller, Scope
from watchword.crypto import KeyRing, Secret
from watchword.errors import (
    CallerCredentialInvalid,
    CallerCredentialMissing,
    CallerScopeMissing,
    ValueRejected,
)

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# What audit events call those who are no caller.
RESERVED_NAMES = frozenset({"cli", "unknown"})


@dataclass(frozen=True, slots=True)
class CallerKey:
    """One `name:scope+scope:wwk_...` of WATCHWORD_CALLERS__KEYS; a name may have several."""

    name: str
    scopes: frozenset[Scope]
    key: Secret


def parse_caller_keys(text: str) -> tuple[CallerKey, ...]:
    """Reads a comma list of `name:scope+scope:wwk_...`; errors name the entry, never the key."""
    return tuple(
        _parse_entry(number, entry.strip())
        for number, entry in enumerate(text.split(","), start=1)
        if entry.strip()
    )


def _parse_entry(number: int, entry: str) -> CallerKey:
    parts = entry.split(":")
    if len(parts) != 3:
        raise ValueRejected(f"entry {number} must be `name:scope+scope:wwk_...`")
    name, scopes, key = parts
    if not NAME.fullmatch(name):
        raise ValueRejected(f"entry {number} must begin with a name of `a-z 0-9 . _ -`")
    if name in RESERVED_NAMES:
        raise ValueRejected(f"entry {number} has the reserved name `{name}`; choose another")
    return CallerKey(name, parse_scopes(scopes, where=f"entry {number} "), Secret(key))


def parse_scopes(text: str, *, where: str = "") -> frozenset[Scope]:
    """Reads `scope+scope`; at least one, each a known one."""
    try:
        return frozenset(Scope(scope) for scope in text.split("+"))
    except ValueError:
        known = ", ".join(Scope)
        raise ValueRejected(f"{where}must name scopes out of {known}, joined by `+`") from None


class CallerRegistry:
    """Authenticates callers without a look-up in the database.

    Raises ValueRejected when a configured key is not one that this index key has made.
    """

    def __init__(self, keys: KeyRing, configured: Iterable[CallerKey]) -> None:
        self._keys = keys
        self._callers: dict[bytes, Caller] = {}
        for number, entry in enumerate(configured, start=1):
            digest = keys.parse_service_key(entry.key.reveal())
            if digest is None:
                raise ValueRejected(
                    f"entry {number} (`{entry.name}`) has a key that the index key did not make"
                )
            if digest in self._callers:
                raise ValueRejected(f"entry {number} (`{entry.name}`) repeats an earlier key")
            self._callers[digest] = Caller(entry.name, entry.scopes)

    def by_digest(self) -> Iterable[tuple[bytes, Caller]]:
        """Returns the hash of each key, as `parse_service_key` gives it, and whose it is."""
        return self._callers.items()

    def authenticate(self, authorization: Sequence[str | bytes], *, scope: Scope) -> Caller:
        """Returns the caller of these `authorization` values, which must be exactly one."""
        if not authorization:
            raise CallerCredentialMissing
        digest = None
        if len(authorization) == 1 and isinstance(authorization[0], str):
            scheme, _, credential = authorization[0].partition(" ")
            if scheme.lower() == "bearer":  # RFC 9110 11.1: the scheme's case does not matter
                digest = self._keys.parse_service_key(credential)
        # The tag has been checked, so the hash is of a secret that was minted here: a look-up by it
        # tells a guesser nothing.
        caller = self._callers.get(digest) if digest is not None else None
        if caller is None:
            raise CallerCredentialInvalid
        if scope not in caller.scopes:
            raise CallerScopeMissing(scope, caller=caller.name)
        return caller
