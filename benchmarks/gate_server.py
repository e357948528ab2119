"""The gate with its cache and nothing behind it: what misses is made up here, not read.

Run as `python -m benchmarks.gate_server SESSIONS USERS FILE`. It mints that many sessions, writes
lines of a token and its user's id to FILE and listens on a free port of loopback. The first line on
stdout is one JSON object {pid, api, service_key, reads}: `reads` is a file with the number of
sessions that were made up so far. It serves until stdin is closed. PostgreSQL could not read a
million sessions within the minute for which the cache keeps them.
"""

import asyncio
import json
import os
import select
import struct
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from benchmarks.made_sessions import LIFETIME, PERMISSIONS, ROLE
from watchword.callers.model import Scope
from watchword.callers.registry import CallerRegistry, parse_caller_keys
from watchword.clock import boottime_ns
from watchword.crypto import KeyRing, new_user_id, random_key, slot_of
from watchword.errors import Overloaded, ReauthenticationNeeded, SessionInvalid, StorageUnavailable
from watchword.gate import Gate, GateSettings
from watchword.keyring import caller_entry
from watchword.session_cache import GateCache, GateRefusals
from watchword.transport.errors import status_of
from watchword.transport.server import ApiSettings
from watchword.transport.session_reader import TURN_SESSIONS_MAX

SERVICE = "watchword.v1.AuthService"
# More than a million sessions take.
CACHE_BYTES = 1 << 30
IDLE_LIFETIME, REPORT_PERIOD = timedelta(days=7), timedelta(minutes=10)
# As often as the poller renews the lease.
RENEW_SECONDS = 0.1
STOP_SECONDS = 1.0
# Of an array of texts, as PostgreSQL writes it.
TEXT_OID = 25
POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class MadeRows:
    """Sessions and the rows that FIND_MANY of storage/live_sessions.py would read of them."""

    def __init__(self, keys: KeyRing, *, sessions: int, users: int, file: Path) -> None:
        now = _database_now()
        times = _columns(_time(now), _time(now), _time(now + LIFETIME), _time(now), None, None)
        roles = _columns(_texts(ROLE), _texts(*PERMISSIONS), None, None)
        ids = [new_user_id() for _ in range(users)]
        # The columns of each session, and those of its user with what is the same for all.
        self._sessions: dict[str, tuple[bytes, int]] = {}
        self._users = [times + _user(number, id) + roles for number, id in enumerate(ids)]
        file.touch(mode=0o600)
        with file.open("w") as lines:
            for number in range(sessions):
                user = number % users
                minted = keys.mint_session(slot_of(ids[user]))
                columns = _columns(minted.session_id.bytes, minted.verifier)
                self._sessions[str(minted.session_id)] = columns, user
                lines.write(f"{minted.token.reveal()} {ids[user]}\n")

    def read(self, session_ids: Sequence[str]) -> list[bytes]:
        """The records of these sessions, of this moment."""
        as_of = _COLUMN_COUNT + _columns(_time(_database_now()))
        found = [self._sessions[id] for id in session_ids]
        return [as_of + columns + self._users[user] for columns, user in found]


_COLUMN_COUNT = struct.pack("!i", 20)


def _columns(*values: bytes | str | None) -> bytes:
    """Each with its type, which nobody reads, and its length; -1 for NULL."""

    def parts() -> Iterator[bytes]:
        for value in values:
            if value is None:
                yield struct.pack("!ii", 0, -1)
            else:
                raw = value.encode() if isinstance(value, str) else value
                yield struct.pack("!ii", 0, len(raw))
                yield raw

    return b"".join(parts())


def _user(number: int, id: UUID) -> bytes:
    zero, name = _number(0), f"person{number:08}"
    return _columns(zero, zero, id.bytes, zero, name, "Ada Lovelace", f"{name}@example.com")


def _database_now() -> datetime:
    """The clock of the database that is not there; it counts from 2000 on."""
    return POSTGRES_EPOCH + boottime_ns() // 1_000 * MICROSECOND


def _number(value: int) -> bytes:
    return struct.pack("!q", value)


def _time(time: datetime) -> bytes:
    return _number((time - POSTGRES_EPOCH) // MICROSECOND)


def _texts(*values: str) -> bytes:
    head = struct.pack("!iiiii", 1, 0, TEXT_OID, len(values), 1)
    return head + b"".join(struct.pack("!i", len(value)) + value.encode() for value in values)


def serve(cache: GateCache, rows: MadeRows, reads: Path) -> None:
    """Renews the lease and answers misses until stdin ends."""
    read = 0
    while True:
        cache.renew(sent_ns=boottime_ns(), database_time=_database_now())
        reads.write_text(str(read))
        ready, _, _ = select.select([sys.stdin, cache.wake_fd], [], [], RENEW_SECONDS)
        if sys.stdin in ready:
            return
        if ready:
            os.eventfd_read(cache.wake_fd)
        while (turn := cache.take_misses(TURN_SESSIONS_MAX)) is not None:
            made = rows.read(turn.session_ids)
            turn.take_rows(made)
            read += len(made)


def main() -> None:
    """Reads the arguments and serves."""
    sessions, users, file = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    keys = KeyRing([(1, random_key())], random_key())
    entry = caller_entry(keys, "default", [Scope.VALIDATE])
    callers = parse_caller_keys(entry)
    cache = GateCache(
        keys,
        CallerRegistry(keys, callers),
        GateRefusals(
            invalid=status_of(SessionInvalid()),
            reauthentication_needed=status_of(ReauthenticationNeeded()),
            overloaded=status_of(Overloaded()),
            unavailable=status_of(StorageUnavailable()),
        ),
        bytes_max=CACHE_BYTES,
        idle_lifetime=IDLE_LIFETIME,
        report_period=REPORT_PERIOD,
    )
    rows = MadeRows(keys, sessions=sessions, users=users, file=file)
    gate = Gate(GateSettings(), ApiSettings(address="127.0.0.1:0"), [SERVICE], cache.lane)
    gate.make_upstream()
    reads = file.with_suffix(".reads")
    facts = {
        "pid": os.getpid(),
        "api": gate.start(),
        "service_key": callers[0].key.reveal(),
        "reads": str(reads),
    }
    reads.write_text("0")
    print(json.dumps(facts), flush=True)
    try:
        serve(cache, rows, reads)
    finally:
        asyncio.run(gate.stop(STOP_SECONDS))
        gate.remove_upstream()


if __name__ == "__main__":
    main()
