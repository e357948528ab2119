"""Language tags: which are well-formed (RFC 5646), and which one a mail is written in (RFC 4647).

The languages are the folders of `templates/`; this module finds them and names none but the last
resort, English.
"""

import re
from collections.abc import Collection
from functools import cache
from importlib.resources import files
from typing import Final

FALLBACK: Final = "en"

# RFC 5646 section 4.4.1: the longest tag of language, script, region and variants that a program
# has to expect. It also bounds the work of the expression below.
TAG_CHARACTERS_MAX: Final = 35

# `Language-Tag` of RFC 5646 section 2.1, in the order of its ABNF. Left out are the 26
# grandfathered tags: no new ones can be registered, nearly all have a modern spelling, and
# the irregular ones among them ("i-klingon") fit no grammar.
_TAG: Final = re.compile(
    r"""
    (?:
        (?: [a-z]{2,3} (?: -[a-z]{3} ){0,3}           # language, at most three extlangs
          | [a-z]{4,8} )                              # reserved and registered languages
        (?: -[a-z]{4} )?                              # script
        (?: -(?: [a-z]{2} | [0-9]{3} ) )?             # region
        (?: -(?: [a-z0-9]{5,8} | [0-9][a-z0-9]{3} ) )*    # variants
        (?: -[0-9a-wy-z] (?: -[a-z0-9]{2,8} )+ )*     # extensions: any singleton but x
        (?: -x (?: -[a-z0-9]{1,8} )+ )?               # private use
    |
        x (?: -[a-z0-9]{1,8} )+                       # private use alone
    )
    """,
    # ASCII, because without it U+017F (long s) and U+212A (Kelvin) match [a-z] in either case.
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)


def malformed(tag: str) -> bool:
    """Tells whether a text is no language tag at all; an unknown language is not malformed."""
    return len(tag) > TAG_CHARACTERS_MAX or _TAG.fullmatch(tag) is None


@cache
def available() -> frozenset[str]:
    """The languages that mails can be written in: the folders of `templates/`."""
    folders = files("watchword.mail").joinpath("templates").iterdir()
    return frozenset(folder.name for folder in folders if folder.is_dir())


def negotiate(requested: str | None, stored: str | None, available: Collection[str]) -> str:
    """Picks the language of a mail: the request's, else the one stored, else English.

    Each is looked up by RFC 4647 section 3.4: "de-Latn-CH" finds "de-Latn-CH", then "de-Latn",
    then "de". A missing, empty or malformed tag finds nothing and raises nothing. The answer is
    spelt as in `available`.
    """
    names = {name.lower(): name for name in available}
    for tag in (requested, stored):
        if tag and not malformed(tag):
            found = _look_up(tag.lower(), names)
            if found is not None:
                return found
    return FALLBACK


def _look_up(tag: str, names: dict[str, str]) -> str | None:
    subtags = tag.split("-")
    while subtags:
        found = names.get("-".join(subtags))
        if found is not None:
            return found
        subtags.pop()
        # A single letter only introduces what followed it ("-x-", "-u-") and goes with it.
        if subtags and len(subtags[-1]) == 1:
            subtags.pop()
    return None
