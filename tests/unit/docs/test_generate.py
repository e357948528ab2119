"""The generated pages: complete, current, and made from comments that say what they must."""

import pytest

from docs.generate import DOCS, PROTO, configuration_page, errors_page, explanations
from watchword.config import PREFIX, RESERVED
from watchword.errors import Reason
from watchword.reference import settings
from watchword.transport.errors import CODES

PROTO_TEXT = PROTO.read_text()


def test_the_pages_are_current() -> None:
    """`make docs` would change nothing."""
    assert (DOCS / "configuration.md").read_text() == configuration_page()
    assert (DOCS / "errors.md").read_text() == errors_page(PROTO_TEXT)


def test_every_setting_is_described() -> None:
    """Variable, default and meaning in a row of three cells; reserved names are listed as such."""
    page = configuration_page()
    for setting in settings():
        (row,) = (line for line in page.splitlines() if f"| `{PREFIX}{setting.variable}` " in line)
        assert setting.meaning
        assert setting.meaning in row
        assert row.count(" | ") == 2
        assert setting.secret == ("**secret**" in row)
    after = page.partition("without effect yet")[2]
    assert all(f"`{PREFIX}{name}`" in after for name in RESERVED)


def test_every_reason_is_explained() -> None:
    """Code, when, what to do and an example."""
    explained = explanations(PROTO_TEXT)
    assert list(explained) == list(Reason)
    for reason, parts in explained.items():
        assert parts.code == CODES[reason].name
        assert all(parts)


@pytest.mark.parametrize(
    ("was", "becomes", "words"),
    [
        ("// NOT_FOUND. No", "// UNKNOWN. No", "USER_NOT_FOUND is NOT_FOUND"),
        ("// Do: forget the token", "// forget the token", "SESSION_INVALID needs three"),
        ("ERROR_REASON_INTERNAL = 14", "ERROR_REASON_INTERNAL= 14", "no comment for INTERNAL"),
    ],
)
def test_a_comment_that_lacks_something_is_refused(was: str, becomes: str, words: str) -> None:
    """The page can't say something else than the server does."""
    assert was in PROTO_TEXT
    with pytest.raises(SystemExit, match=words):
        explanations(PROTO_TEXT.replace(was, becomes))
