"""The calls that a program makes for people, each noted in the ledger."""

from datetime import UTC, datetime

from tests.faults.ledger import Claim, Ledger, Outcome, Person
from watchword_client import AsyncClient, OtpInvalid, SessionInvalid
from watchword_client import resources_pb2 as pb

# Every so many people register first and ask for their code by another call.
ASKS_LATER = 4


class Caller:
    """Calls by `client`, which is replaced when the server has another address."""

    client: AsyncClient

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    async def ask_for_code(self, person: Person) -> None:
        """Registers somebody and has a code mailed, by one call or by two."""
        person.code_ask_time = datetime.now(UTC)
        asks_later = person.number % ASKS_LATER == 0
        registered = await self.ledger.call(
            "Register",
            self.client.register(
                full_name="Ada Lovelace",
                username=person.username,
                email=person.email,
                send_otp=not asks_later,
            ),
        )
        if registered is None:
            return
        person.user_id = registered.user_id
        if not asks_later:
            self._promise_code(person, registered.challenge)
            return
        sent = await self.ledger.call("SendOtp", self.client.send_otp(email=person.email))
        if sent is not None:
            self._promise_code(person, sent.challenge)

    def _promise_code(self, person: Person, challenge: pb.Challenge) -> None:
        person.challenge_id = challenge.id
        person.code_expire_time = challenge.expire_time.ToDatetime(UTC)

    async def sign_in(self, person: Person, code: str) -> None:
        """Signs somebody in with the code of their mail, unless that was acknowledged before."""
        tried_before = person.sign_in is Outcome.UNKNOWN
        person.sign_in = Outcome.UNKNOWN
        call = self.client.verify_otp(challenge_id=person.challenge_id, code=code)
        try:
            answer = await self.ledger.call("VerifyOtp", call)
        except OtpInvalid:
            # The call before, whose answer was lost, may have used it up.
            if not tried_before:
                self.ledger.break_claim(Claim.REGISTERED, f"{person}: right code refused")
            return
        if answer is None:
            return
        person.sign_in = Outcome.ACKNOWLEDGED
        person.session_id, person.session_token = answer.session.id, answer.session_token
        if answer.user.id != person.user_id:
            self.ledger.break_claim(Claim.REGISTERED, f"{person}: signed in as {answer.user.id}")

    async def replay(self, person: Person, code: str) -> None:
        """Tries a code again that has signed somebody in."""
        call = self.client.verify_otp(challenge_id=person.challenge_id, code=code)
        try:
            answer = await self.ledger.call("VerifyOtp", call)
        except OtpInvalid:
            return
        if answer is not None:
            self.ledger.break_claim(Claim.SPENT, f"{person}: the code signed in twice")

    async def validate(self, person: Person) -> None:
        """Looks whether somebody's session is what was acknowledged."""
        expected = person.sign_out
        call = self.client.validate_session(person.session_token)
        try:
            answer = await self.ledger.call("ValidateSession", call)
        except SessionInvalid:
            if person.sign_out is Outcome.NOT_ASKED:
                self.ledger.break_claim(Claim.SIGNED_IN, f"{person}: session refused")
            return
        if answer is None:
            return
        if expected is Outcome.ACKNOWLEDGED:
            self.ledger.break_claim(Claim.SIGNED_OUT, f"{person}: revoked session accepted")
        if answer.session.id != person.session_id:
            self.ledger.break_claim(Claim.SIGNED_IN, f"{person}: session {answer.session.id}")

    async def sign_out(self, person: Person) -> None:
        """Revokes somebody's session."""
        person.sign_out = Outcome.UNKNOWN
        answer = await self.ledger.call("Revoke", self.client.revoke(person.session_token))
        if answer is None:
            return
        person.sign_out = Outcome.ACKNOWLEDGED
        if answer.revoked_count != 1:
            self.ledger.break_claim(Claim.SIGNED_IN, f"{person}: nothing to revoke")
