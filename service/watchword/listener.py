"""One address and what answers there: grpc.aio, and the gate in front of it."""

import asyncio

from watchword.gate import Gate
from watchword.transport.server import GrpcServer


class Listener:
    """A server on its address; in front of it a gate, where there is to be one."""

    def __init__(self, server: GrpcServer, gate: Gate | None) -> None:
        self._server = server
        self._gate = gate
        self.address = ""

    async def start(self) -> None:
        """Listens; `address` is where clients connect then. Raises AddressTaken."""
        if self._gate is None:
            self.address = await self._server.start()
            return
        try:
            await self._server.start(self._gate.make_upstream())
            self.address = self._gate.start()
        except BaseException:
            await self._server.stop(0)
            self._gate.remove_upstream()
            raise

    async def watch(self) -> None:
        """Logs the gate's events for ever."""
        if self._gate is not None:
            await self._gate.run()
        else:
            await asyncio.Event().wait()

    async def set_serving(self, serving: bool) -> None:
        """Sets the health of the server and of its service."""
        await self._server.set_serving(serving)

    async def leave(self) -> None:
        """Answers NOT_SERVING from now on."""
        await self._server.leave()

    async def drain(self, seconds: float) -> None:
        """Lets calls finish for so long: the gate's first, which stops accepting at once."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        if self._gate is not None:
            await self._gate.stop(max(end - clock(), 0))
        await self._server.stop(max(end - clock(), 0))
        if self._gate is not None:
            self._gate.remove_upstream()
