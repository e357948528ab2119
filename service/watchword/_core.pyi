"""The Rust core, bound by rust_core/py; `watchword.crypto`, `gate` and `session_cache` are its
faces and only importers.

Wrong arguments raise ValueError, an operating system without randomness OSError.
"""

from collections.abc import Sequence
from typing import Final, NoReturn, final

__all__ = [
    "SOURCE_DIGEST",
    "Gate",
    "KeyRing",
    "Lane",
    "Refusal",
    "Turn",
    "UnaryCall",
    "UnaryCalls",
    "is_device_token",
    "new_id",
    "new_nonce",
    "new_user_id",
    "panic_for_test",
    "parse_code",
    "random_key",
    "slot_of_subject",
    "verifier_matches",
]

SOURCE_DIGEST: Final[str]
"""SHA-256, in hex, of the Rust sources that the binary was built from."""

@final
class KeyRing:
    def __new__(cls, keys: Sequence[tuple[int, bytes]], index_key: bytes) -> KeyRing: ...
    @property
    def signing_key_id(self) -> int: ...
    def subject_key(self, account_key: str) -> bytes: ...
    def limit_key(self, kind: str, value: bytes) -> bytes: ...
    def otp_code(
        self,
        *,
        key_id: int,
        purpose: str,
        challenge_id: bytes,
        subject_key: bytes,
        nonce: bytes,
        length: int,
    ) -> str: ...
    def check_code(
        self,
        canonical: str,
        form: int,
        candidates: Sequence[tuple[int, str, bytes, bytes, bytes]],
    ) -> int | None:
        """Takes candidates as (key id, purpose, challenge id, subject key, nonce)."""

    def mint_session(self, slot: int) -> tuple[str, bytes, int, bytes]:
        """Gives (token, session id, key id, verifier)."""

    def parse_session_token(self, token: str) -> tuple[bytes, int, bytes] | None:
        """Gives (session id, key id, verifier)."""

    def refresh_session(self, token: str, generation: int, key_id: int) -> tuple[str, bytes] | None:
        """Gives (token, verifier) of the secret that follows."""

    def mint_device_token(self, subject_key: bytes, since_us: int, issued_us: int) -> str: ...
    def check_device_token(self, token: str, subject_key: bytes) -> tuple[int, int] | None:
        """Gives (since, issued)."""

    def mint_change_token(self, changes: Sequence[tuple[int, bytes, int, int]]) -> str:
        """Takes changes as (kind, id, epoch, version)."""

    def parse_change_token(self, token: str) -> list[tuple[int, bytes, int, int]] | None:
        """Gives changes as (kind, id, epoch, version)."""

    def mint_page_token(self, listing: bytes, cursor: bytes) -> str: ...
    def parse_page_token(self, listing: bytes, token: str) -> bytes | None:
        """Gives the cursor."""

    def mint_service_key(self) -> str: ...
    def parse_service_key(self, token: str) -> bytes | None:
        """Gives SHA-256 of the secret."""

@final
class Refusal:
    """A status other than OK that the gate answers with."""

    def __new__(cls, code: int, message: str, details: bytes) -> Refusal:
        """Takes an encoded google.rpc.Status as details."""

@final
class Turn:
    """Sessions that one statement has to read, and who waits for them.

    ValueError once it is over; whoever is not told anything until then is told UNAVAILABLE.
    """

    @property
    def session_ids(self) -> list[str]:
        """Gives those that were not found yet, each once, in hyphenated form."""

    def take_rows(self, rows: Sequence[bytes]) -> None:
        """Takes rows of `LiveSessionStore.FIND_MANY`, and ends the turn.

        Caches the sessions unless they may be out of date, tells those who wait for them, and the
        others that theirs are not live. ValueError for a row of another form.
        """

    def fail(self, refusal: Refusal) -> None:
        """Tells all who were not told anything."""

@final
class Lane:
    """The cache of a gate, its lease, and what both need; times are microseconds since 1970."""

    def __new__(
        cls,
        keys: KeyRing,
        *,
        callers: Sequence[tuple[bytes, bool]],
        invalid: Refusal,
        reauthentication_needed: Refusal,
        overloaded: Refusal,
        unavailable: Refusal,
        bytes_max: int,
        idle_us: int,
        report_every_us: int,
    ) -> Lane:
        """Callers: the hash of a service key and whether its caller may validate."""

    @property
    def wake_fd(self) -> int:
        """Gives an eventfd that is readable when `take_misses` has something."""

    def take_misses(self, most: int) -> Turn | None:
        """Takes sessions that calls wait for; to be called before the database is asked."""

    def take_refills(self, most: int) -> Turn | None:
        """Takes sessions that are to be read again before they are too old, likewise."""

    def apply_user(self, *, user_id: bytes, version: int, epoch: int) -> None: ...
    def apply_role(self, *, change_id: bytes) -> None: ...
    def clear(self) -> None:
        """Ends the lease, too."""

    def replace_callers(self, callers: Sequence[tuple[bytes, bool]], *, sent_us: int) -> None:
        """Takes stored keys in place of those before, read at a time of CLOCK_BOOTTIME."""

    def take_used_callers(self) -> list[bytes]:
        """Takes the hashes of stored keys that calls came with."""

    def take_seen(self) -> tuple[list[tuple[bytes, int]], int]:
        """Takes (session id, when it was seen), and how many had no room; never waits."""

    def take_first_uses(self) -> tuple[list[tuple[bytes, bytes]], int]:
        """Takes (session id, verifier) of secrets that came into use, and how many had no room."""

    def renew(self, *, sent_us: int, database_time_us: int) -> None:
        """Begins the lease anew at a time of CLOCK_BOOTTIME."""

    @property
    def bytes(self) -> int: ...

@final
class UnaryCall:
    """One call that the gate has handed over; ValueError once it was answered.

    Collected without an answer it is INTERNAL.
    """

    @property
    def number(self) -> int:
        """Gives what it is called when it is given up."""

    @property
    def method(self) -> int:
        """Gives the place of its method."""

    @property
    def message(self) -> bytes: ...
    @property
    def authorization(self) -> str: ...
    @property
    def time_left(self) -> float | None:
        """Gives the seconds that its client goes on waiting; None for ever."""

    def end(self, message: bytes) -> None: ...
    def fail(self, code: int, message: str, details: bytes) -> None:
        """Takes an encoded google.rpc.Status as details."""

@final
class UnaryCalls:
    """Calls of one listener that wait for Python."""

    def __new__(cls, methods: Sequence[str]) -> UnaryCalls:
        """Methods as `package.Service/Method`."""

    @property
    def wake_fd(self) -> int:
        """Gives an eventfd that is readable when there is something to take."""

    def take(self) -> UnaryCall | None:
        """Takes the call that has waited longest."""

    def take_given_up(self) -> list[int]:
        """Takes the numbers of calls that were taken and whose clients have gone."""

@final
class Gate:
    """A started gate; one that is collected without `stop` closes at once."""

    @staticmethod
    def start(
        *,
        address: str,
        upstream: str,
        services: Sequence[str],
        threads: int,
        connections_max: int,
        idle_seconds: float,
        age_seconds: float,
        lane: Lane | None = None,
        unary: UnaryCalls | None = None,
    ) -> Gate:
        """Listens; OSError for an address that cannot be, RuntimeError after a fork."""

    @property
    def address(self) -> str: ...
    def events(self) -> list[tuple[str, str, int]]:
        """Takes (kind, detail, how often in a row), the oldest first; never waits."""

    def stop(self, timeout_seconds: float) -> bool:
        """Drains without the GIL; gives whether every call ended in time. Later ones do nothing."""

def new_id(slot: int) -> bytes: ...
def new_user_id() -> bytes: ...
def new_nonce() -> bytes: ...
def random_key() -> bytes: ...
def slot_of_subject(subject_key: bytes) -> int: ...
def is_device_token(token: str) -> bool: ...
def parse_code(text: str) -> tuple[int, str] | None:
    """Gives (form, canonical code)."""

def verifier_matches(a: bytes, b: bytes) -> bool: ...
def panic_for_test() -> NoReturn:
    """Panics in Rust; missing from release builds."""
