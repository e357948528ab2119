"""ListAuditEvents: filters, pages, and what a page token is worth (row 35)."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.running import RunningApp
from watchword.storage import audit as audit_store
from watchword_client import RequestInvalid

SOON = timedelta(hours=1)
FILL = """
    INSERT INTO audit_events (slot, at, id, action, outcome, actor, user_id, count)
    SELECT n % 7, now() - make_interval(secs => n / 3),
           ('00000000-0000-8000-8000-' || lpad(to_hex(n * 4096 + n % 7), 12, '0'))::uuid,
           CASE WHEN n % 10 = 0 THEN 'revoke' ELSE 'sign_in' END, 'ok',
           CASE WHEN n % 2 = 0 THEN 'gateway' ELSE 'shop' END,
           ('00000000-0000-8000-8000-' || lpad(to_hex(n % 7), 12, '0'))::uuid, 1
    FROM generate_series(1, $1) AS n
"""
EVENTS = 60


@pytest.fixture
async def filled(app: RunningApp) -> RunningApp:
    """Sixty events, three of each moment."""
    await app.sql(FILL, EVENTS)
    return app


async def pages(app: RunningApp, size: int, **asked: object) -> list[str]:
    """The ids of every page, none of which is longer than asked."""
    found: list[str] = []
    page_token = ""
    while True:
        page = await app.admin.list_audit_events(page_size=size, page_token=page_token, **asked)  # type: ignore[arg-type]  # a test's own mix
        assert len(page.events) <= size
        found += [event.id for event in page.events]
        page_token = page.next_page_token
        if not page_token:
            return found


async def stored(app: RunningApp, where: str, *arguments: object) -> list[str]:
    """What the table has."""
    rows = await app.sql(
        f"SELECT id::text FROM audit_events WHERE {where} ORDER BY at DESC, id DESC", *arguments
    )
    return [row["id"] for row in rows]


async def test_pages_of_events_are_the_whole(filled: RunningApp) -> None:
    """The newest first, each once, also of one moment; by user, action, actor and time."""
    middle = (await filled.sql("SELECT now() - interval '10 seconds' AS t"))[0]["t"]
    user_id = "00000000-0000-8000-8000-000000000003"
    for size in (1, 7, 100):
        assert await pages(filled, size) == await stored(filled, "true")
        assert await pages(filled, size, action="revoke") == await stored(
            filled, "action = 'revoke'"
        )
        assert await pages(filled, size, user_id=user_id, actor="shop") == await stored(
            filled, "user_id = $1 AND actor = 'shop'", user_id
        )
        assert await pages(filled, size, start_time=middle) == await stored(
            filled, "at >= $1", middle
        )
        assert await pages(filled, size, end_time=middle, action="sign_in") == await stored(
            filled, "at < $1 AND action = 'sign_in'", middle
        )
    assert await pages(filled, 10, actor="nobody") == []


async def test_a_seldom_action_is_found_page_by_page(
    filled: RunningApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages are short, or empty, while others follow: no call looks at more than its share."""
    monkeypatch.setattr(audit_store, "LOOKED_AT_MAX", 4)
    assert await pages(filled, 3, action="revoke") == await stored(filled, "action = 'revoke'")
    first = await filled.admin.list_audit_events(action="revoke", page_size=3)
    assert len(first.events) < 3
    assert first.next_page_token


async def test_a_page_token_of_events_is_of_its_list(filled: RunningApp) -> None:
    """Flipped, of other filters, of another list."""
    good = (await filled.admin.list_audit_events(page_size=5)).next_page_token
    now = datetime.now(UTC)  # any time
    others = [
        {"action": "revoke"},
        {"actor": "shop"},
        {"user_id": "00000000-0000-8000-8000-000000000003"},
        {"start_time": now - SOON},
        {"end_time": now},
    ]
    for filters in others:
        with pytest.raises(RequestInvalid):
            await filled.admin.list_audit_events(page_token=good, **filters)  # type: ignore[arg-type]  # likewise
    for page_token in (good[:-1], good.swapcase(), "wwp_", "x" * 256):
        with pytest.raises(RequestInvalid):
            await filled.admin.list_audit_events(page_token=page_token)
    assert (await filled.admin.list_audit_events(page_token=good)).events


async def test_what_is_answered_is_what_is_stored(app: RunningApp) -> None:
    """A sign-in with all that was said of its device."""
    ada = await app.sign_in("ada")
    (event,) = (await app.admin.list_audit_events(action="first_sign_in")).events
    (row,) = await app.sql("SELECT * FROM audit_events WHERE action = 'first_sign_in'")
    assert (event.id, event.user_id, event.actor) == (str(row["id"]), ada.user.id, "tests")
    assert (event.target_kind, event.target_id) == ("session", ada.session.id)
    assert event.time.ToDatetime(tzinfo=UTC) == row["at"]
    assert (event.outcome, event.count) == ("ok", 1)
