"""The vectors, the Rust core and a computation of our own with `hmac` and `hashlib` agree."""

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from watchword.crypto import (
    CodeSource,
    DeviceTimes,
    KeyRing,
    KnownChange,
    PresentedCode,
    Secret,
    parse_code,
    slot_of_subject,
)

Read = Callable[[str], dict[str, Any]]


def mac(key: bytes, *parts: bytes) -> bytes:
    return hmac.digest(key, b"".join(parts), hashlib.sha256)


def framed(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + part


def sub_key(key: bytes, label: str) -> bytes:
    """HKDF of one block (RFC 5869): no salt is a salt of zeros."""
    return mac(mac(bytes(32), key), label.encode(), b"\x01")


def text_of(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def reduced(output: bytes, length: int) -> int | None:
    modulus = 10**length
    limit = 2**64 // modulus * modulus
    words = (int.from_bytes(output[at : at + 8], "big") for at in range(0, 32, 8))
    return next((word % modulus for word in words if word < limit), None)


def long_code(output: bytes) -> str:
    """The first 65 bits, five to a symbol."""
    bits = "".join(f"{byte:08b}" for byte in output)[:65]
    symbols = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    return "".join(symbols[int(bits[at : at + 5], 2)] for at in range(0, 65, 5))


def keys_of(document: dict[str, Any]) -> dict[int, bytes]:
    return {key["id"]: bytes.fromhex(key["key"]) for key in document["ring"]["keys"]}


def index_key_of(document: dict[str, Any]) -> bytes:
    return bytes.fromhex(document["ring"]["index_key"])


def source_of(case: dict[str, Any]) -> CodeSource:
    return CodeSource(
        key_id=case["key_id"],
        purpose=case["purpose"],
        challenge_id=UUID(hex=case["challenge_id"]),
        subject_key=bytes.fromhex(case["subject_key"]),
        nonce=bytes.fromhex(case["nonce"]),
    )


def test_codes_agree(vectors: Read, ring: KeyRing) -> None:
    """A code is the HMAC of its challenge's fields, read as decimal digits or as base32."""
    document = vectors("otp")
    keys = keys_of(document)
    for case in document["cases"]:
        source = source_of(case)
        fields = [
            b"watchword/otp/v1",
            source.purpose.encode(),
            source.challenge_id.bytes,
            source.subject_key,
            source.nonce,
        ]
        output = mac(sub_key(keys[source.key_id], "watchword/otp/v1"), *map(framed, fields))
        if case["length"] == 13:
            assert long_code(output) == case["code"]
        else:
            assert str(reduced(output, case["length"])).zfill(case["length"]) == case["code"]
        assert ring.derive_code(source, length=case["length"]).reveal() == case["code"]


def test_refused_codes_raise(vectors: Read, ring: KeyRing) -> None:
    """A length that no code has and a key id that the ring does not hold are ValueErrors."""
    for case in vectors("otp")["refused"]:
        with pytest.raises(ValueError, match="6 to 10 digits|key id"):
            ring.derive_code(source_of(case), length=case["length"])


def test_reductions_agree(vectors: Read) -> None:
    """Words at or above the largest multiple of 10^n are passed over."""
    for case in vectors("otp")["reductions"]:
        assert reduced(bytes.fromhex(case["mac"]), case["length"]) == case["value"]


def test_checked_codes_agree(vectors: Read, ring: KeyRing) -> None:
    """A code is found at its own challenge among others, and at none when that is missing."""
    cases = [case for case in vectors("otp")["cases"] if case["length"] == 10]
    sources = [source_of(case) for case in cases]
    for index, case in enumerate(cases):
        presented = parse_code(case["code"])
        assert presented is not None
        assert ring.check_code(presented, sources) == index
        assert ring.check_code(presented, sources[:index] + sources[index + 1 :]) is None


def test_tokens_agree(vectors: Read, ring: KeyRing) -> None:
    """A session token is key id, session id, secret and tag; the verifier is a MAC of its own."""
    document = vectors("token")
    keys = keys_of(document)
    for case in document["cases"]:
        key = keys[case["key_id"]]
        session_id, secret = bytes.fromhex(case["session_id"]), bytes.fromhex(case["secret"])
        body = bytes([case["key_id"]]) + session_id + secret
        tag = mac(sub_key(key, "watchword/session-tag/v1"), framed(b"watchword/session/v1"), body)
        verifier = mac(sub_key(key, "watchword/session-verifier/v1"), session_id, secret)
        assert "ww_" + text_of(body + tag[:8]) == case["token"]
        assert verifier.hex() == case["verifier"]
        presented = ring.parse_session_token(case["token"])
        assert presented is not None
        assert presented.session_id == UUID(bytes=session_id)
        assert presented.key_id == case["key_id"]
        assert presented.verifier == verifier


def test_service_keys_agree(vectors: Read, ring: KeyRing) -> None:
    """A service key is secret and tag; what is kept of it is SHA-256 of the secret."""
    document = vectors("service_key")
    tag_key = sub_key(index_key_of(document), "watchword/service-key-tag/v1")
    for case in document["cases"]:
        secret = bytes.fromhex(case["secret"])
        assert "wwk_" + text_of(secret + mac(tag_key, secret)[:8]) == case["token"]
        assert hashlib.sha256(secret).hexdigest() == case["sha256"]
        assert ring.parse_service_key(case["token"]) == bytes.fromhex(case["sha256"])


def test_refused_tokens_are_refused(vectors: Read, ring: KeyRing) -> None:
    """What is no session token, or no service key, of this ring is None."""
    for case in vectors("token")["refused"]:
        assert ring.parse_session_token(case["token"]) is None, case["why"]
    for case in vectors("service_key")["refused"]:
        assert ring.parse_service_key(case["token"]) is None, case["why"]


def test_device_tokens_agree(vectors: Read, ring: KeyRing) -> None:
    """A device token is version, times and 16 bytes of a MAC over the subject and these."""
    document = vectors("device")
    tag_key = sub_key(index_key_of(document), "watchword/device-tag/v1")
    for case in document["cases"]:
        subject_key = bytes.fromhex(case["subject_key"])
        pair = case["since_us"], case["issued_us"]
        body = b"\x01" + b"".join(us.to_bytes(8, "big", signed=True) for us in pair)
        tag = mac(tag_key, framed(b"watchword/device/v1"), framed(subject_key), body)[:16]
        token = Secret("wwd_" + text_of(body + tag))
        assert token.reveal() == case["token"]
        assert ring.mint_device_token(subject_key, DeviceTimes(*pair)) == token
        assert ring.check_device_token(token, subject_key) == DeviceTimes(*pair)
    for case in document["refused"]:
        token, subject_key = Secret(case["token"]), bytes.fromhex(case["subject_key"])
        assert ring.check_device_token(token, subject_key) is None, case["why"]


def test_change_tokens_agree(vectors: Read, ring: KeyRing) -> None:
    """A change token is version, changes and 16 bytes of a MAC over these."""
    document = vectors("change")
    tag_key = sub_key(index_key_of(document), "watchword/change-tag/v1")
    for case in document["cases"]:
        changes = [KnownChange(**{**c, "id": UUID(hex=c["id"])}) for c in case["changes"]]
        body = b"\x01" + b"".join(
            bytes([c.kind])
            + c.id.bytes
            + b"".join(number.to_bytes(8, "big", signed=True) for number in (c.epoch, c.version))
            for c in changes
        )
        tag = mac(tag_key, framed(b"watchword/change/v1"), framed(body))[:16]
        assert "wwc_" + text_of(body + tag) == case["token"]
        assert ring.mint_change_token(changes) == case["token"]
        assert ring.parse_change_token(case["token"]) == changes
    for case in document["refused"]:
        assert ring.parse_change_token(case["token"]) is None, case["why"]


def test_subjects_agree(vectors: Read, ring: KeyRing) -> None:
    """A subject key is a MAC under the index key; its slot is read from its first two bytes."""
    document = vectors("subject")
    key = sub_key(index_key_of(document), "watchword/subject/v1")
    for case in document["cases"]:
        subject_key = mac(key, case["account_key"].encode())
        assert subject_key.hex() == case["subject_key"]
        assert ring.subject_key(case["account_key"]) == subject_key
        assert slot_of_subject(subject_key) == case["slot"]
        assert int.from_bytes(subject_key[:2], "big") % 4096 == case["slot"]


def test_limits_agree(vectors: Read, ring: KeyRing) -> None:
    """A limit key is a MAC of kind and value under a sub-key of its own of the index key."""
    document = vectors("limit")
    key = sub_key(index_key_of(document), "watchword/limit/v1")
    for case in document["cases"]:
        value = bytes.fromhex(case["value"])
        limit_key = mac(key, framed(case["kind"].encode()), framed(value))
        assert limit_key.hex() == case["limit_key"]
        assert ring.limit_key(case["kind"], value) == limit_key


def test_code_forms_agree(vectors: Read) -> None:
    """What people type is brought to its form and canonical code, or refused."""
    document = vectors("code_forms")
    for case in document["cases"]:
        expected = PresentedCode(case["form"], Secret(case["canonical"]))
        assert parse_code(case["text"]) == expected, case
    for case in document["refused"]:
        assert parse_code(case["text"]) is None, case
