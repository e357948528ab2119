"""SQL in every text that a statement gets to see: it stays a text (row 35)."""

import itertools
import random
import re

import pytest

from tests.races.bursts import FULL
from tests.rpc.wire import count
from tests.support.running import RunningApp
from watchword_client import RequestInvalid, RoleNotFound, UserNotFound, WatchwordError

COUNT = 10_000 if FULL else 400
ENDS = ["'", '"', "')", "'))", "\\'", "$$", "'::text", "%27", "ʼ", ""]
BODIES = [
    " OR 1=1",
    " AND 1=2",
    " UNION SELECT NULL, usename FROM pg_user",
    "; DROP TABLE users",
    "; UPDATE users SET state = 'disabled'",
    "; DELETE FROM sessions",
    "; SELECT pg_sleep(5)",
    " || (SELECT version())",
    " AND (SELECT 1 FROM pg_sleep(5)) IS NOT NULL",
    "; COPY users TO PROGRAM 'id'",
    " = ANY(ARRAY[$1])",
    " ORDER BY 99",
]
TAILS = ["", "--", " --", "/*", "#", ";", " LIMIT 1 OFFSET 1", "\t--", ") --", "' --"]
GAPS = [" ", "/**/", "  ", "\u00a0"]
TABLES = ("users", "sessions", "roles", "user_roles", "identifiers")


def payloads() -> list[str]:
    """As many of the combinations, drawn by a fixed seed."""
    every = [
        f"{word}{end}{body.replace(' ', gap)}{tail}"
        for word, end, body, tail, gap in itertools.product(
            ("ada", "1", ""), ENDS, BODIES, TAILS, GAPS
        )
    ]
    return random.Random(35).sample(every, COUNT)


@pytest.mark.timeout(1_800 if FULL else 120)
async def test_sql_stays_a_text(app: RunningApp) -> None:
    """Names, filters, reasons and what is said of a device, with quotes, comments and statements in
    them: refused by the field's rule, or stored and compared as they are. No statement has a piece
    of them, and no table changes by them.

    400 payloads, in full 10,000, each in seven fields.
    """
    ada = await app.sign_in("ada")
    await app.admin.create_role("editor", permissions=["a"])
    before = {table: await count(app, table) for table in TABLES}
    app.statements.clear()
    calls = 0
    for payload in payloads():
        for call in (
            app.admin.update_user(ada.user.id, full_name=payload),
            app.admin.get_user(username=payload),
            app.admin.get_user(email=f"{payload}@example.com"),
            app.admin.list_users(role=payload),
            app.admin.list_audit_events(action=payload[:64], actor=payload[:64]),
            app.admin.assign_role(ada.user.id, "editor", reason=payload[:200]),
            app.admin.unassign_role(ada.user.id, payload),
        ):
            calls += 1
            try:
                await call
            except (RequestInvalid, UserNotFound, RoleNotFound):
                pass
            except WatchwordError as error:
                raise AssertionError(payload) from error
    assert calls == 7 * COUNT
    assert not [
        text for text in set(app.statements.seen) if re.search("pg_sleep|DROP|PROGRAM", text)
    ]
    after = {table: await count(app, table) for table in TABLES}
    assert after == {**before, "user_roles": 1}
    assert await app.client.validate_session(ada.session_token)
    name = "ada'; DROP TABLE users--"
    assert (await app.admin.update_user(ada.user.id, full_name=name)).user.full_name == name
