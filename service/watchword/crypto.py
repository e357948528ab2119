"""Codes, tokens, keys and ids: the Python face of the Rust core, which gate.py imports besides.

Ids are `uuid.UUID` here and bytes below. Wrong arguments raise ValueError, an operating system
without randomness OSError; text from outside that has no accepted form gives None.
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Final, NoReturn, TypeVar, final
from uuid import UUID

try:
    from watchword import _core
except ImportError as error:
    raise ImportError(
        f"the Rust core is not built or cannot be loaded ({error})\nhint: run `make build`"
    ) from error

__all__ = [
    "SLOTS",
    "CodeSource",
    "DeviceTimes",
    "KeyRing",
    "KnownChange",
    "KnownKind",
    "MintedSession",
    "PresentedCode",
    "PresentedSession",
    "Secret",
    "is_device_token",
    "jitter_seconds",
    "new_id",
    "new_nonce",
    "new_user_id",
    "parse_code",
    "random_key",
    "shuffled",
    "slot_of",
    "slot_of_subject",
    "verifier_matches",
]

_REDACTED: Final = "[redacted]"
# Of users, sessions and challenges.
SLOTS: Final = 4096
_SLOT_MASK: Final = SLOTS - 1
# Version 8 and the variant of RFC 9562, 4.1 and 4.2; what a derived id may not choose.
_VERSION_8: Final = 0x8 << 76 | 0b10 << 62
_FIXED_BITS: Final = 0xF << 76 | 0b11 << 62 | _SLOT_MASK
# Asks the operating system at each call: no state that a fork could share.
_SYSTEM_RANDOM: Final = secrets.SystemRandom()

_Item = TypeVar("_Item")


def _source_digest(root: Path) -> str:
    """Gives the digest that rust_core/py/build.rs computes, which says how."""
    core = root / "rust_core"
    paths = [root / "Cargo.toml", root / "Cargo.lock"]
    paths += [path for name in ("*.rs", "Cargo.toml") for path in core.rglob(name)]
    files = {path.relative_to(root).as_posix(): path for path in paths}
    lines = (
        f"{name}\0{hashlib.sha256(files[name].read_bytes()).hexdigest()}\n"
        for name in sorted(files, key=str.encode)
        if "target" not in name.split("/")[:-1]
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _refuse_stale(root: Path, built: str) -> None:
    """Refuses a binary that is older than the sources beside it; an installed package has none."""
    if (root / "rust_core").is_dir() and _source_digest(root) != built:
        raise ImportError("the Rust core is older than its sources\nhint: run `make build`")


_refuse_stale(Path(__file__).resolve().parents[2], _core.SOURCE_DIGEST)


@final
class Secret:
    """Text that only `reveal` shows; everything that prints, formats or copies it does not."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return _REDACTED

    def __format__(self, spec: str) -> str:
        # Whatever the width asks for: padding to a length would be the only thing left to show.
        return _REDACTED

    def __eq__(self, other: object) -> bool:
        """Compares in constant time but for the lengths."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_encoded(self._text), _encoded(other._text))

    # What is compared in constant time has no business as the key of a table.
    __hash__ = None  # type: ignore[assignment]  # the way of the data model to say unhashable

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is neither pickled nor copied")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a secret is neither pickled nor copied")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class CodeSource:
    """The fields of a challenge from which its code follows."""

    key_id: int
    purpose: str
    challenge_id: UUID
    subject_key: bytes = field(repr=False)
    nonce: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PresentedCode:
    """What a person typed: `form` is the number of digits, 6..10, or 13 for Crockford base32."""

    form: int
    code: Secret


@dataclass(frozen=True, slots=True)
class MintedSession:
    """A new session's token, for the user, and what is to be stored of it."""

    token: Secret
    session_id: UUID
    key_id: int
    verifier: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PresentedSession:
    """What a token with a right tag says; the verifier still has to match the stored one."""

    session_id: UUID
    key_id: int
    verifier: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DeviceTimes:
    """When a device first and last signed in to a subject, in microseconds since 1970.

    The first tells the devices of a subject apart.
    """

    since_us: int
    issued_us: int


class KnownKind(IntEnum):
    """What a change token tells of."""

    USER = 1
    ROLE = 2
    SERVICE_KEY = 3
    INSTALLATION = 4


@dataclass(frozen=True, slots=True)
class KnownChange:
    """What something has come to by a change, as a change token has it.

    A kind that is no KnownKind is of a newer program: nobody here knows whether it has arrived.
    """

    kind: int
    id: UUID
    epoch: int
    version: int


@final
class KeyRing:
    """The keys of an installation: (key id 1..255, 32 bytes) in order, and a 32-byte index key.

    The first key signs, all verify; sub-keys are made by HKDF-SHA-256 (RFC 5869), one per purpose.
    """

    __slots__ = ("_ring",)

    def __init__(self, keys: Sequence[tuple[int, bytes]], index_key: bytes) -> None:
        self._ring = _core.KeyRing(keys, index_key)

    def __repr__(self) -> str:
        return "KeyRing(<redacted>)"

    @property
    def core(self) -> _core.KeyRing:
        """The ring itself, for the other importer of the core."""
        return self._ring

    @property
    def signing_key_id(self) -> int:
        return self._ring.signing_key_id

    def subject_key(self, account_key: str) -> bytes:
        """Gives HMAC-SHA-256 of a canonical account key under the index key, 32 bytes."""
        return self._ring.subject_key(account_key)

    def limit_key(self, kind: str, value: bytes) -> bytes:
        """Gives HMAC-SHA-256 of a kind of limit and a canonical value, 32 bytes."""
        return self._ring.limit_key(kind, value)

    def derive_id(self, slot: int, value: bytes) -> UUID:
        """Gives a UUIDv8 (RFC 9562) in `slot` that the same value gives again.

        All its other bits are of a keyed hash, so that nobody without the index key can tell one.
        """
        digest = int.from_bytes(self._ring.limit_key("id", value)[:16])
        return UUID(int=digest & ~_FIXED_BITS | _VERSION_8 | slot)

    def derive_code(self, source: CodeSource, *, length: int) -> Secret:
        """Gives the code of a challenge: 6..10 unbiased digits, or 13 characters of base32.

        Leading zeros are kept. The 13 characters, upper-case Crockford base32, are 65 bits.
        """
        code = self._ring.otp_code(
            key_id=source.key_id,
            purpose=source.purpose,
            challenge_id=source.challenge_id.bytes,
            subject_key=source.subject_key,
            nonce=source.nonce,
            length=length,
        )
        return Secret(code)

    def check_code(self, presented: PresentedCode, sources: Sequence[CodeSource]) -> int | None:
        """Gives the index of the first source whose code was presented.

        Every source is derived and compared in constant time; one of a key that the ring does not
        hold never matches.
        """
        candidates = [
            (
                source.key_id,
                source.purpose,
                source.challenge_id.bytes,
                source.subject_key,
                source.nonce,
            )
            for source in sources
        ]
        return self._ring.check_code(presented.code.reveal(), presented.form, candidates)

    def mint_session(self, slot: int) -> MintedSession:
        """Makes the token of a new session of a user in `slot`, 0..4095."""
        token, session_id, key_id, verifier = self._ring.mint_session(slot)
        return MintedSession(Secret(token), UUID(bytes=session_id), key_id, verifier)

    def parse_session_token(self, token: str) -> PresentedSession | None:
        """Reads a token; None unless its form is canonical, its key known and its tag right."""
        presented = self._ring.parse_session_token(token)
        if presented is None:
            return None
        session_id, key_id, verifier = presented
        return PresentedSession(UUID(bytes=session_id), key_id, verifier)

    def refresh_session(
        self, token: str, *, generation: int, key_id: int
    ) -> tuple[Secret, bytes] | None:
        """Gives the token that follows the `generation`-th of a session, and its verifier.

        Always the same. None where `parse_session_token` gives none, or without that key.
        """
        refreshed = self._ring.refresh_session(token, generation, key_id)
        return None if refreshed is None else (Secret(refreshed[0]), refreshed[1])

    def mint_device_token(self, subject_key: bytes, times: DeviceTimes) -> Secret:
        """Makes the token of a device that has signed in; its tag is made with the index key."""
        token = self._ring.mint_device_token(subject_key, times.since_us, times.issued_us)
        return Secret(token)

    def check_device_token(self, token: Secret, subject_key: bytes) -> DeviceTimes | None:
        """Gives what a device token says; None unless form and tag are right for this subject."""
        times = self._ring.check_device_token(token.reveal(), subject_key)
        return None if times is None else DeviceTimes(*times)

    def mint_change_token(self, changes: Sequence[KnownChange]) -> str:
        """Makes the token of 1 to 5 changes; it is no secret."""
        return self._ring.mint_change_token(
            [(c.kind, c.id.bytes, c.epoch, c.version) for c in changes]
        )

    def parse_change_token(self, token: str) -> list[KnownChange] | None:
        """Gives what a change token says; None unless its form is canonical and its tag right."""
        changes = self._ring.parse_change_token(token)
        if changes is None:
            return None
        return [
            KnownChange(kind, UUID(bytes=id), epoch, version)
            for kind, id, epoch, version in changes
        ]

    def mint_page_token(self, listing: bytes, cursor: bytes) -> str:
        """Makes the token of a further page of a listing: cursors have at most 64 bytes.

        What the listing is of (its name, its filters, whose it is) is in the token's tag alone.
        """
        return self._ring.mint_page_token(listing, cursor)

    def parse_page_token(self, listing: bytes, token: str) -> bytes | None:
        """Gives the cursor; None unless form and tag are right for this very listing."""
        return self._ring.parse_page_token(listing, token)

    def mint_service_key(self) -> Secret:
        """Makes a service key; its tag is made with the index key."""
        return Secret(self._ring.mint_service_key())

    def parse_service_key(self, token: str) -> bytes | None:
        """Gives SHA-256 of the secret, 32 bytes; None unless form and tag are right."""
        return self._ring.parse_service_key(token)


def new_id(slot: int) -> UUID:
    """Makes a UUIDv8 (RFC 9562): 48-bit Unix milliseconds, 62 random bits, slot 0..4095.

    The milliseconds are the operating system's; nothing may compare them.
    """
    return UUID(bytes=_core.new_id(slot))


def new_user_id() -> UUID:
    """Makes a UUIDv8 in a random slot."""
    return UUID(bytes=_core.new_user_id())


def slot_of(id: UUID) -> int:
    """Gives the slot of a user, session or challenge: the low 12 bits, 0..4095."""
    return id.int & _SLOT_MASK


def slot_of_subject(subject_key: bytes) -> int:
    """Gives the slot of a subject, 0..4095: the low 12 bits of its first two bytes, big-endian."""
    return _core.slot_of_subject(subject_key)


def new_nonce() -> bytes:
    """Makes the nonce of a challenge, 16 bytes."""
    return _core.new_nonce()


def random_key() -> bytes:
    """Makes a key for a ring, or an index key, 32 bytes."""
    return _core.random_key()


def is_device_token(token: Secret) -> bool:
    """Answers whether a text has the form of a device token, whoever made it."""
    return _core.is_device_token(token.reveal())


def parse_code(text: str) -> PresentedCode | None:
    """Reads what a person typed: 6..10 digits, or 13 Crockford base32 characters in any case.

    White space and dashes are ignored anywhere; over 64 bytes of UTF-8 nothing is accepted.
    """
    parsed = _core.parse_code(text)
    if parsed is None:
        return None
    form, canonical = parsed
    return PresentedCode(form, Secret(canonical))


def verifier_matches(a: bytes, b: bytes) -> bool:
    """Compares in constant time; lengths that differ do not match."""
    return _core.verifier_matches(a, b)


def jitter_seconds(ceiling: float) -> float:
    """Gives a wait of 0 up to `ceiling` seconds, each equally likely."""
    return _SYSTEM_RANDOM.uniform(0, ceiling)


def shuffled(items: Sequence[_Item]) -> list[_Item]:
    """Gives the items in a random order and leaves the sequence as it is."""
    return _SYSTEM_RANDOM.sample(items, len(items))
