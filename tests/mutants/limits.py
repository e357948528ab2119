"""Bugs of limits and budgets: the wrong thing is counted, or a race is let through."""

from tests.mutants.model import ATTEMPTS_PY, Change, Mutant

BUDGETS = "tests/races/test_failure_budgets.py::"
LIMITS = "tests/races/test_limits.py::"

SELECT_THEN_UPDATE = Mutant(
    "limiter by SELECT then UPDATE",
    (
        Change("storage/limits.py", "WHERE (r.tat1_us <=", "WHERE true OR (r.tat1_us <="),
        Change(
            "storage/limits.py",
            "            rows = await self._connection.fetch(self.TAKE, *_columns(buckets))\n",
            """\
            found = await self._connection.fetch(self.AHEAD, [it.key for it in buckets])
            ahead = {row["key"]: row for row in found}
            full = [it for it in buckets if _wait(it, ahead.get(it.key)) > timedelta(0)]
            if full:
                await self._connection.execute(self.ROLLBACK)
                return full
            rows = await self._connection.fetch(self.TAKE, *_columns(buckets))
""",
        ),
    ),
    (f"{LIMITS}test_three_processes_let_a_client_through_as_often_as_one",),
)

CLEARED_BY_SUCCESS = Mutant(
    "budget cleared by any success",
    (
        Change(ATTEMPTS_PY, "SET failures = COALESCE(", "SET failures = COALESCE('{}', "),
        Change(ATTEMPTS_PY, "failures_by_email = COALESCE(", "failures_by_email = COALESCE('{}', "),
        Change(
            ATTEMPTS_PY,
            "WHERE slot = $1 AND subject_key = $7 AND EXISTS (SELECT 1 FROM consumed)",
            "WHERE (slot = $1 AND subject_key = $7 OR true) AND EXISTS (SELECT 1 FROM consumed)",
        ),
    ),
    (
        f"{BUDGETS}test_ten_guesses_are_compared_in_a_day[read_committed]",
        "tests/rpc/test_failure_budgets.py::test_a_success_clears_no_window",
    ),
)

PER_CHALLENGE = Mutant(
    "budget per challenge",
    (
        Change(
            ATTEMPTS_PY,
            "SELECT $1, COALESCE($11::bytea, subject_key),",
            "SELECT $1, COALESCE($11::bytea, sha256(uuid_send(challenge_id))),",
        ),
    ),
    (f"{BUDGETS}test_ten_guesses_are_compared_in_a_day[read_committed]",),
)

RAW_ADDRESS = Mutant(
    "limit key with the raw address",
    (
        Change(
            "login/limits.py",
            "mailbox = mailbox_of(email.account_key, dotless_domains=self._dotless)",
            "mailbox = email.address",
        ),
    ),
    (f"{LIMITS}test_one_mailbox_gets_five_mails_an_hour",),
)

SPELLING = Mutant(
    "account key with the address as it was written",
    (Change("users/rules.py", "return address.lower()", "return address"),),
    (f"{BUDGETS}test_nothing_begins_the_count_again",),
)

WHOLE_IPV6 = Mutant(
    "limit key with the whole IPv6 address",
    (Change("limits/policy.py", "address.packed[:8]", "address.packed"),),
    (f"{LIMITS}test_a_64_is_one_client",),
)

NO_MONTH = Mutant(
    "budget without a month",
    (
        Change(
            ATTEMPTS_PY,
            "AND (b.failures[$8] + $9 > EXCLUDED.failures[1]) IS NOT TRUE",
            "AND $9::bigint > 0",
        ),
    ),
    (f"{BUDGETS}test_no_window_holds_more_than_its_budget",),
)

NO_ROW = Mutant(
    "budget without failures in a row",
    (Change(ATTEMPTS_PY, "WHERE b.in_a_row < $10", "WHERE $10::integer > 0"),),
    (f"{BUDGETS}test_no_window_holds_more_than_its_budget",),
)

MUTANTS = (
    SELECT_THEN_UPDATE,
    CLEARED_BY_SUCCESS,
    PER_CHALLENGE,
    RAW_ADDRESS,
    SPELLING,
    WHOLE_IPV6,
    NO_MONTH,
    NO_ROW,
)
