"""The guesser's arithmetic of docs/limits.md, computed here in other ways."""

from fractions import Fraction
from itertools import product
from math import ceil

import pytest

from docs import arithmetic
from docs.arithmetic import (
    BEGIN,
    END,
    clients_needed,
    compared,
    half,
    long_code_takeovers,
    number,
    odds,
    spray,
    sprayed,
    tables,
    with_tables,
)
from docs.generate import DOCS
from watchword.limits.policy import LimitsPolicy
from watchword.otp.policy import (
    ATTEMPTS_BY_EMAIL_MAX,
    FAILURE_BUDGET,
    NEWEST_BY_EMAIL,
    FailureBudget,
    OtpPolicy,
)

PAGE = (DOCS / "limits.md").read_text()


def test_the_page_is_current() -> None:
    """`make docs` would change nothing, and the tables stand between the markers."""
    assert with_tables(PAGE) == PAGE
    assert tables() in PAGE


def test_only_the_tables_are_made_anew() -> None:
    """What stands around the markers stays, whatever was between them."""
    assert with_tables(f"before\n{BEGIN}\nold\n{END}\nafter\n") == (
        f"before\n{BEGIN}\n\n{tables()}\n\n{END}\nafter\n"
    )


@pytest.mark.parametrize("page", ["", BEGIN, END, f"{END} {BEGIN}", f"{BEGIN} {END} {BEGIN} {END}"])
def test_a_page_without_its_markers_is_refused(page: str) -> None:
    """Nothing is written where it is not clear what would be overwritten."""
    with pytest.raises(ValueError, match=r"docs/limits\.md must hold"):
        with_tables(page)


def test_every_default_is_in_the_page() -> None:
    """Each rate and each number of the policies, beside its variable."""
    policy = LimitsPolicy()
    for name in LimitsPolicy.model_fields:
        default = getattr(policy, name)
        if name in ("dotless_domains", "domain_exempt", "enabled"):
            assert name.upper() in PAGE
        else:
            assert f"| `{name.upper()}` | `{default}` |" in PAGE
    for most in (FAILURE_BUDGET.in_day, FAILURE_BUDGET.in_month, FAILURE_BUDGET.in_a_row):
        assert f" | {most}, by `email` {most // 2} |" in PAGE
    assert f"on each challenge | {ATTEMPTS_BY_EMAIL_MAX} |" in PAGE
    assert f"is tried on | {NEWEST_BY_EMAIL}, the newest |" in PAGE
    otp = OtpPolicy()
    for name in OtpPolicy.model_fields.keys() - {"lifetime", "require_challenge_id"}:
        assert f"`{name.upper()}` | {getattr(otp, name)} |" in PAGE
    assert f"`LIFETIME` | {otp.lifetime.total_seconds() / 60:.0f} minutes |" in PAGE


@pytest.mark.parametrize("days", range(1, 9))
def test_nobody_compares_more_than_the_greedy_guesser(
    days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all ways to spend a small budget, 2 a day and 3 in any 4 days, none is better."""
    monkeypatch.setattr(arithmetic, "MONTH", arithmetic.DAY * 4)
    allowed = (
        sum(way)
        for way in product(range(3), repeat=days)
        if all(sum(way[day : day + 4]) <= 3 for day in range(days))
    )
    budget = FailureBudget(in_day=2, in_month=3, in_a_row=10**6)
    assert compared(days, budget, owner_signs_in=True) == max(allowed)


def test_a_year_is_13_bursts() -> None:
    """50 in 5 days, again each 30 days, of which 365 hold 13; by e-mail half of that."""
    assert compared(365, FAILURE_BUDGET, owner_signs_in=True) == 13 * 50
    assert compared(365, half(FAILURE_BUDGET), owner_signs_in=True) == 13 * 25
    assert compared(30, FAILURE_BUDGET, owner_signs_in=True) == 50


def test_without_the_owner_a_row_ends_the_guessing_until_it_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """100 by the 35th day and no more within a year; it would be 10 more if a month were enough."""
    so_far = [compared(days, FAILURE_BUDGET, owner_signs_in=False) for days in (34, 35, 399, 401)]
    assert so_far == [90, 100, 100, 110]
    monkeypatch.setattr(arithmetic, "IN_A_ROW_KEPT", arithmetic.MONTH)
    assert compared(66, FAILURE_BUDGET, owner_signs_in=False) == 110


def test_the_chance_is_the_one_of_a_simulated_guesser() -> None:
    """Of all 1,000 codes of 3 digits, 5 different guesses find 5: n * p, no less."""
    guesses = {7, 77, 177, 277, 777}
    found = Fraction(sum(code in guesses for code in range(1000)), 1000)
    assert found == len(guesses) * arithmetic.chance(3)
    assert 1 - (1 - arithmetic.chance(3)) ** 5 < found
    assert odds(Fraction(650, 10**6)) == "1 in 1,540"


@pytest.mark.parametrize("attempts", [1, 5])
@pytest.mark.parametrize("mails", [0, 1, 700, 1000, 1300, 2000, 9000])
def test_spraying_is_what_accounts_one_by_one_allow(
    mails: int, attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each mail is worth 5 by id and 3 by e-mail until its account has had 10, or 5 by e-mail.

    With 1 by id instead the half of the lane by e-mail is what binds.
    """
    monkeypatch.setattr(arithmetic, "ACCOUNTS", 1000)
    monkeypatch.setattr(arithmetic, "OTP", OtpPolicy(attempts_max=attempts))
    by_id, by_email = [0] * 1000, [0] * 1000
    for mail in range(mails):
        account = mail % 1000
        by_id[account] += min(attempts, 10 - by_id[account] - by_email[account])
        room = min(5 - by_email[account], 10 - by_id[account] - by_email[account])
        by_email[account] += min(3, room)
    assert sprayed(mails, room=10) == sum(by_id) + sum(by_email)


def test_takeovers_by_hand() -> None:
    """One line of the second table, in decimal fractions; the others follow the same formula."""
    row = spray(100)
    assert float(row.first_day) == pytest.approx(10**6 * 10 * 1e-6)
    assert float(row.month_mean) == pytest.approx(10**6 * 50 / 30 * 1e-6)
    assert float(row.below) == pytest.approx(1999 * 1e-6)
    assert float(row.above) == pytest.approx(599 * 60 * 24 * 1e-8)
    assert float(row.in_turns) == pytest.approx((2000 + 2 * 300 * 100) * 24 / 30 * 1e-6)
    # 100/s are 360,000 an hour, at 30 each; 15 at once and one after 225 s in a life of 300 s.
    assert row.clients == ceil(360_000 / 30)
    assert row.clients_in_turns == 30_000 / 16
    # Little is asked for here, so the failed calls of the first day decide: 60 an hour each.
    assert clients_needed(1, 86_400 * 8) == 86_400 * 8 / 24 / 60


def test_long_codes_by_hand() -> None:
    """60 calls an hour and client, 3 codes each, for a year, at 1 in 2^65."""
    assert float(long_code_takeovers(1000)) == pytest.approx(1000 * 180 * 24 * 365 / 2**65)


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (Fraction(10), "10"),
        (Fraction(5, 3), "1.7"),
        (Fraction(1999, 10**6), "0.002"),
        (Fraction(120), "120"),
    ],
)
def test_two_digits_count(expected: Fraction, text: str) -> None:
    """More would promise what the assumptions do not hold."""
    assert number(expected) == text
