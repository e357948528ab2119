"""Bugs of addresses: whose they are, and what a code proves."""

from tests.mutants.model import VERIFY_PY, Change, Mutant

ADDRESSES = "tests/rpc/test_email_change.py::"

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
    OLD_CODES,
    MAILED_ON,
    ANYBODYS_CHANGE,
)
