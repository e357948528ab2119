"""Commits that are refused and commits of which nobody hears, under everything that changes
something (row 29).
"""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import pytest

from tests.races.accounts import ALL, OTHERS, ROLES, Person, Told, done
from tests.races.bursts import FULL
from tests.races.results import Results
from tests.races.stored import faults
from tests.storage.database import open_database
from tests.support.cutting_proxy import Cut, CuttingProxy
from tests.support.postgres import fetch
from tests.support.replicas import Replicas, replicas_on
from watchword.audit.model import CLI
from watchword.login.role_admin import create_role
from watchword.storage.transactions import PgDatabase

pytestmark = pytest.mark.timeout(3_600 if FULL else 120)

REFUSED_PERCENT = 20
CUT_SHARE = 0.05
# What commits: transactions, and the statements alone that count a code.
COMMITS = ("COMMIT;", "SET attempts", "INSERT INTO failure_counts")
Act = Callable[[], Awaitable[None]]
PEOPLE_AT_ONCE = 8
STEPS = 10
TABLES = """
    SELECT tablename
    FROM pg_tables
    WHERE schemaname = 'public' AND tablename NOT IN ('schema_migrations', 'failure_counts')
"""
# By the transaction's number: all of its rows have one fate, and the next try has another.
REFUSE = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF abs(hashint8(txid_current()) % 100) < {percent} THEN
            RAISE EXCEPTION 'refused at commit' USING ERRCODE = 'serialization_failure';
        END IF;
        RETURN NULL;
    END $$
"""
REFUSE_TABLE = """
    CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE OR DELETE ON {table}
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()
"""


@dataclass
class Faulty:
    """Servers and operators whose commits fail."""

    proxy: CuttingProxy
    replicas: Replicas
    database: PgDatabase


@pytest.fixture
async def faulty(database_url: str) -> AsyncIterator[Faulty]:
    """Two servers, and the operators' database, behind one proxy."""
    await fetch(database_url, REFUSE.format(percent=REFUSED_PERCENT))
    for row in await fetch(database_url, TABLES):
        await fetch(database_url, REFUSE_TABLE.format(table=row["tablename"]))
    async with (
        CuttingProxy(database_url) as proxy,
        open_database(proxy.url) as database,
        replicas_on(proxy.url, count=2) as replicas,
    ):
        proxy.cut_some(COMMITS, share=CUT_SHARE, chance=random.Random(29))
        yield Faulty(proxy, replicas, database)


async def step(person: Person) -> None:
    """Some things at once that do not hinder each other, or one alone that ends sessions."""
    chance = person.chance
    if not person.sessions:
        await person.begin_session()
    sessions = chance.sample(list(person.sessions), len(person.sessions))
    if chance.random() < 0.7:
        calls: list[Act] = [person.change_role, person.begin_session]
        if len(sessions) > 1:
            one = sessions.pop()
            ends = [partial(person.revoke, one, by=by) for by in ("token", "id", "operator")]
            calls.append(chance.choice([*ends, partial(person.replay, one)]))
        calls += [partial(person.refresh, id) for id in sessions[:3]]
        await asyncio.gather(*(call() for call in calls if chance.random() < 0.7))
    else:
        alone: tuple[Act, ...] = (
            partial(person.revoke_many, OTHERS),
            partial(person.revoke_many, ALL),
            person.move,
            person.move,
            person.be_disabled,
            person.end_all_by_operator,
        )
        await chance.choice(alone)()
    await person.check()


async def test_every_answer_is_true_and_every_change_is_made_once(
    faulty: Faulty, results: Results
) -> None:
    """A fifth of all commits is refused with 40001, and at a twentieth the connection is lost,
    before or after the server has taken it, while people register, sign in, refresh, revoke, move
    and are given roles and disabled, eight at once at two servers. OK means done, and UNAVAILABLE
    that asking again is safe; no code is used twice or compared uncounted, and each change has one
    event and one row for the caches.

    240 steps of 24 people, in full 12,000 of 1,200. Seen to fail with a lost COMMIT taken for done,
    with one run again, with a charge whose COMMIT is lost compared, and without `consume_time IS
    NULL` in CONSUME.
    """
    told = Told()
    with results.measure("29") as row:
        for role in ROLES:
            await done(lambda role=role: create_role(faulty.database, role, ["read"], actor=CLI))  # type: ignore[misc]  # a default
        numbers = itertools.count(1)

        async def life() -> None:
            number = next(numbers)
            chance = random.Random(number)
            name = f"person{number}"
            person = Person(faulty.replicas, faulty.database, told, name, chance)
            await person.begin()
            for _ in range(STEPS):
                await step(person)

        for _ in row.each(step=PEOPLE_AT_ONCE * STEPS):
            await asyncio.gather(*(life() for _ in range(PEOPLE_AT_ONCE)))
        found = await faults(faulty.replicas, told)
        assert found == []
        row.saw(len(found))
        cuts, passed = faulty.proxy.cuts, faulty.proxy.passed
        assert min(cuts[Cut.BEFORE], cuts[Cut.AFTER]) > passed * CUT_SHARE / 4
        assert faulty.proxy.errors["40001"] > passed * REFUSED_PERCENT / 100 / 2
