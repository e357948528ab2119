"""Key rings, codes and ids through the Python face: arguments, forms, edges."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchword.crypto import (
    CodeSource,
    KeyRing,
    PresentedCode,
    Secret,
    jitter_seconds,
    new_id,
    new_nonce,
    new_user_id,
    parse_code,
    random_key,
    shuffled,
    slot_of,
    slot_of_subject,
)

A, B = b"\x01" * 32, b"\x02" * 32
RING = KeyRing([(1, A), (2, B)], A)


def source(*, key_id: int = 1, purpose: str = "login", nonce: bytes = bytes(16)) -> CodeSource:
    return CodeSource(key_id, purpose, UUID(int=5), bytes(32), nonce)


@pytest.mark.parametrize(
    ("keys", "index_key", "message"),
    [
        ([], A, "holds no key"),
        ([(0, A)], A, "1..255"),
        ([(256, A)], A, "1..255"),
        ([(-1, A)], A, "1..255"),
        ([(1, A), (1, B)], A, "key id 1 twice"),
        ([(1, A), (2, B), (3, A)], A, "key of id 3 under another id"),
        ([(1, A[:31])], A, "32 bytes"),
        ([(1, A + A)], A, "32 bytes"),
        ([(1, A)], b"", "32 bytes"),
    ],
)
def test_bad_rings_are_refused(
    keys: list[tuple[int, bytes]], index_key: bytes, message: str
) -> None:
    """A ring that cannot be meant is a ValueError that says why and shows no key."""
    with pytest.raises(ValueError, match=message) as caught:
        KeyRing(keys, index_key)
    assert "\\x01" not in str(caught.value)
    assert "0101" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (source(nonce=bytes(15)), "`nonce` must be 16 bytes"),
        (source(nonce=bytes(17)), "`nonce` must be 16 bytes"),
        (CodeSource(1, "login", UUID(int=5), bytes(31), bytes(16)), "`subject_key` must be 32"),
        (source(key_id=0), "key id 0"),
        (source(key_id=3), "key id 3"),
        (source(key_id=256), "1..255"),
    ],
)
def test_bad_sources_are_refused(wrong: CodeSource, message: str) -> None:
    """Fields of the wrong length and unknown keys are ValueErrors where a code is derived."""
    with pytest.raises(ValueError, match=message):
        RING.derive_code(wrong, length=6)


def test_bad_candidates_are_refused() -> None:
    """A candidate with a field of the wrong length is a program's mistake, also in a check."""
    presented = PresentedCode(6, Secret("123456"))
    with pytest.raises(ValueError, match="`nonce` must be 16 bytes"):
        RING.check_code(presented, [source(), source(nonce=b"")])


@pytest.mark.parametrize("length", [-1, 0, 5, 11, 12, 14, 256])
def test_bad_lengths_are_refused(length: int) -> None:
    """Codes have 6 to 10 digits, or 13 characters."""
    with pytest.raises(ValueError, match="6 to 10 digits"):
        RING.derive_code(source(), length=length)


def test_an_unknown_key_never_matches() -> None:
    """A candidate of a key that has left the ring is passed over, not an error."""
    code = RING.derive_code(source(), length=6).reveal()
    presented = parse_code(code)
    assert presented is not None
    assert RING.check_code(presented, [source(key_id=9)]) is None
    assert RING.check_code(presented, [source(key_id=9), source()]) == 1
    assert RING.check_code(presented, []) is None


def test_a_code_of_another_form_matches_nothing() -> None:
    """A longer code is not compared by its beginning, and a base32 code not as digits."""
    digits = RING.derive_code(source(), length=10).reveal()
    for length in range(6, 10):
        shorter = PresentedCode(length, Secret(digits[-length:]))
        derived = RING.derive_code(source(), length=length).reveal()
        expected = 0 if derived == digits[-length:] else None
        assert RING.check_code(shorter, [source()]) == expected
    for form in (-1, 0, 5, 11, 13, 300):
        assert RING.check_code(PresentedCode(form, Secret(digits)), [source()]) is None


@given(
    st.sampled_from([*range(6, 11), 13]),
    st.binary(min_size=16, max_size=16),
    st.text(st.sampled_from(" -\t\u2013\u00a0"), max_size=5),
)
def test_derived_codes_are_accepted_as_typed(length: int, nonce: bytes, gap: str) -> None:
    """However a person groups the characters, they match their own challenge."""
    code = RING.derive_code(source(nonce=nonce), length=length).reveal()
    assert len(code) == length
    presented = parse_code(gap + code[:3] + gap + code[3:] + gap)
    assert presented is not None
    assert presented.form == length
    assert RING.check_code(presented, [source(nonce=nonce)]) == 0


@given(st.text(st.characters(exclude_categories=()), max_size=80))
def test_any_text_is_answered(text: str) -> None:
    """No text makes the parser fail; what it accepts is short and of an accepted form."""
    presented = parse_code(text)
    if presented is not None:
        assert len(text.encode()) <= 64
        assert presented.form in {6, 7, 8, 9, 10, 13}
        assert len(presented.code.reveal()) == presented.form


def test_ids_are_uuids_of_version_8() -> None:
    """Ids are RFC 9562 UUIDs of version 8 that carry their slot, and do not repeat."""
    for slot in (0, 1, 4095):
        id = new_id(slot)
        assert (id.version, id.variant) == (8, "specified in RFC 4122")
        assert slot_of(id) == slot
        assert id != new_id(slot)
    assert len({slot_of(new_user_id()) for _ in range(100)}) > 80
    assert new_user_id().version == 8


@pytest.mark.parametrize("slot", [-1, 4096, 65536])
def test_bad_slots_are_refused(slot: int) -> None:
    """Slots are 0..4095, whoever asks."""
    with pytest.raises(ValueError, match=r"0\.\.4095"):
        new_id(slot)
    with pytest.raises(ValueError, match=r"0\.\.4095"):
        RING.mint_session(slot)


def test_subject_keys_have_32_bytes() -> None:
    """A subject key of another length has no slot."""
    assert 0 <= slot_of_subject(RING.subject_key("ada@example.com")) <= 4095
    for size in (0, 2, 31, 33):
        with pytest.raises(ValueError, match="32 bytes"):
            slot_of_subject(bytes(size))


def test_randomness_has_its_size() -> None:
    """Nonces are 16 bytes, keys 32, and no two are equal."""
    assert len(new_nonce()) == 16
    assert len(random_key()) == 32
    assert new_nonce() != new_nonce()
    assert random_key() != random_key()


def test_jitter_stays_in_its_bounds() -> None:
    """Waits are spread over 0 up to the ceiling; a ceiling of nothing is no wait."""
    waits = [jitter_seconds(0.5) for _ in range(1000)]
    assert all(0 <= wait <= 0.5 for wait in waits)
    assert min(waits) < 0.1
    assert max(waits) > 0.4
    assert jitter_seconds(0) == 0


def test_shuffling_keeps_every_item() -> None:
    """All items come back in another order, and the sequence that was given is as before."""
    items = list(range(100))
    mixed = shuffled(items)
    assert mixed != items
    assert sorted(mixed) == items == list(range(100))
    assert shuffled([]) == []
