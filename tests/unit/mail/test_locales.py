"""Language tags and the choice of a mail's language."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.mail.locales import TAG_CHARACTERS_MAX, available, malformed, negotiate

# The examples of RFC 5646, appendix A, and some more.
WELL_FORMED = [
    *("de", "fr", "ja", "DE", "en", "gsw", "qaa", "abcd", "abcdefgh"),
    *("zh-Hant", "zh-Hans", "sr-Cyrl", "sr-Latn", "zh-cmn-Hans-CN", "cmn-Hans-CN", "zh-yue-HK"),
    *("zh-Hans-CN", "sr-Latn-RS", "sl-rozaj", "sl-rozaj-biske", "sl-nedis", "de-CH-1901"),
    *("sl-IT-nedis", "hy-Latn-IT-arevela", "de-DE", "en-US", "es-419", "de-CH-x-phonebk"),
    *("az-Arab-x-AZE-derbend", "x-whatever", "qaa-Qaaa-QM-x-southern", "de-Qaaa", "sr-Qaaa-RS"),
    *("en-US-u-islamcal", "zh-CN-a-myext-x-private", "en-a-myext-b-another", "de-u-co-phonebk"),
    *("aa-bbb-ccc-ddd", "en-1abc", "de-x-1"),
    "abcdefgh-Latn-419-variant1-variant2",
]
MALFORMED = [
    *("", "a", "e1", "123", "-", "de-", "-de", "de--DE", "de_DE", "de DE", " de", "de ", "de\n"),
    *("de.UTF-8", "C", "*", "de-*", "en-US,de", "abcdefghi", "de-419-DE", "a-DE", "de-a", "de-x"),
    *("de-u-", "x", "x-", "ar-a-aaa-b-x", "de-Latn-Latn", "en-GB-U", "de-DE-DE", "i-klingon"),
    *(
        "aa-bbb-ccc-ddd-eee",
        "de-1ab",
        "de-abcdefghi",
        "\ufb01",
        "\u017fl",
        "\u212ao",
        "d\u0435",
        "en-\u0664\u0661\u0669",
    ),
    *("en\0", "en\r\nBcc: eve@evil.example", "../en", "en/../..", "\ud800"),
    "abcdefgh-Latn-419-variant1-variants2",
]


@pytest.mark.parametrize("tag", WELL_FORMED)
def test_well_formed_tags(tag: str) -> None:
    """Tags of the grammar of RFC 5646 are accepted, in any case and known or not."""
    assert not malformed(tag)
    assert not malformed(tag.upper())
    assert not malformed(tag.lower())


@pytest.mark.parametrize("tag", MALFORMED)
def test_malformed_tags(tag: str) -> None:
    """Everything else is refused: POSIX names, lists, letters that only look like ASCII."""
    assert malformed(tag)


def test_a_tag_has_at_most_35_characters() -> None:
    """The longest tag accepted has the length that RFC 5646 asks every program to expect."""
    longest = "de-x" + "-abcdefgh" * 3 + "-abc"
    assert len(longest) == TAG_CHARACTERS_MAX == 35
    assert not malformed(longest)
    assert malformed(longest + "d")


@settings(database=None)
@given(st.text(alphabet="aA1-x_ \u212a\u017f\n", max_size=40))
def test_any_text_is_judged_without_an_error(text: str) -> None:
    """A verdict comes for any text, and a tag that is accepted is ASCII in one line."""
    if not malformed(text):
        assert text.replace("-", "").isascii()
        assert text.replace("-", "").isalnum()


@pytest.mark.parametrize(
    ("requested", "stored", "folders", "chosen"),
    [
        (None, None, ["en", "de"], "en"),
        ("de", None, ["en", "de"], "de"),
        (None, "de", ["en", "de"], "de"),
        ("en", "de", ["en", "de"], "en"),
        ("fr", "de", ["en", "de"], "de"),
        ("fr", "it", ["en", "de"], "en"),
        ("", "de", ["en", "de"], "de"),
        ("de_DE", "de", ["en", "de"], "de"),
        ("de_DE", None, ["en", "de"], "en"),
        ("\r\n", "\0", ["en", "de"], "en"),
        ("de-AT", None, ["en", "de"], "de"),
        ("DE-at", None, ["en", "de"], "de"),
        ("de-at", None, ["en", "de", "de-AT"], "de-AT"),
        ("de-Latn-AT-1996", None, ["en", "de", "de-Latn"], "de-Latn"),
        ("zh-Hant-CN-x-private1", None, ["en", "zh-Hant"], "zh-Hant"),
        ("de-u-co-phonebk", None, ["en", "de", "de-u"], "de"),
        ("de", None, ["en", "de-AT"], "en"),
        ("den", None, ["en", "de"], "en"),
        ("x-de", None, ["en", "de"], "en"),
        ("de-AT", "fr", ["en", "fr"], "fr"),
    ],
)
def test_the_language_of_a_mail(
    requested: str | None, stored: str | None, folders: list[str], chosen: str
) -> None:
    """The request's language by RFC 4647 look-up, else the stored one, else English."""
    assert negotiate(requested, stored, folders) == chosen


@pytest.mark.parametrize(
    ("requested", "stored", "chosen"),
    [
        ("de", None, "de"),
        ("de-CH", None, "de"),
        ("DE", None, "de"),
        ("de-Latn-AT-1996", "en", "de"),
        ("tlh", "de-CH", "de"),
        ("tlh", "tlh", "en"),
        ("en-GB", "de", "en"),
        (None, None, "en"),
    ],
)
def test_the_languages_that_there_are(
    requested: str | None, stored: str | None, chosen: str
) -> None:
    """German for every German tag in any case; an unknown one goes by the stored, then English."""
    assert negotiate(requested, stored, available()) == chosen


def test_english_is_there() -> None:
    """The last resort exists, and a folder is a language only under a well-formed name."""
    assert "en" in available()
    assert not any(malformed(name) for name in available())
