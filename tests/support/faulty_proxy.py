"""A process between Watchword and PostgreSQL that does to connections what networks do.

Run as a program it relays 127.0.0.1, any port, to the unix socket of the first argument, prints the
port, and obeys the lines of its stdin:

    pass          relays, late bytes included
    hang          takes everything and passes nothing on, for connections old and new
    forget        never passes on anything again for the connections that there are
    reset         resets every connection, and each new one
    delay 0.2     relays each piece so many seconds later, towards the server
"""

import asyncio
import contextlib
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

SOCKET_NAME = ".s.PGSQL.5432"


class FaultyProxy:
    """The process, as tests see it."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, database_url: str) -> None:
        self._process = process
        parts = urlsplit(database_url)
        self.url = parts._replace(netloc=f"postgres@127.0.0.1:{port}", query="").geturl()

    async def tell(self, command: str) -> None:
        """Sends one line; returns when it is obeyed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n".encode())
        await self._process.stdin.drain()
        assert await self._process.stdout.readline() == b"done\n"


@contextlib.asynccontextmanager
async def faulty_proxy(database_url: str) -> AsyncIterator[FaultyProxy]:
    """Runs a proxy before the server of this URL until the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        socket_of(database_url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield FaultyProxy(process, int(await process.stdout.readline()), database_url)
    finally:
        process.kill()
        await process.wait()


def socket_of(database_url: str) -> str:
    """Returns the path of the socket behind the URL of an embedded PostgreSQL."""
    return str(Path(parse_qs(urlsplit(database_url).query)["host"][0]) / SOCKET_NAME)


class _Relay:
    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.delay_seconds = 0.0
        self.resets = False
        self.passes = asyncio.Event()
        self.passes.set()
        self.links: set[asyncio.StreamWriter] = set()
        self.forgotten: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.resets:
            _reset(writer)
            return
        self.links.add(writer)
        try:
            await self.passes.wait()
            up_reader, up_writer = await asyncio.open_unix_connection(self.upstream)
        except OSError:
            writer.close()
            return
        there = asyncio.create_task(self.pump(reader, up_writer, writer, late=True))
        back = asyncio.create_task(self.pump(up_reader, writer, writer))
        await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
        there.cancel()
        back.cancel()
        for each in (writer, up_writer):
            each.close()
        self.links.discard(writer)

    async def pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        link: asyncio.StreamWriter,
        *,
        late: bool = False,
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(65_536):
                await self.passes.wait()
                if link in self.forgotten:
                    continue
                if late and self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                writer.write(piece)
                await writer.drain()

    def obey(self, command: str) -> None:
        word, _, argument = command.partition(" ")
        self.resets = word == "reset"
        self.delay_seconds = float(argument) if word == "delay" else 0.0
        if word == "hang":
            self.passes.clear()
        else:
            self.passes.set()
        if word == "forget":
            self.forgotten |= self.links
        if word == "reset":
            for link in self.links:
                _reset(link)


def _reset(writer: asyncio.StreamWriter) -> None:
    # Lingering for no time at all makes the kernel send RST in place of FIN.
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _main(upstream: str) -> None:
    relay = _Relay(upstream)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), os.fdopen(0, "rb")
    )
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    while line := await commands.readline():
        relay.obey(line.decode().strip())
        sys.stdout.write("done\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
