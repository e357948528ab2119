"""What a guesser can expect, from the constants of the code; `make docs` puts it into limits.md.

Chances are n * p, for n codes compared with a chance of p = 10^-digits each. That is an upper bound
whatever the guesser does, and exact for different guesses at one code; 1 - (1 - p)^n is smaller by
a share of about n * p / 2. Expected numbers are n * p exactly.
"""

import math
from datetime import timedelta
from fractions import Fraction
from typing import NamedTuple

from watchword.limits.model import Rate, parse_rate
from watchword.limits.policy import LimitsPolicy
from watchword.otp.level import CALM_TIME
from watchword.otp.policy import (
    ATTEMPTS_BY_EMAIL_MAX,
    DAY,
    FAILURE_BUDGET,
    IN_A_ROW_KEPT,
    LONG_CODE_FORM,
    MONTH,
    NEWEST_BY_EMAIL,
    FailureBudget,
    OtpPolicy,
)

BEGIN = "<!-- arithmetic: made by make docs -->"
END = "<!-- /arithmetic -->"

OTP = OtpPolicy()
LIMITS = LimitsPolicy()

# A code that was mailed before the level rose keeps one attempt in each of the two lanes.
ATTEMPTS_AFTER_RISE = 2
LONG_CODE_BITS = 5 * LONG_CODE_FORM

YEAR_DAYS = 365
DAY_SECONDS = DAY // timedelta(seconds=1)
DAY_MINUTES = DAY // timedelta(minutes=1)
LENGTHS = (6, 8, 10)
ACCOUNTS = 10**6
CLIENTS = (1, 1_000, 10**6)


class Spray(NamedTuple):
    """Takeovers to expect a day over ACCOUNTS when so many codes a second are asked for.

    `clients` is how many client addresses the limits of calls demand for the first day,
    `clients_in_turns` for the last strategy, which asks during the life of a code alone.
    """

    mails_per_second: int
    clients: int
    first_day: Fraction
    month_mean: Fraction
    below: Fraction
    above: Fraction
    in_turns: Fraction
    clients_in_turns: int


def half(budget: FailureBudget) -> FailureBudget:
    """Returns the share of the lane by e-mail."""
    return FailureBudget(
        in_day=budget.in_day // 2, in_month=budget.in_month // 2, in_a_row=budget.in_a_row // 2
    )


def compared(days: int, budget: FailureBudget, *, owner_signs_in: bool) -> int:
    """Returns how many codes of one account are compared if each unit is taken when it is there.

    Windows are whole days and so is time here. An owner who signs in ends the count in a row before
    it binds; without one it stands until the budget is forgotten.
    """
    by_day: list[int] = []
    in_a_row = 0
    for _ in range(days):
        if not any(by_day[-IN_A_ROW_KEPT.days :]):
            in_a_row = 0
        room = min(budget.in_day, budget.in_month - sum(by_day[-(MONTH.days - 1) :]))
        if not owner_signs_in:
            room = min(room, budget.in_a_row - in_a_row)
        by_day.append(room)
        in_a_row += room
    return sum(by_day)


def sprayed(mails: int, *, room: int) -> int:
    """Returns how many codes are compared for `mails` challenges, spread evenly over ACCOUNTS.

    `room` is what the budget of each account allows, half of it by e-mail.
    """
    each, more = divmod(mails, ACCOUNTS)
    return (ACCOUNTS - more) * _of_account(each, room) + more * _of_account(each + 1, room)


def _of_account(mails: int, room: int) -> int:
    by_email = min(room // 2, mails * ATTEMPTS_BY_EMAIL_MAX)
    return min(room, mails * OTP.attempts_max + by_email)


def spray(mails_per_second: int) -> Spray:
    """Returns what the guesser of one line of the second table can expect."""
    short, eight = chance(OTP.code_length), chance(max(8, OTP.code_length))
    mails = mails_per_second * DAY_SECONDS
    first_day = sprayed(mails, room=FAILURE_BUDGET.in_day)
    month = sprayed(mails * MONTH.days, room=FAILURE_BUDGET.in_month)
    mean = Fraction(month, MONTH.days)
    unnoticed = min(OTP.eight_digits_per_day - 1, (OTP.eight_digits_per_minute - 1) * DAY_MINUTES)
    below = min(mean, Fraction(unnoticed))
    above = min(mean, Fraction((OTP.long_codes_per_minute - 1) * DAY_MINUTES))
    live = mails_per_second * (OTP.lifetime // timedelta(seconds=1))
    in_turn = (OTP.eight_digits_per_day + ATTEMPTS_AFTER_RISE * live) * ratio(DAY, DAY + CALM_TIME)
    return Spray(
        mails_per_second,
        clients_needed(mails_per_second, first_day),
        first_day * short,
        mean * short,
        below * short,
        above * eight,
        min(mean, in_turn) * short,
        math.ceil(live / asked_in_a_life()),
    )


def clients_needed(mails_per_second: int, first_day: int) -> int:
    """Returns how many client addresses can ask for so many codes and fail so often."""
    asking = mails_per_second * DAY_SECONDS / per_day(LIMITS.client_sends)
    return math.ceil(max(asking, first_day / per_day(LIMITS.client_failures)))


def asked_in_a_life() -> int:
    """Returns how many codes one client can ask for during the life of one, after a rest."""
    rate = parse_rate(LIMITS.client_sends)
    assert rate is not None
    window = rate.window()
    lifetime_us = OTP.lifetime // timedelta.resolution
    return (window.slack_us + lifetime_us) // window.step_us + 1


def long_code_takeovers(clients: int) -> Fraction:
    """Returns how many takeovers a year to expect from guesses at codes of 13 characters.

    Nothing but the limit of calls is in the way; a call by e-mail compares the newest codes.
    """
    calls = clients * per_day(LIMITS.long_code_failures) * YEAR_DAYS
    return calls * NEWEST_BY_EMAIL * Fraction(1, 2**LONG_CODE_BITS)


def per_day(rate: str) -> Fraction:
    """Returns how many units of a rate fit into a day, in the long run."""
    parsed = parse_rate(rate)
    assert isinstance(parsed, Rate)
    return parsed.count * ratio(DAY, parsed.period)


def ratio(period: timedelta, other: timedelta) -> Fraction:
    """Returns how often the other period fits into the first."""
    return Fraction(period // timedelta.resolution, other // timedelta.resolution)


def chance(digits: int) -> Fraction:
    """Returns the chance that one guess is the code."""
    return Fraction(1, 10**digits)


def odds(expected: Fraction) -> str:
    """Writes a chance as `1 in N`, N with three digits that count."""
    one_in = 1 / expected
    unit = 10 ** max(0, len(str(int(one_in))) - 3)
    return f"1 in {round(one_in / unit) * unit:,}"


def number(expected: Fraction) -> str:
    """Writes an expected number with two digits that count."""
    places = max(0, 1 - math.floor(math.log10(expected)))
    text = f"{float(expected):.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def tables() -> str:
    """Returns the tables of limits.md, between its markers."""
    return "\n\n".join((_account_table(), _spray_table(), _long_code_table()))


def _account_table() -> str:
    lines = _head("one account", "codes compared", *(f"{digits} digits" for digits in LENGTHS))
    for lane, budget in (("", FAILURE_BUDGET), (", by `email` alone", half(FAILURE_BUDGET))):
        often = {
            days: compared(days, budget, owner_signs_in=True) for days in (1, MONTH.days, YEAR_DAYS)
        }
        for span, units in (
            ("any 24 hours", often[1]),
            (f"any {MONTH.days} days", often[MONTH.days]),
            (f"any {YEAR_DAYS} days, the owner signs in now and then", often[YEAR_DAYS]),
            ("in a row, nobody signs in", budget.in_a_row),
        ):
            chances = (odds(units * chance(digits)) for digits in LENGTHS)
            lines.append(_row(f"{span}{lane}", f"{units:,}", *chances))
    return "\n".join(lines)


def _spray_table() -> str:
    lines = _head(
        f"{ACCOUNTS:,} accounts: codes asked for",
        "clients needed",
        "no level, first day",
        f"no level, mean of {MONTH.days} days",
        "stays below",
        "stays above",
        "lets it fall",
        "clients for that",
    )
    most = int(per_day(LIMITS.installation_mails) / DAY_SECONDS)
    for rate in (1, 10, most, 10 * most):
        row = spray(rate)
        takeovers = (row.first_day, row.month_mean, row.below, row.above, row.in_turns)
        lines.append(
            _row(
                f"{rate:,}/s",
                f"{row.clients:,}",
                *(number(expected) for expected in takeovers),
                f"{row.clients_in_turns:,}",
            )
        )
    return "\n".join(lines)


def _long_code_table() -> str:
    lines = _head("13 characters: clients", "codes compared an hour", "a takeover in a year")
    for clients in CLIENTS:
        hourly = clients * per_day(LIMITS.long_code_failures) / 24 * NEWEST_BY_EMAIL
        lines.append(_row(f"{clients:,}", f"{int(hourly):,}", odds(long_code_takeovers(clients))))
    return "\n".join(lines)


def _head(*names: str) -> list[str]:
    return [_row(*names), "|" + "---|" * len(names)]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def with_tables(page: str) -> str:
    """Returns the page with its tables made anew; ValueError unless each marker is there once."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"docs/limits.md must hold `{BEGIN}` and then `{END}`, once each")
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"
