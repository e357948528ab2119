"""Calls that leave together: many connections, opened and warmed beforehand, one barrier.

A full run is asked for with WATCHWORD_TEST_FULL=1; each test says both of its sizes.
"""

import asyncio
import contextlib
import itertools
import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from tests.support.replicas import Replicas
from watchword_client import auth_service_pb2 as pb
from watchword_client import auth_service_pb2_grpc as pb_grpc
from watchword_client.errors import from_rpc_error

FULL = os.environ.get("WATCHWORD_TEST_FULL") == "1"
# Calls wait in this process too when thousands leave at once.
TIMEOUT_SECONDS = 60.0
CONNECTIONS = 64

SIGNED_IN = "signed in"
SENT = "sent"
# What losers see; the last two when the database gave up on its retries (design.md 5), or when it
# took too long for a call's budget because the machine is busy with something else.
REFUSALS = ("OTP_INVALID", "STORAGE_UNAVAILABLE", "OVERLOADED")

Request = pb.VerifyOtpRequest | pb.SendOtpRequest
_DONE = {pb.VerifyOtpRequest: SIGNED_IN, pb.SendOtpRequest: SENT}


def refused(outcomes: Counter[str]) -> int:
    """Returns how many calls ended without a session, in a way that is allowed to."""
    return sum(outcomes[reason] for reason in REFUSALS)


@dataclass
class Connections:
    """Stubs with a connection each, spread over the servers in turn."""

    stubs: list[Any]
    metadata: tuple[tuple[str, str], ...]

    async def verify_at_once(self, requests: Sequence[pb.VerifyOtpRequest]) -> Counter[str]:
        """Sends all of them at one moment and counts the outcomes.

        More calls than connections share them.
        """
        return Counter(await self.each_at_once(requests))

    async def send_at_once(self, requests: Sequence[pb.SendOtpRequest]) -> Counter[str]:
        """Asks for all of these codes at one moment and counts the outcomes."""
        return Counter(await self.each_at_once(requests))

    async def each_at_once(self, requests: Sequence[Request]) -> list[str]:
        """Sends calls of both kinds at one moment; returns the outcomes in the same order."""
        errors = await self.errors_at_once(requests)
        return [
            _DONE[type(request)]
            if error is None
            else from_rpc_error(error).reason or str(error.code())
            for request, error in zip(requests, errors, strict=True)
        ]

    async def errors_at_once(
        self, requests: Sequence[Request]
    ) -> list[grpc.aio.AioRpcError | None]:
        """The same; returns the error of each call, None where there is none."""
        barrier = asyncio.Barrier(len(requests))

        async def one(stub: Any, request: Request) -> grpc.aio.AioRpcError | None:
            method = stub.VerifyOtp if isinstance(request, pb.VerifyOtpRequest) else stub.SendOtp
            await barrier.wait()
            try:
                await method(request, timeout=TIMEOUT_SECONDS, metadata=self.metadata)
            except grpc.aio.AioRpcError as error:
                return error
            return None

        pairs = zip(itertools.cycle(self.stubs), requests, strict=False)
        return await asyncio.gather(*(one(*pair) for pair in pairs))


@contextlib.asynccontextmanager
async def connections(
    addresses: Sequence[str], *, service_key: str, count: int
) -> AsyncIterator[Connections]:
    """Opens `count` connections; without the option gRPC would share one between channels."""
    async with contextlib.AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(
                    addresses[number % len(addresses)],
                    options=[("grpc.use_local_subchannel_pool", 1)],
                )
            )
            for number in range(count)
        ]
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await asyncio.gather(*(channel.channel_ready() for channel in channels))
        yield Connections(
            [pb_grpc.AuthServiceStub(channel) for channel in channels],
            (("authorization", f"Bearer {service_key}"),),
        )


def to_all(
    replicas: Replicas, *, count: int = CONNECTIONS
) -> contextlib.AbstractAsyncContextManager[Connections]:
    """Opens `count` connections, the same number to each server but for one."""
    return connections(
        [server.ready["api"] for server in replicas.servers],
        service_key=replicas.servers[0].ready["service_key"],
        count=count,
    )


def by_id(challenge: str, codes: Sequence[str]) -> list[pb.VerifyOtpRequest]:
    """One request for each code, for a challenge."""
    return [pb.VerifyOtpRequest(challenge_id=challenge, code=code) for code in codes]


def by_email(email: str, codes: Sequence[str]) -> list[pb.VerifyOtpRequest]:
    """One request for each code, for an address."""
    return [pb.VerifyOtpRequest(email=email, code=code) for code in codes]


def guesses(right: str, count: int) -> list[str]:
    """Returns so many different codes of the right one's length, all of them wrong."""
    size = 10 ** len(right)
    start = int(right)
    return [f"{(start + step) % size:0{len(right)}}" for step in range(1, count + 1)]
