"""A server that does what a test asks of it, behind a gate."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc

from watchword.gate import Gate, GateSettings
from watchword.transport.server import ApiSettings

WAIT_SECONDS = 10.0


class Echo:
    """A server behind a gate that does what a test asks of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.metadata: dict[str, str | bytes] = {}
        self.remaining = 0.0
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()

    def handler(self) -> grpc.GenericRpcHandler:
        """Its methods, under the service's name."""
        unary = grpc.unary_unary_rpc_method_handler
        return grpc.method_handlers_generic_handler(
            "test.Echo",
            {
                "Same": unary(self._same),
                "Wait": unary(self._wait),
                "Fail": unary(self._fail),
                "Both": grpc.stream_stream_rpc_method_handler(self._both),
            },
        )

    async def _same(self, body: bytes, context: grpc.aio.ServicerContext) -> bytes:
        self.calls.append("Same")
        self.metadata = dict(context.invocation_metadata() or ())
        self.remaining = context.time_remaining()
        context.set_trailing_metadata((("x-end-bin", b"\x00\xff"),))
        return body

    async def _wait(self, body: bytes, context: grpc.aio.ServicerContext) -> bytes:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        return body

    async def _fail(self, body: bytes, context: grpc.aio.ServicerContext) -> bytes:
        details = (("grpc-status-details-bin", bytes(range(256))), ("x-text", "plain"))
        await context.abort(grpc.StatusCode.ABORTED, "why: 100 % \u00e9", details)

    async def _both(
        self, bodies: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        async for body in bodies:
            yield body


class Behind:
    """A gate, and the server behind it, which can go and come back."""

    def __init__(self, gate: Gate, upstream: str, echo: Echo) -> None:
        self.gate = gate
        self.echo = echo
        self.address = ""
        self._upstream = upstream
        self._server = grpc.aio.server()

    async def start_server(self) -> None:
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((self.echo.handler(),))
        self._server.add_insecure_port(self._upstream)
        await self._server.start()

    async def stop_server(self) -> None:
        await self._server.stop(0)


@contextlib.asynccontextmanager
async def gate_before_echo(
    *, connections_max: int = 10_000, idle_seconds: float = 600, age_seconds: float = 3_600
) -> AsyncIterator[Behind]:
    """A gate with an echo server behind it."""
    gate = Gate(
        GateSettings(connections_max=connections_max),
        ApiSettings(address="127.0.0.1:0"),
        ["test.Echo"],
        idle_seconds=idle_seconds,
        age_seconds=age_seconds,
    )
    behind = Behind(gate, gate.make_upstream(), Echo())
    await behind.start_server()
    behind.address = gate.start()
    try:
        yield behind
    finally:
        await gate.stop(1)
        await behind.stop_server()
        gate.remove_upstream()


def host_and_port(address: str) -> tuple[str, int]:
    """Splits an address."""
    host, _, port = address.rpartition(":")
    return host, int(port)
