"""Bugs that other servers of this kind have had, as changes of Watchword's text, and who sees them.

Each piece of text stands exactly once in its file; keep it as short as that allows.
"""

from dataclasses import dataclass

CODES = "tests/races/test_double_spend.py::"
SPEND_ONCE = "test_64_connections_to_three_processes_spend_a_code_once"
GUESSES = "tests/races/test_wrong_guesses.py::"
BUDGETS = "tests/races/test_failure_budgets.py::"
ORDERS = "tests/races/test_interleavings.py::"
REPLAYS = "tests/races/test_replays.py::"
RESTARTS = "tests/races/test_restarts.py::"
COMMITS = "tests/races/test_faulty_commits.py::"
MODEL = "tests/races/test_refresh_and_revoke_model.py::"
LIMITS = "tests/races/test_limits.py::"
REVOCATION = "tests/races/test_revocation.py::test_a_revoke_is_seen_in_time"
ADDRESSES = "tests/rpc/test_email_change.py::"

ATTEMPTS_PY = "storage/attempts.py"
CODES_PY = "login/codes.py"
VERIFY_PY = "login/verify_otp.py"


@dataclass(frozen=True, slots=True)
class Change:
    """A piece of text of a file below service/watchword, and what stands there instead."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug by name, and the tests each of which has to fail with it."""

    name: str
    changes: tuple[Change, ...]
    tests: tuple[str, ...]


NO_CONSUME_TIME = Mutant(
    "no `consume_time IS NULL`",
    (
        Change(
            ATTEMPTS_PY,
            "AND consume_time IS NULL AND end_time IS NULL AND expire_time > now()\n"
            "            RETURNING user_id",
            "AND end_time IS NULL AND expire_time > now()\n            RETURNING user_id",
        ),
    ),
    (f"{CODES}{SPEND_ONCE}",),
)

COUNT_AFTER_COMPARE = Mutant(
    "count after compare",
    (
        Change(
            CODES_PY,
            "    return await tx.attempts.charge_by_id(\n",
            """\
    if not _LOOKED.get():
        _LOOKED.set(True)
        return await _look(tx, challenge_id)
    return await tx.attempts.charge_by_id(
""",
        ),
        Change(
            CODES_PY,
            "    matching = ctx.keys.check_code(code, charged.sources)\n",
            """\
    matching = ctx.keys.check_code(code, charged.sources)
    if _LOOKED.get():
        await ctx.database.run_statement(charge)
""",
        ),
        Change(
            CODES_PY,
            "async def charge_by_id(",
            '''from contextvars import ContextVar

_LOOKED = ContextVar("looked", default=False)


async def _look(tx: Tx, challenge_id: UUID) -> Charge:
    from watchword.storage.attempts import charge_of

    statement = """
        SELECT id AS challenge_id, purpose, subject_key, nonce, key_id, 1 AS failed_at_us
        FROM challenges
        WHERE id = $1 AND attempts < 5 AND consume_time IS NULL AND end_time IS NULL
    """
    rows = await tx.attempts._connection.fetch(statement, challenge_id)
    return charge_of(rows, by_email=False)


async def charge_by_id(''',
        ),
    ),
    (
        f"{GUESSES}test_three_processes_count_together[id-read_committed-read_committed]",
        f"{ORDERS}test_only_what_the_model_allows_is_accepted[read_committed]",
    ),
)

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

ROLLED_BACK = Mutant(
    "charge rolled back by the error",
    (
        Change(
            CODES_PY,
            "    charged = await ctx.database.run_statement(charge)\n",
            """\
    async def transaction(tx: Tx) -> Charge:
        found = await charge(tx)
        if ctx.keys.check_code(code, found.sources) is None:
            raise OtpInvalid
        return found

    charged = await ctx.database.run_tx(transaction)
""",
        ),
    ),
    (
        f"{GUESSES}test_three_processes_count_together[id-read_committed-read_committed]",
        f"{GUESSES}test_three_processes_count_together[e-mail-read_committed-read_committed]",
    ),
)

CHARGES_TWICE = Mutant(
    "retry that charges twice",
    (
        Change(
            VERIFY_PY,
            "        consumed = await tx.attempts.consume(",
            """\
        if runs:
            await ctx.database.run_statement(
                lambda other: other.attempts.charge_by_id(
                    source.challenge_id,
                    purpose=Purpose.SIGN_IN,
                    code_form=6,
                    attempts_max=5,
                    budget=FAILURE_BUDGET,
                )
            )
        runs.append(1)
        consumed = await tx.attempts.consume(""",
        ),
        Change(
            VERIFY_PY,
            "    source = proven.source\n",
            "    source = proven.source\n    runs = []\n",
        ),
    ),
    (
        f"{CODES}test_a_sign_in_that_is_run_again_is_charged_once[repeatable_read]",
        f"{CODES}test_a_sign_in_that_is_run_again_is_charged_once[serializable]",
    ),
)

LANE_CLOSES_THE_OTHER = Mutant(
    "e-mail lane closing the challenge lane",
    (
        Change(
            ATTEMPTS_PY,
            "SET attempts_by_email = attempts_by_email + 1",
            "SET attempts_by_email = attempts_by_email + 1,"
            " end_time = CASE WHEN attempts_by_email = 2 THEN now() END",
        ),
    ),
    (f"{GUESSES}test_a_spent_email_lane_leaves_the_other_open[read_committed]",),
)

NO_ATTEMPTS_MAX = Mutant(
    "attempts of a challenge without end",
    (Change(ATTEMPTS_PY, "AND attempts < $5", "AND (attempts < $5 OR attempts >= 0)"),),
    (
        f"{GUESSES}test_three_processes_count_together[id-read_committed-read_committed]",
        f"{GUESSES}test_a_right_code_in_the_burst_counts_as_a_guess[read_committed]",
        f"{ORDERS}test_only_what_the_model_allows_is_accepted[read_committed]",
    ),
)

NO_ATTEMPTS_BY_EMAIL_MAX = Mutant(
    "attempts by e-mail without end",
    (
        Change(
            ATTEMPTS_PY,
            "AND attempts_by_email < $5",
            "AND (attempts_by_email < $5 OR attempts_by_email >= 0)",
        ),
    ),
    (f"{GUESSES}test_three_processes_count_together[e-mail-read_committed-read_committed]",),
)

LOST_RACE = Mutant(
    "lost race answered as a defect",
    (Change("storage/transactions.py", "except _LOST_RACE as error:", "except () as error:"),),
    (f"{CODES}{SPEND_ONCE}[repeatable_read-repeatable_read]",),
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

EXPIRED = Mutant(
    "expired code accepted",
    (
        Change(
            ATTEMPTS_PY, "AND expire_time > now()\n              AND attempts <", "AND attempts <"
        ),
        Change(
            ATTEMPTS_PY,
            "AND expire_time > now()\n            ORDER BY id\n            FOR UPDATE",
            "ORDER BY id FOR UPDATE",
        ),
        Change(
            ATTEMPTS_PY,
            "AND expire_time > now()\n            RETURNING user_id",
            "RETURNING user_id",
        ),
    ),
    (
        f"{REPLAYS}test_a_dead_code_is_a_wrong_code",
        f"{REPLAYS}test_a_short_life_ends_by_itself",
    ),
)

ONE_CODE = Mutant(
    "code that follows from no challenge",
    (
        Change("crypto.py", "challenge_id=source.challenge_id.bytes,", "challenge_id=bytes(16),"),
        Change("crypto.py", "subject_key=source.subject_key,", "subject_key=bytes(32),"),
        Change("crypto.py", "nonce=source.nonce,", "nonce=bytes(16),"),
        Change("crypto.py", " source.challenge_id.bytes,\n", " bytes(16),\n"),
        Change("crypto.py", " source.subject_key,\n", " bytes(32),\n"),
        Change("crypto.py", " source.nonce,\n", " bytes(16),\n"),
    ),
    (f"{REPLAYS}test_a_code_is_good_for_its_own_challenge_alone",),
)

COMMIT_TAKEN_FOR_DONE = Mutant(
    "lost COMMIT that is taken for done",
    (Change("storage/transactions.py", "raise CommitOutcomeUnknown from error", "return"),),
    (f"{COMMITS}test_every_answer_is_true_and_every_change_is_made_once",),
)

COUNTED_UNLOCKED = Mutant(
    "sessions that are counted before their user is locked",
    (
        Change(
            "login/revoke.py",
            "    if await tx.users.lock(user_id) is None:\n        return None\n",
            "",
        ),
    ),
    (f"{MODEL}test_refreshes_and_revokes_are_as_the_model_says",),
)

FORGETS = Mutant(
    "server that forgets attempts as it starts",
    (
        Change(
            "app.py",
            "        self._jobs.start()\n",
            """\
        self._jobs.start()
        await self.database.run_statement(
            lambda tx: tx.attempts._connection.execute(
                "UPDATE challenges SET attempts = 0, attempts_by_email = 0"
            )
        )
""",
        ),
    ),
    (f"{RESTARTS}test_nothing_comes_back_after_a_kill",),
)

NOT_HERE = Mutant(
    "revoke that its own cache is not told of",
    (Change("login/revoke.py", "    ctx.tell_cache(ended.change)\n", "    pass\n"),),
    (REVOCATION,),
)

NOT_ELSEWHERE = Mutant(
    "changes that are read and not applied",
    (Change("jobs/change_poller.py", "self._sink.apply(change)", "pass"),),
    (REVOCATION, "tests/races/test_late_replicas.py::test_a_server_that_was_stopped"),
)

OLD_CODES = Mutant(
    "code to an address that is the user's no more",
    (
        Change(
            "login/addresses.py",
            "await tx.challenges.end_all(keys.subject_key(account_key_of(user.email)))",
            "pass",
        ),
        Change(
            VERIFY_PY,
            "if ctx.keys.subject_key(account_key_of(user.email)) != subject_key:",
            "if False:",
        ),
    ),
    (f"{ADDRESSES}test_codes_to_the_old_address_are_worth_nothing",),
)

MAILED_ON = Mutant(
    "code mailed to an address that it does not prove",
    (Change("jobs/mail_dispatcher.py", "if subject_key != source.subject_key:", "if False:"),),
    (f"{ADDRESSES}test_a_code_goes_to_the_address_that_it_proves",),
)

ANYBODYS_CHANGE = Mutant(
    "change of address that anybody's session confirms",
    (
        Change(
            "storage/email_changes.py",
            "        WHERE slot = $1 AND user_id = $2 AND id = $3\n"
            "          AND old_email IS NULL AND expire_time > now()\n"
            '    """\n\n    async def find',
            "        WHERE $1::smallint >= 0 AND $2::uuid IS NOT NULL AND id = $3\n"
            "          AND old_email IS NULL AND expire_time > now()\n"
            '    """\n\n    async def find',
        ),
    ),
    (f"{ADDRESSES}test_it_is_the_users_own_change",),
)

MUTANTS = (
    NO_CONSUME_TIME,
    COUNT_AFTER_COMPARE,
    SELECT_THEN_UPDATE,
    CLEARED_BY_SUCCESS,
    PER_CHALLENGE,
    RAW_ADDRESS,
    ROLLED_BACK,
    CHARGES_TWICE,
    LANE_CLOSES_THE_OTHER,
    NO_ATTEMPTS_MAX,
    NO_ATTEMPTS_BY_EMAIL_MAX,
    LOST_RACE,
    SPELLING,
    WHOLE_IPV6,
    NO_MONTH,
    NO_ROW,
    EXPIRED,
    ONE_CODE,
    COMMIT_TAKEN_FOR_DONE,
    COUNTED_UNLOCKED,
    FORGETS,
    NOT_HERE,
    NOT_ELSEWHERE,
    OLD_CODES,
    MAILED_ON,
    ANYBODYS_CHANGE,
)
