"""`watchword doctor` on what a restore and other servers have left in the database."""

from datetime import timedelta
from functools import partial

import pytest

from tests.e2e.test_doctor_database import only
from tests.support.age import age
from tests.support.postgres import fetch
from tests.support.processes import run
from tests.support.running import RunningApp
from watchword.doctor import keys as module
from watchword.doctor.database import examine_database
from watchword.doctor.findings import Finding, Level
from watchword.doctor.keys import keys
from watchword.storage.pool import DatabaseSettings

WEEK = timedelta(days=7)
TIMELINE = "UPDATE installation SET timeline_id = timeline_id + 1"
IDENTIFIER = "UPDATE installation SET system_identifier = system_identifier + 1"
UNRECORD = "UPDATE installation SET system_identifier = NULL"
FORBID = "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC"


async def found_on(url: str, check: str, ring: tuple[int, ...] = (1,)) -> list[Finding]:
    """The findings of a check of this database, with a ring of these keys."""
    settings = DatabaseSettings.model_validate({"url": url})
    found = await examine_database(settings, keys=partial(keys, ring=ring, idle_lifetime=WEEK))
    return [finding for finding in found if finding.check == check]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (TIMELINE, "(timeline 1 instead of 2)"),
        (IDENTIFIER, "(another cluster)"),
    ],
)
async def test_a_restored_database_is_noticed(database_url: str, change: str, what: str) -> None:
    """By its history or by its cluster, with when all was right; until the fence has run, or
    somebody has said that nothing was lost.
    """
    fine = (Level.OK, "is the one that was confirmed")
    for options in (("--yes",), ("--nothing-lost",)):
        assert only(await found_on(database_url, "cluster")) == fine
        await fetch(database_url, change)
        [row] = await fetch(database_url, "SELECT cluster_confirmed_time AS at FROM installation")
        level, message = only(await found_on(database_url, "cluster"))
        assert (level, message) == (
            Level.WARNING,
            f"database was restored or failed over since {row['at']:%Y-%m-%d %H:%M} UTC {what}",
        )
        env = {"WATCHWORD_DATABASE__URL": database_url}
        done = await run("restore-fence", *options, env=env)
        assert (done.exit_code, done.stderr.strip()) == (0, "")
    assert done.stdout == "the cluster is confirmed, nothing was ended\n"
    assert only(await found_on(database_url, "cluster")) == fine


async def test_nothing_lost_ends_nothing(app: RunningApp) -> None:
    """Sessions and codes live on."""
    signed_in = await app.sign_in()
    challenge = (await app.client.send_otp(email="ada@example.com")).challenge
    code = await app.mails.code_for("ada@example.com", count=2)
    env = {"WATCHWORD_DATABASE__URL": app.database_url}
    assert (await run("restore-fence", "--nothing-lost", env=env)).exit_code == 0
    await app.client.validate_session(signed_in.session_token)
    await app.client.verify_otp(challenge_id=challenge.id, code=code)


async def test_a_cluster_that_cannot_be_told(database_url: str) -> None:
    """Neither is a warning: one that is not recorded, and a role that may not ask."""
    await fetch(database_url, UNRECORD)
    level, message = only(await found_on(database_url, "cluster"))
    assert (level, message) == (Level.OK, "is not recorded yet; `watchword migrate` does it")
    await fetch(database_url, FORBID)
    await fetch(database_url, "CREATE ROLE unasked LOGIN")
    try:
        await fetch(database_url, "GRANT ALL ON ALL TABLES IN SCHEMA public TO unasked")
        url = database_url.replace("postgres@", "unasked@")
        level, message = only(await found_on(url, "cluster"))
        assert (level, message.partition(":")[0]) == (Level.OK, "cannot be told")
        env = {"WATCHWORD_DATABASE__URL": url}
        refused = await run("restore-fence", "--nothing-lost", env=env)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert "hint: as a superuser: `GRANT EXECUTE" in refused.stderr
        assert (await run("restore-fence", "--yes", env=env)).exit_code == 0
    finally:
        await fetch(database_url, "DROP OWNED BY unasked")
        await fetch(database_url, "DROP ROLE unasked")


async def test_rings_that_go_together(app: RunningApp) -> None:
    """A key that is missing here is told with whom it refuses; a ring whose first key has signed
    nothing while another one signs is a note, for as long as that one does.
    """
    fine = (Level.OK, "what is alive has keys of this ring")
    assert only(await found_on(app.database_url, "keys", (2,))) == fine
    await app.sign_in()
    await app.register("eve")
    for ring in ((1,), (1, 2)):
        assert only(await found_on(app.database_url, "keys", ring)) == fine
    level, message = only(await found_on(app.database_url, "keys", (2, 1)))
    assert (level, message) == (
        Level.OK,
        f"{fine[1]}; note: key 2 has signed nothing that is alive, and key 1 has within minutes: "
        "another server may have it first",
    )
    await app.sql("UPDATE sessions SET key_id = 3")
    level, message = only(await found_on(app.database_url, "keys", (2, 1)))
    assert (level, message) == (
        Level.WARNING,
        "1 live sessions and 0 live challenges have key 3, which is not in this ring, so they are "
        "refused",
    )
    found = await found_on(app.database_url, "keys", (2,))
    assert [finding.message.partition(" live")[0] for finding in found] == ["0", "1"]
    await app.sql("UPDATE sessions SET key_id = 1")
    await age(app.database_url, timedelta(minutes=6))
    assert only(await found_on(app.database_url, "keys", (2, 1))) == fine


async def test_a_look_at_some_of_the_slots(
    app: RunningApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no time for all of them, the finding says of how many it tells."""
    await app.sign_in()
    monkeypatch.setattr(module, "SLOTS", 4097)
    level, message = only(await found_on(app.database_url, "keys", (2,)))
    assert level is Level.WARNING
    assert "1 live sessions and 0 live challenges in 4096 of 4097 slots have key 1" in message
    monkeypatch.setattr(module, "LOOK_SECONDS", -1.0)
    level, message = only(await found_on(app.database_url, "keys", (2,)))
    assert (level, message) == (Level.OK, "what is alive has keys of this ring")
