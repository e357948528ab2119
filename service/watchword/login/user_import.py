"""Users out of lines: as many as are acceptable, the others refused each by itself.

An address that has an account already is left as it is, so that whatever was cut off is run again
and goes on. Lines are taken some hundreds at a time, each such batch in a transaction, and come to
what they would come to one after the other: a line that shares an address, a username or an id with
one before it waits for the next transaction. So does one to which somebody else was quicker; the
look-ups tell what has become of it.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from typing import Final
from uuid import UUID

from watchword.audit.model import Action, Event
from watchword.crypto import jitter_seconds
from watchword.errors import StorageUnavailable, ValueRejected
from watchword.login import auditing
from watchword.login.ports import Database, Tx
from watchword.login.user_lines import UserLine, is_blank, parsed
from watchword.sessions.model import EndedSessions

LINES_AT_ONCE: Final = 500
# A database that restarts, or another import that holds this one up, is waited for.
ATTEMPTS_MAX: Final = 4
PAUSE_SECONDS: Final = 2.0


@dataclass(slots=True)
class ImportCounts:
    """What became of the lines so far."""

    imported: int = 0
    already_there: int = 0
    refused: int = 0


class _Fate(Enum):
    IMPORTED = auto()
    ALREADY_THERE = auto()


# For each line that is decided, what it has come to; a text says why it is refused.
_Fates = dict[UserLine, _Fate | str]


async def import_users(
    database: Database,
    lines: Iterable[tuple[int, bytes | None]],
    *,
    actor: str,
    counts: ImportCounts,
    refused: Callable[[int, str], None],
    progress: Callable[[], None] = lambda: None,
) -> None:
    """Makes the users of the lines, which have their numbers; None is a line that is too long.

    `refused` is told the number of each refused line and why, in their order; `progress` is called
    after each batch. Raises StorageUnavailable when the database stays away; what is counted by
    then is stored.
    """
    read = _read(lines)
    while batch := list(islice(read, LINES_AT_ONCE)):
        undecided = [line for _, line in batch if isinstance(line, UserLine)]
        fates: _Fates = {}
        while undecided:
            fates |= await _decided(database, undecided, actor=actor)
            undecided = [line for line in undecided if line not in fates]
        for number, line in batch:
            match fates[line] if isinstance(line, UserLine) else line:
                case _Fate.IMPORTED:
                    counts.imported += 1
                case _Fate.ALREADY_THERE:
                    counts.already_there += 1
                case reason:
                    counts.refused += 1
                    refused(number, reason)
        progress()


def _read(lines: Iterable[tuple[int, bytes | None]]) -> Iterator[tuple[int, UserLine | str]]:
    """Yields each line that is not blank, or why it is refused."""
    for number, text in lines:
        if is_blank(text):
            continue
        try:
            yield number, parsed(text)
        except ValueRejected as error:
            yield number, str(error)


async def _decided(database: Database, lines: Sequence[UserLine], *, actor: str) -> _Fates:
    """Makes users in one transaction; what became of some of the lines, mostly of all."""

    async def statements(tx: Tx) -> tuple[_Fates, Sequence[Event]]:
        fates, wanted = await _looked_up(tx, lines)
        made = await _made(tx, wanted)
        given = await tx.user_files.give_roles(made, granted_by=actor)
        events = [event for line in made for event in _events(line, given, actor)]
        if events:
            await tx.audit.put_all(events)
        return fates | dict.fromkeys(made, _Fate.IMPORTED), events

    async def committed(tx: Tx, decided: tuple[_Fates, Sequence[Event]]) -> bool:
        _, events = decided
        return not events or await tx.audit.exists(events[0].id)

    for attempt in range(1, ATTEMPTS_MAX):
        try:
            return (await database.run_tx(statements, committed=committed))[0]
        except StorageUnavailable:
            # After a COMMIT whose outcome is unknown, too: the look-ups will tell.
            await asyncio.sleep(jitter_seconds(PAUSE_SECONDS * attempt))
    return (await database.run_tx(statements, committed=committed))[0]


async def _looked_up(tx: Tx, lines: Sequence[UserLine]) -> tuple[_Fates, Sequence[UserLine]]:
    """Returns what became of lines by what is stored, and those that may be made at once.

    All others wait for these.
    """
    owned = await tx.user_files.owned_emails(lines)
    fates: _Fates = {line: _Fate.ALREADY_THERE for line in lines if line.email.account_key in owned}
    left = [line for line in lines if line not in fates]
    if not left:
        return fates, []
    names = await tx.user_files.usernames_taken(left)
    ids = await tx.user_files.ids_taken([line for line in left if line.id_given])
    roles = await tx.user_files.known_roles(left)
    # Whoever has the name or the id may have come with the address, after it was asked for.
    late = [line for line in left if line.username in names or line.id in ids]
    if late:
        owned = await tx.user_files.owned_emails(late)
        fates |= {line: _Fate.ALREADY_THERE for line in late if line.email.account_key in owned}
        left = [line for line in left if line not in fates]

    wanted: list[UserLine] = []
    # By lines before. No username has an `@`.
    claimed: set[str | UUID] = set()
    for line in left:
        keys: set[str | UUID] = {line.email.account_key, line.username, line.id}
        missing = next((one.role for one in line.roles if one.role not in roles), None)
        if line.email.account_key in claimed:
            claimed |= keys  # there already, if the line before is made
        elif missing is not None:
            fates[line] = f"`roles` names `{missing}`, which is no role"
        elif line.id in ids:
            fates[line] = "`id` is taken"
        elif line.username in names:
            held = names[line.username]
            fates[line] = f"`username` is {'held by a registration' if held else 'taken'}"
        else:
            if claimed.isdisjoint(keys):
                wanted.append(line)
            claimed |= keys
    return fates, wanted


async def _made(tx: Tx, wanted: Sequence[UserLine]) -> Sequence[UserLine]:
    """Makes the users to whose address, username and id nobody else was quicker."""
    if not wanted:
        return []
    with_email = await tx.user_files.claim_emails(wanted)
    with_both = await tx.user_files.claim_usernames(with_email)
    made = await tx.user_files.insert(with_both)
    there = set(made)
    if late := [line for line in with_email if line not in there]:
        await tx.user_files.release_emails(late)
    if late := [line for line in with_both if line not in there]:
        await tx.user_files.release_usernames(late)
    return made


def _events(line: UserLine, given: set[tuple[UUID, str]], actor: str) -> Iterator[Event]:
    created = EndedSessions(0, line.id, 0, 0)
    yield auditing.user_changed(Action.CREATE_USER, created, actor=actor)
    for one in line.roles:
        if (line.id, one.role) in given:
            yield auditing.role_changed(Action.ASSIGN_ROLE, one.role, actor=actor, user_id=line.id)
