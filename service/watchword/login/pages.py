"""Page tokens of listings: opaque, and worth nothing for another listing or other filters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from watchword.crypto import KeyRing
from watchword.errors import RequestInvalid, Violation

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page, and the token of the next one or nothing."""

    items: Sequence[T]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class Paging:
    """What a caller asks of a listing: how many, and from where on."""

    page_size: int
    page_token: str


def listing_of(name: str, *filters: object) -> bytes:
    """Names a listing with its filters, no two of which share a name."""
    parts = [name, *("" if it is None else str(it) for it in filters)]
    return b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)


def cursor_of(keys: KeyRing, listing: bytes, page_token: str) -> bytes | None:
    """Returns where a page begins, None for the first one; raises RequestInvalid."""
    if not page_token:
        return None
    cursor = keys.parse_page_token(listing, page_token)
    if cursor is None:
        what = "must be a `next_page_token` of this list"
        raise RequestInvalid([Violation("page_token", what)])
    return cursor


def page_of(
    keys: KeyRing, listing: bytes, found: Sequence[T], cursors: Sequence[bytes], *, page_size: int
) -> Page[T]:
    """Makes a page of one more than it has, which tells whether there is another page."""
    items = found[:page_size]
    if len(found) <= page_size:
        return Page(items, "")
    return Page(items, keys.mint_page_token(listing, cursors[page_size - 1]))
