"""How the secrets of an installation are written."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.callers.model import Scope
from watchword.callers.registry import parse_caller_keys
from watchword.keyring import SecretsSettings, caller_entry, generate_secrets, parse_ring

KEY = bytes([0xFB, 0xEF, 0xBE] * 10 + [0xFF, 0xFE])
STANDARD = base64.b64encode(KEY).decode()
URL_SAFE = base64.urlsafe_b64encode(KEY).decode()
CANARY = "CANARY"


@pytest.mark.parametrize("text", [STANDARD, URL_SAFE, STANDARD.rstrip("="), URL_SAFE.rstrip("=")])
def test_both_alphabets_are_read_with_and_without_padding(text: str) -> None:
    """What `openssl rand -base64 32` and a URL-safe generator print is the same key."""
    assert STANDARD != URL_SAFE
    assert parse_ring(f"1:{text}") == [(1, KEY)]
    assert parse_ring(f" 255:{text} ") == [(255, KEY)]


def test_the_order_of_the_ring_stays() -> None:
    """The first key signs."""
    other = base64.b64encode(bytes(32)).decode()
    assert parse_ring(f"7:{STANDARD},3:{other}") == [(7, KEY), (3, bytes(32))]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("", "must be `id:base64"),
        (STANDARD, "must be `id:base64"),
        (f":{STANDARD}", "must be `id:base64"),
        (f"-1:{STANDARD}", "must be `id:base64"),
        (f"x:{STANDARD}", "must be `id:base64"),
        (f"²:{STANDARD}", "must be `id:base64"),
        (f"١:{STANDARD}", "must be `id:base64"),
        (f"0001:{STANDARD}", "must be `id:base64"),
        (f"0:{STANDARD}", "id of 1 to 255"),
        (f"256:{STANDARD}", "id of 1 to 255"),
        (f"1:{STANDARD}", "repeats the id"),
        (f"01:{STANDARD}", "repeats the id"),
        (f"2:{STANDARD}", "repeats an earlier key"),
        (f"2:{URL_SAFE}", "repeats an earlier key"),
        (f"2:{CANARY}", "must be base64 of 32 bytes"),
        ("2:", "must be base64 of 32 bytes"),
        (f"2:{base64.b64encode(bytes(31)).decode()}", "must be base64 of 32 bytes"),
        (f"2:{base64.b64encode(bytes(33)).decode()}", "must be base64 of 32 bytes"),
        (f"2:{STANDARD[:20]} {STANDARD[20:]}", "must be base64 of 32 bytes"),
        (f"2:{STANDARD}=", "must be base64 of 32 bytes"),
        (f"2:{STANDARD}:{CANARY}", "must be base64 of 32 bytes"),
        (f"2:{CANARY * 7}!", "must be base64 of 32 bytes"),
    ],
)
def test_a_wrong_entry_is_named_by_its_number_never_by_its_text(entry: str, says: str) -> None:
    """Ids are 1 to 255, each once, keys 32 bytes (the guard for rotation: ids are never reused)."""
    with pytest.raises(ValueError, match=f"entry 2 .*{says}") as caught:
        parse_ring(f"1:{STANDARD},{entry}")
    for secret in (CANARY, STANDARD[:20]):
        assert secret not in str(caught.value)


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_other_text_is_refused_and_not_echoed(text: str) -> None:
    """No text makes the parser fail in another way."""
    try:
        ring = parse_ring(text)
    except ValueError as error:
        assert len(text) < 8 or text not in str(error)
    else:
        assert all(1 <= key_id <= 255 and len(key) == 32 for key_id, key in ring)


def test_settings_show_no_key() -> None:
    """Neither repr nor str, and a wrong one is not in its error."""
    settings = SecretsSettings.model_validate({"keys": f"1:{STANDARD}", "index_key": URL_SAFE})
    for shown in (repr(settings), str(settings), str(settings.model_dump())):
        assert STANDARD not in shown
        assert URL_SAFE not in shown
    with pytest.raises(ValueError, match="32 bytes") as caught:
        SecretsSettings.model_validate({"keys": f"1:{CANARY}", "index_key": CANARY})
    assert CANARY not in str(caught.value)


def test_generated_secrets_are_new_each_time_and_fit_together() -> None:
    """The ring, the index key, and one caller with every scope whose key the index key made."""
    made, again = generate_secrets(), generate_secrets()
    assert not set(made.values()) & set(again.values())
    settings = SecretsSettings.model_validate(
        {"keys": made["WATCHWORD_SECRETS__KEYS"], "index_key": made["WATCHWORD_SECRETS__INDEX_KEY"]}
    )
    (caller,) = parse_caller_keys(made["WATCHWORD_CALLERS__KEYS"])
    assert caller.scopes == set(Scope)
    assert settings.key_ring().parse_service_key(caller.key.reveal()) is not None


def test_a_further_caller_is_an_entry() -> None:
    """`caller_entry` writes what `parse_caller_keys` reads."""
    made = generate_secrets()
    keys = SecretsSettings.model_validate(
        {"keys": made["WATCHWORD_SECRETS__KEYS"], "index_key": made["WATCHWORD_SECRETS__INDEX_KEY"]}
    ).key_ring()
    (caller,) = parse_caller_keys(caller_entry(keys, "edge", [Scope.VALIDATE]))
    assert (caller.name, caller.scopes) == ("edge", {Scope.VALIDATE})
