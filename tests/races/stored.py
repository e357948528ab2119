"""Whether what is stored can have come about: each change whole, once, and with its code counted.

Rows of one transaction have one xmin; those of the audit and of the changes are written once.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import asyncpg

from tests.races.accounts import Told
from tests.support.replicas import Replicas

QUERIES = {
    "challenges": """
        SELECT c.xmin::text AS tx, id::text, purpose, consume_time IS NOT NULL AS used,
               attempts + attempts_by_email AS counted,
               (SELECT count(*) FROM outbox o WHERE o.challenge_id = c.id) AS mails
        FROM challenges c
    """,
    "events": """
        SELECT xmin::text AS tx, action, user_id, target_id, count
        FROM audit_events
        WHERE outcome = 'ok'
    """,
    "changes": """
        SELECT xmin::text AS tx, kind, user_id, session_id::text, version, revoked
        FROM changes
    """,
    "sessions": """
        SELECT id::text, user_id, generation, revoke_time IS NOT NULL AS revoked FROM sessions
    """,
    "users": """
        SELECT id, state, version, lower(email) AS email, username,
               ARRAY(SELECT role FROM user_roles r WHERE r.user_id = u.id) AS roles
        FROM users u
    """,
    "owned": "SELECT kind, value, user_id FROM identifiers WHERE user_id IS NOT NULL",
    "notices": "SELECT email_change_id::text FROM outbox WHERE kind = 'email_changed'",
    "failures": "SELECT COALESCE(sum(n), 0) AS n FROM failure_counts, unnest(hours) AS n",
}
SIGN_INS = {"sign_in", "first_sign_in"}
ENDS_ONE = {"revoke", "end_stolen_session"}
# A change beside the event: all but a sign-in.
CHANGES = {
    *ENDS_ONE,
    *("revoke_others", "revoke_all", "change_email", "disable_user", "enable_user"),
    *("create_role", "assign_role", "unassign_role"),
}


@dataclass(frozen=True)
class Stored:
    """Every row that tells of a change."""

    challenges: Sequence[asyncpg.Record]
    events: Sequence[asyncpg.Record]
    changes: Sequence[asyncpg.Record]
    sessions: Sequence[asyncpg.Record]
    users: Sequence[asyncpg.Record]
    owned: Sequence[asyncpg.Record]
    notices: Sequence[asyncpg.Record]
    failures: Sequence[asyncpg.Record]


async def faults(replicas: Replicas, told: Told) -> list[str]:
    """What of it cannot be, in words."""
    stored = Stored(**{name: await replicas.sql(text) for name, text in QUERIES.items()})
    compared = Counter(id for id, code in replicas.compared() if code.isdigit())
    checks: list[Callable[[Stored], Iterable[str]]] = [
        _sign_ins_are_of_one_code_each,
        _address_changes_are_of_one_code_each,
        _changes_have_one_event_each,
        _sessions_end_once,
        _versions_are_of_one_change_each,
        _what_alternates_alternates,
        _users_own_their_names,
    ]
    found = [fault for check in checks for fault in check(stored)]
    found += _codes_are_counted(stored, compared, told)
    return [*found, *_answers_are_there(stored, told)]


def _repeated(values: Iterable[object]) -> list[object]:
    return [value for value, count in Counter(values).items() if count > 1]


def _sign_ins_are_of_one_code_each(stored: Stored) -> Iterable[str]:
    used = [c["tx"] for c in stored.challenges if c["used"] and c["purpose"] == "sign_in"]
    events = [e for e in stored.events if e["action"] in SIGN_INS]
    if Counter(used) != Counter(e["tx"] for e in events) or _repeated(used):
        yield "sign-ins are not one to a used code"
    if Counter(e["target_id"] for e in events) != Counter(s["id"] for s in stored.sessions):
        yield "sessions are not one to a sign-in"
    first = [e["user_id"] for e in events if e["action"] == "first_sign_in"]
    if Counter(first) != Counter(u["id"] for u in stored.users):
        yield "users are not one to a first sign-in"


def _address_changes_are_of_one_code_each(stored: Stored) -> Iterable[str]:
    used = [c for c in stored.challenges if c["used"] and c["purpose"] == "email_change"]
    events = [e["tx"] for e in stored.events if e["action"] == "change_email"]
    if Counter(c["tx"] for c in used) != Counter(events) or _repeated(events):
        yield "changes of address are not one to a used code"
    if Counter(c["id"] for c in used) != Counter(n["email_change_id"] for n in stored.notices):
        yield "notices are not one to a change of address"


def _changes_have_one_event_each(stored: Stored) -> Iterable[str]:
    events = Counter(e["tx"] for e in stored.events if e["action"] in CHANGES)
    told = Counter(c["tx"] for c in stored.changes if c["kind"] != "session" or c["revoked"])
    if events != told or set(events.values()) - {1}:
        yield "changes are not one to an event"
    unknown = {e["action"] for e in stored.events} - CHANGES - SIGN_INS
    if unknown:
        yield f"events that nobody caused: {unknown}"


def _sessions_end_once(stored: Stored) -> Iterable[str]:
    by_event = Counter(e["target_id"] for e in stored.events if e["action"] in ENDS_ONE)
    by_change = Counter(c["session_id"] for c in stored.changes if c["revoked"])
    ended = {s["id"] for s in stored.sessions if s["revoked"]}
    if by_event != by_change or not set(by_event) <= ended or _repeated(by_event.elements()):
        yield "a session that was ended is not, or twice"
    many = [e["count"] for e in stored.events if e["action"] == "revoke_others"]
    # The event of a change of address says 1 for none as well.
    moved = [e["count"] for e in stored.events if e["action"] == "change_email"]
    by_many = len(ended) - len(by_event) - sum(many)
    if not sum(count for count in moved if count > 1) <= by_many <= sum(moved):
        yield "the events count other sessions than those that were ended"


def _versions_are_of_one_change_each(stored: Stored) -> Iterable[str]:
    versions = defaultdict(list)
    for change in stored.changes:
        versions[change["user_id"]].append(change["version"])
    for user in stored.users:
        seen = versions[user["id"]]
        if _repeated(seen) or max(seen, default=0) > user["version"]:
            yield "two changes of one version"
    refreshed = Counter(c["session_id"] for c in stored.changes if c["session_id"])
    for session in stored.sessions:
        # Each generation is one change, and at most one more when it was seen in use.
        ends = session["generation"], 2 * session["generation"] + 1
        if not ends[0] <= refreshed[session["id"]] <= ends[1]:
            yield "refreshes are not one to a change"


def _what_alternates_alternates(stored: Stored) -> Iterable[str]:
    version = {c["tx"]: c["version"] for c in stored.changes}
    events = sorted(stored.events, key=lambda e: version.get(e["tx"]) or 0)
    states: dict[object, list[str]] = defaultdict(list)
    for event in events:
        action, _, what = event["action"].partition("_")
        if what == "role" and action != "create":
            states[event["user_id"], event["target_id"]].append(action)
        elif action in ("disable", "enable"):
            states[event["user_id"]].append(action)
    for user in stored.users:
        if not _alternates(states[user["id"]], "disable", "enable", user["state"] == "disabled"):
            yield "a user disabled or enabled twice, or never"
        for role in {t for u, t in (k for k in states if isinstance(k, tuple)) if u == user["id"]}:
            held = role in user["roles"]
            if not _alternates(states[user["id"], role], "assign", "unassign", held):
                yield "a role given or taken twice, or never"


def _alternates(seen: list[str], on: str, off: str, is_on: bool) -> bool:
    return seen == [on if n % 2 == 0 else off for n in range(len(seen))] and is_on == len(seen) % 2


def _users_own_their_names(stored: Stored) -> Iterable[str]:
    names = [("email", u["email"], u["id"]) for u in stored.users]
    names += [("username", u["username"], u["id"]) for u in stored.users]
    if Counter(names) != Counter(tuple(row) for row in stored.owned):
        yield "an address or a username is not its user's"


def _codes_are_counted(stored: Stored, compared: Counter[str], told: Told) -> Iterable[str]:
    for challenge in stored.challenges:
        if compared[challenge["id"]] > challenge["counted"]:
            yield f"compared {compared[challenge['id']]}, counted {challenge['counted']}"
    if told.wrong_codes > stored.failures[0]["n"]:
        yield "a wrong code that the installation has not counted"


def _answers_are_there(stored: Stored, told: Told) -> Iterable[str]:
    sessions = {s["id"] for s in stored.sessions}
    if not told.sign_ins <= sessions:
        yield "a sign-in that was answered is lost"
    if len(sessions) > len(told.sign_ins) + told.sign_ins_in_doubt:
        yield "a sign-in that nobody asked for"
    if not told.revoked <= {e["target_id"] for e in stored.events if e["action"] == "revoke"}:
        yield "a revoke that was answered is lost"
    if not told.email_changes <= {n["email_change_id"] for n in stored.notices}:
        yield "a change of address that was answered is lost"
    for challenge in stored.challenges:
        resent = told.resent[challenge["id"]]
        if (
            not 1 + resent
            <= challenge["mails"]
            <= 1 + resent + told.resent_in_doubt[challenge["id"]]
        ):
            yield "mails are not one to a code and one to a resend"
