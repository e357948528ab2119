"""What `make races` shows: how often each row of the list of attacks is tried, and what is allowed.

The ordinary tests try a fiftieth of it. A row that is raced at each isolation level stands here
once for each.
"""

from dataclasses import dataclass
from typing import get_args

from watchword.storage.pool import Isolation

LEVELS: tuple[Isolation, ...] = get_args(Isolation)
ORDINARY_SHARE = 50


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `worst` is the most that was seen of `counted` in any trial."""

    name: str
    trial: str
    counted: str
    trials: int
    allowed: int

    @property
    def ordinary_trials(self) -> int:
        """What the ordinary tests try."""
        return max(1, self.trials // ORDINARY_SHARE)


def at(name: str, level: Isolation) -> str:
    """Returns the name of a row at an isolation level."""
    return f"{name}, {level.replace('_', ' ')}"


def _at_each_level(name: str, trial: str, counted: str, trials: int, allowed: int) -> list[Row]:
    return [Row(at(name, level), trial, counted, trials, allowed) for level in LEVELS]


_ALL = [
    *_at_each_level("1", "64 right codes at once", "sessions of one code", 1_000, 1),
    *_at_each_level("2 by id", "200 wrong codes at once", "compared", 1_000, 5),
    *_at_each_level("2 by e-mail", "200 wrong codes at once", "compared", 1_000, 3),
    Row("3", "right and wrong codes and resends, by chance", "not as the model says", 10_000, 0),
    Row("4 in 24 hours", "bursts over a subject's challenges", "compared", 100, 10),
    Row("4 in 30 days", "bursts, hours or days apart", "compared", 1_200, 50),
    Row("4 in a row", "bursts, hours or days apart", "compared", 1_200, 100),
    Row("4 again", "resend, restart, client, form, keys", "compared after the tenth", 50, 0),
    Row(
        "5",
        "a wrong code for each of as many accounts",
        "ms until the last codes are longer",
        10_000,
        1_000,
    ),
    Row("6, known device", "victims of an attack that never stops", "locked out", 100, 0),
    Row("6, others", "victims of an attack that never stops", "locked out", 100, 0),
    Row("7", "a used, an expired and an ended code, replayed", "accepted", 1_000, 0),
    Row("8", "a code on another's challenge or address", "accepted", 100_000, 0),
    Row("16", "addresses of one /64", "mails asked for within the hour", 10_000, 30),
    Row("17 at once", "calls for one mailbox by 1,000 clients", "mails", 10_000, 1),
    Row("17 in an hour", "calls for one mailbox by 1,000 clients", "mails", 10_000, 5),
    Row("18", "6,000 calls at once on one key", "let through", 100, 15),
    Row("27", "a miss whose session is revoked after its read", "accepted afterwards", 10_000, 0),
    Row("29", "steps of people whose commits fail", "not as answered or stored", 12_000, 0),
    Row("31, new tokens", "32 refreshes of one token at once", "tokens that follow it", 1_000, 1),
    Row("31, honest", "32 that lose answers and ask again", "signed out", 1_000, 0),
    Row("31, copied", "an older token, refreshed", "tokens that are good afterwards", 1_000, 0),
    Row("31, revoked", "a revoke among 32 refreshes", "tokens that are good afterwards", 1_000, 0),
    Row("31, model", "32 callers who refresh and revoke", "not as the model says", 5_000, 0),
    Row("32", "SIGKILL of every server", "accepted or reset", 100, 0),
    Row("R7, same replica", "10 checks after a revoke under load", "accepted", 10_000, 0),
    Row(
        "R7, other replicas",
        "checks without end after a revoke under load",
        "ms until the last that is accepted",
        10_000,
        1_000,
    ),
]
ROWS = {row.name: row for row in _ALL}
