"""Bugs of sessions: what ends them is lost, counted wrongly, or not told to the caches."""

from tests.mutants.model import Change, Mutant

COMMITS = "tests/races/test_faulty_commits.py::"
MODEL = "tests/races/test_refresh_and_revoke_model.py::"
REVOCATION = "tests/races/test_revocation.py::test_a_revoke_is_seen_in_time"

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

MUTANTS = (
    COMMIT_TAKEN_FOR_DONE,
    COUNTED_UNLOCKED,
    NOT_HERE,
    NOT_ELSEWHERE,
)
