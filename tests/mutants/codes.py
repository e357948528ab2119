"""Bugs of codes: spent twice, guessed without being counted, good for something else."""

from tests.mutants.model import ATTEMPTS_PY, VERIFY_PY, Change, Mutant

CODES = "tests/races/test_double_spend.py::"
SPEND_ONCE = "test_64_connections_to_three_processes_spend_a_code_once"
GUESSES = "tests/races/test_wrong_guesses.py::"
ORDERS = "tests/races/test_interleavings.py::"
REPLAYS = "tests/races/test_replays.py::"
RESTARTS = "tests/races/test_restarts.py::"
CODES_PY = "login/codes.py"

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

MUTANTS = (
    NO_CONSUME_TIME,
    COUNT_AFTER_COMPARE,
    ROLLED_BACK,
    CHARGES_TWICE,
    LANE_CLOSES_THE_OTHER,
    NO_ATTEMPTS_MAX,
    NO_ATTEMPTS_BY_EMAIL_MAX,
    LOST_RACE,
    EXPIRED,
    ONE_CODE,
    FORGETS,
)
