"""The table of rules against the contract: every field has a rule, and both say one maximum."""

import re
import time
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from watchword.errors import RequestInvalid, ValueRejected
from watchword.transport.fields import LISTS, RULES
from watchword.transport.validation import MEMBERS_NAMED_MAX, check
from watchword_client import admin_service_pb2
from watchword_client import auth_service_pb2 as pb

PROTO = Path(__file__).parents[3] / "proto" / "watchword" / "v1"
SERVICES = [
    pb.DESCRIPTOR.services_by_name["AuthService"],
    admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"],
]
REQUESTS = [method.input_type for service in SERVICES for method in service.methods]


def text_fields(message: Descriptor) -> list[str]:
    """Every text field of a request and of what is nested in it, as `Message.field`."""
    found = []
    for field in message.fields:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            if not field.message_type.full_name.startswith("google."):
                found += text_fields(field.message_type)
        elif field.type == FieldDescriptor.TYPE_STRING:
            found.append(f"{message.name}.{field.name}")
    return found


FIELDS = sorted({name for request in REQUESTS for name in text_fields(request)})


def comments() -> dict[str, str]:
    """The comment above each field of the contract, on one line, by `Message.field`."""
    found: dict[str, str] = {}
    for path in sorted(PROTO.glob("*.proto")):
        message, comment = "", []
        for line in map(str.strip, path.read_text().splitlines()):
            if line.startswith("//"):
                comment.append(line.removeprefix("//").strip())
                continue
            if begun := re.match(r"message (\w+) \{", line):
                message = begun[1]
            elif field := re.match(r"(?:repeated )?[\w.]+ (\w+) = \d+;", line):
                found[f"{message}.{field[1]}"] = " ".join(comment)
            comment = []
    return found


COMMENTS = comments()


def test_every_request_is_looked_at() -> None:
    """The services have 31 RPCs and this file has found their fields."""
    assert len(REQUESTS) == 31
    assert "ClientContext.ip" in FIELDS
    assert len(FIELDS) == 72


def test_every_text_field_has_a_rule_and_every_rule_a_field() -> None:
    """A field that is added without a rule fails here, and a rule whose field has gone, too."""
    assert sorted(RULES) == FIELDS


def test_no_request_has_a_field_that_no_rule_could_reach() -> None:
    """Lists without a length, maps and bytes would pass `check` unseen: whoever adds one gives it
    a limit first.
    """
    for request in REQUESTS:
        for field in request.fields:
            if field.is_repeated:
                assert field.type == FieldDescriptor.TYPE_STRING, field.full_name
                fewest, most = LISTS[f"{request.name}.{field.name}"]
                assert f"{fewest} to {most} of them" in COMMENTS[f"{request.name}.{field.name}"]
            assert field.type != FieldDescriptor.TYPE_BYTES, field.full_name


def test_a_list_has_its_length_and_good_members() -> None:
    """No member, one too many, and wrong ones, of which the first twenty are named by number."""
    request = pb.BatchValidateSessionsRequest
    check(request(session_tokens=["t"] * 256))
    for tokens, named in (
        ([], ["session_tokens"]),
        ([""] * 257, ["session_tokens"]),
        (["t", "", "x" * 257], ["session_tokens[1]", "session_tokens[2]"]),
        ([""] * 256, [f"session_tokens[{number}]" for number in range(MEMBERS_NAMED_MAX)]),
    ):
        with pytest.raises(RequestInvalid) as caught:
            check(request(session_tokens=tokens))
        assert [violation.field for violation in caught.value.violations] == named


@pytest.mark.parametrize("name", FIELDS)
def test_the_comment_promises_the_maximum_of_the_table(name: str) -> None:
    """`at most N characters` (or bytes) stands in the proto's comment, with the table's N."""
    rule = RULES[name]
    promised = re.findall(r"at most (\d+) (characters|bytes)", COMMENTS[name])
    assert promised == [(str(rule.maximum), rule.unit)]


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("letter", ["a", "0", " 1", "ä", "-"])
def test_one_more_than_the_maximum_is_refused(name: str, letter: str) -> None:
    """Whatever it is made of, a text of maximum + 1 is refused with a sentence that lacks it."""
    rule = RULES[name]
    text = (letter * (rule.maximum + 1))[: rule.maximum + 1]
    with pytest.raises(ValueRejected) as caught:
        rule.read(text.strip().ljust(rule.maximum + 1, "x"))
    assert text not in str(caught.value)


@pytest.mark.parametrize("name", FIELDS)
def test_a_body_full_of_one_field_is_refused_quickly(name: str) -> None:
    """64 KiB of marks, which NFC sorts in quadratic time, stop the event loop for no second: a rule
    bounds a text before it works on it (the guard: the raw maximum in users.rules.full_name).
    """
    text = "a" + "\u0301" * 16_000 + "\u0316" * 16_000
    started = time.process_time()
    with pytest.raises(ValueRejected):
        RULES[name].read(text)
    assert time.process_time() - started < 0.2


def _filled(request: Message, text: str) -> Message:
    for field in request.DESCRIPTOR.fields:
        if field.is_repeated:
            getattr(request, field.name).append(text)
        elif field.type == FieldDescriptor.TYPE_STRING:
            setattr(request, field.name, text)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            _filled(getattr(request, field.name), text)
    return request


BY_NAME = {request.name: request for request in REQUESTS}


@pytest.mark.parametrize("name", BY_NAME)
def test_check_names_every_field_by_its_path(name: str) -> None:
    """With every field broken, each is named once, nested ones by `client.`."""
    request = _filled(GetMessageClass(BY_NAME[name])(), "\x00" * 2000)
    with pytest.raises(RequestInvalid) as caught:
        check(request)
    named = [violation.field for violation in caught.value.violations]
    assert len(named) == len(set(named))
    for path in named:
        field = path.removeprefix("client.").partition("[")[0]
        assert field in {"update_mask", *(name.partition(".")[2] for name in FIELDS)}
    assert all("\x00" not in violation.description for violation in caught.value.violations)


def test_only_the_member_of_a_oneof_that_is_set_is_read() -> None:
    """An unset member is neither checked nor in the values: its absence is what was meant."""
    values = check(pb.SendOtpRequest(email="Ada@Example.com"))
    assert "challenge_id" not in values
    assert values["email"].account_key == "ada@example.com"


def test_a_oneof_is_named_by_its_own_name() -> None:
    """Nothing set: `target` is named, with the members that would do."""
    with pytest.raises(RequestInvalid) as caught:
        check(pb.GetRolesRequest())
    (violation,) = caught.value.violations
    assert violation.field == "target"
    assert "`user_id`" in violation.description
    assert "`session_token`" in violation.description


def test_a_set_but_empty_member_of_a_oneof_is_named_itself() -> None:
    """An empty `email` is not the same as no target."""
    with pytest.raises(RequestInvalid) as caught:
        check(pb.SendOtpRequest(email=""))
    assert [violation.field for violation in caught.value.violations] == ["email"]
