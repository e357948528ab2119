"""Who may call: service keys of the configuration and stored ones, by the hash of their secret.

A refused caller is a CallerError, never UNAUTHENTICATED: that would tell a backend whose own key
was revoked to sign all of its users out.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from watchword.callers.model import Caller, Scope, StoredCaller
from watchword.clock import boottime_ns
from watchword.crypto import KeyRing, Secret
from watchword.errors import (
    CallerCredentialInvalid,
    CallerCredentialMissing,
    CallerScopeMissing,
    StorageUnavailable,
    ValueRejected,
)

CALLER_NAME_MAX = 64
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


def caller_name(text: str) -> str:
    """Returns the name of a caller as given: 1 to 64 of `a-z 0-9 . _ -`, and not reserved."""
    if not NAME.fullmatch(text):
        raise ValueRejected("must be 1 to 64 of `a-z 0-9 . _ -`, the first a letter or a digit")
    if text in RESERVED_NAMES:
        raise ValueRejected("is reserved; choose another name")
    return text


def parse_scopes(text: str, *, where: str = "") -> frozenset[Scope]:
    """Reads `scope+scope`; at least one, each a known one."""
    try:
        return frozenset(Scope(scope) for scope in text.split("+"))
    except ValueError:
        known = ", ".join(Scope)
        raise ValueRejected(f"{where}must name scopes out of {known}, joined by `+`") from None


# How long stored keys may be taken after they were read; as long as the gate's lease.
STORED_GOOD_NS = 1_000_000_000


class CallerRegistry:
    """Authenticates callers without a look-up in the database: by keys of the configuration, and by
    stored ones as they were read within the last second (jobs/service_key_reader.py).

    Raises ValueRejected when a configured key is not one that this index key has made.
    """

    def __init__(self, keys: KeyRing, configured: Iterable[CallerKey]) -> None:
        self._keys = keys
        self._configured: dict[bytes, Caller] = {}
        self._stored: dict[bytes, Caller] = {}
        self._stored_read_ns: int | None = None
        self._used: set[bytes] = set()
        for number, entry in enumerate(configured, start=1):
            digest = keys.parse_service_key(entry.key.reveal())
            if digest is None:
                raise ValueRejected(
                    f"entry {number} (`{entry.name}`) has a key that the index key did not make"
                )
            if digest in self._configured:
                raise ValueRejected(f"entry {number} (`{entry.name}`) repeats an earlier key")
            self._configured[digest] = Caller(entry.name, entry.scopes)

    def by_digest(self) -> Iterable[tuple[bytes, Caller]]:
        """Returns the hash of each configured key, as `parse_service_key` gives it, and whose it
        is.
        """
        return self._configured.items()

    def replace_stored(self, stored: Iterable[StoredCaller], *, sent_ns: int) -> None:
        """Takes the stored keys in place of those before; the reading was sent then."""
        self._stored = {it.digest: it.caller for it in stored}
        self._stored_read_ns = sent_ns

    def take_used(self) -> set[bytes]:
        """Takes the hashes of stored keys that calls came with."""
        used, self._used = self._used, set()
        return used

    def authenticate(
        self, authorization: Sequence[str | bytes], *, scopes: Sequence[Scope]
    ) -> Caller:
        """Returns the caller of these `authorization` values, which must be exactly one, and hold
        one of the scopes. Raises StorageUnavailable for a key that may be stored, when the stored
        ones are not known.
        """
        if not authorization:
            raise CallerCredentialMissing
        digest = None
        if len(authorization) == 1 and isinstance(authorization[0], str):
            scheme, _, credential = authorization[0].partition(" ")
            if scheme.lower() == "bearer":  # RFC 9110 11.1: the scheme's case does not matter
                digest = self._keys.parse_service_key(credential)
        # The tag has been checked, so the hash is of a secret that was minted here: a look-up by it
        # tells a guesser nothing.
        caller = None if digest is None else self._caller_of(digest)
        if caller is None:
            raise CallerCredentialInvalid
        if caller.scopes.isdisjoint(scopes):
            raise CallerScopeMissing(scopes[0], caller=caller.name)
        return caller

    def _caller_of(self, digest: bytes) -> Caller | None:
        configured = self._configured.get(digest)
        if configured is not None:
            return configured
        read_ns = self._stored_read_ns
        if read_ns is None or boottime_ns() - read_ns > STORED_GOOD_NS:
            raise StorageUnavailable
        stored = self._stored.get(digest)
        if stored is not None:
            self._used.add(digest)
        return stored
