"""Change tokens: what was minted is read back, and nothing else."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.crypto.test_crypto_tokens import mutants
from watchword.crypto import DeviceTimes, KeyRing, KnownChange, KnownKind, new_user_id
from watchword.transport.fields import TOKEN_MAX_BYTES

INDEX_KEY = b"\x03" * 32
RING = KeyRing([(1, b"\x01" * 32)], INDEX_KEY)
CHANGE = KnownChange(KnownKind.USER, new_user_id(), epoch=3, version=41)
TOKEN = RING.mint_change_token([CHANGE])


def test_a_minted_token_is_read_back() -> None:
    """Also after the ring has rotated; the longest is within what a request may hold."""
    rotated = KeyRing([(2, b"\x02" * 32)], INDEX_KEY)
    for number in range(1, 6):
        token = RING.mint_change_token([CHANGE] * number)
        assert token.startswith("wwc_")
        assert len(token) <= TOKEN_MAX_BYTES
        assert rotated.parse_change_token(token) == [CHANGE] * number


@pytest.mark.parametrize("number", [0, 6])
def test_a_token_has_one_to_five_changes(number: int) -> None:
    """Anything else is a program's mistake."""
    with pytest.raises(ValueError, match="1 to 5 changes"):
        RING.mint_change_token([CHANGE] * number)


def test_no_token_is_read_elsewhere() -> None:
    """Neither by another installation nor as another kind of token, nor another kind as one."""
    other = KeyRing([(1, b"\x01" * 32)], b"\x04" * 32)
    assert other.parse_change_token(TOKEN) is None
    assert RING.parse_service_key(TOKEN) is None
    assert RING.parse_session_token(TOKEN) is None
    device = RING.mint_device_token(b"\x07" * 32, DeviceTimes(1, 2)).reveal()
    for token in (device, "wwc_" + device[4:], RING.mint_service_key().reveal()):
        assert RING.parse_change_token(token) is None


def test_no_mutant_is_read() -> None:
    """Every mutant of one bit, symbol, case, padding or length, and every flipped bit below."""
    assert not any(RING.parse_change_token(mutant) for mutant in dict.fromkeys(mutants(TOKEN)))
    raw = base64.urlsafe_b64decode(TOKEN[4:] + "=" * (-len(TOKEN[4:]) % 4))
    for bit in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        text = base64.urlsafe_b64encode(flipped).rstrip(b"=").decode()
        assert RING.parse_change_token("wwc_" + text) is None


@given(st.text(st.characters(exclude_categories=()), max_size=300))
def test_any_text_is_answered(text: str) -> None:
    """No text, lone surrogates included, does anything but be refused."""
    assert RING.parse_change_token(text) is None
