"""Counting and comparing a presented code, for whatever it proves an address.

The order is the security of it (design.md 6): count in a statement that commits, then compare; the
caller uses the challenge up in the transaction that does what the code is for. Changing it brings
back one of the bugs of threats.md 4.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from watchword.audit.model import Outcome
from watchword.crypto import CodeSource, PresentedCode
from watchword.errors import OtpInvalid
from watchword.limits.model import Bucket
from watchword.login.context import LoginContext
from watchword.login.ports import Tx
from watchword.otp.model import Charge, KnownDevice, Purpose
from watchword.otp.policy import FAILURE_BUDGET, LONG_CODE_FORM
from watchword.sessions.model import Client


@dataclass(frozen=True, slots=True)
class Proven:
    """A right code: what it was derived from, and what a success gives back."""

    source: CodeSource
    charge: Charge
    taken: Sequence[Bucket]


async def prove(
    ctx: LoginContext,
    code: PresentedCode,
    charge: Callable[[Tx], Awaitable[Charge]],
    *,
    client: Client,
    device: KnownDevice | None = None,
    refused: Callable[[Outcome, Charge], None],
) -> Proven:
    """Compares the code with those that `charge` has counted; raises OtpInvalid.

    Raises RateLimited before anything is charged or compared. A wrong code is answered once the
    installation has counted it and `refused` was told.
    """
    taken = await ctx.limits.take_failure(client, code, device)
    charged = await ctx.database.run_statement(charge)
    matching = ctx.keys.check_code(code, charged.sources)
    if matching is None:
        await ctx.failures.count(charged.units)
        refused(Outcome.WRONG_CODE if charged.sources else Outcome.NOT_LIVE_OR_SPENT, charged)
        raise OtpInvalid
    return Proven(charged.sources[matching], charged, taken)


async def charge_by_id(
    ctx: LoginContext,
    tx: Tx,
    challenge_id: UUID,
    code: PresentedCode,
    *,
    purpose: Purpose,
    device_key: bytes | None = None,
) -> Charge:
    """Counts the one code that is about to be compared; empty: compare nothing.

    Long codes are compared without being counted.
    """
    if code.form == LONG_CODE_FORM:
        return await tx.attempts.find_long_by_id(
            challenge_id, purpose=purpose, device_key=device_key
        )
    return await tx.attempts.charge_by_id(
        challenge_id,
        purpose=purpose,
        code_form=code.form,
        attempts_max=ctx.otp.attempts_max,
        budget=FAILURE_BUDGET,
        device_key=device_key,
    )
