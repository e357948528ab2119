"""A real HTTP server on loopback that behaves as Resend documents `POST /emails`.

The same `Idempotency-Key` with the same body gets the first answer and sends nothing; with another
body it is 409. A key that is in progress is 409 too.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

API_KEY = "re_CANARY4711"


@dataclass
class Answer:
    """An answer, in the words of Resend's error table."""

    status: int
    name: str
    headers: dict[str, str] = field(default_factory=dict)

    def body(self, echo: str) -> dict[str, Any]:
        """The message quotes what was sent, as a careless provider's would."""
        return {"statusCode": self.status, "name": self.name, "message": f"refused: {echo}"}


@dataclass
class ResendServerDouble:
    """What was asked, what was sent, and the errors that come first.

    `keys` has the key of every call, `conflicts` those that came again with another body.
    `hang` and `cut` are for the next calls: silence and a closed connection, before or, with
    `after_sending`, after the mail was taken.
    """

    base_url: str = ""
    sent: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    errors: list[Answer] = field(default_factory=list)
    raw: bytes = b""
    hang: bool = False
    cut: bool = False
    after_sending: bool = False
    _first: dict[str, tuple[bytes, dict[str, Any]]] = field(default_factory=dict)
    _listener: asyncio.Server | None = None

    def stop(self) -> None:
        """Takes no further connection."""
        assert self._listener is not None
        self._listener.close()

    def answer(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
        """Returns status and JSON, and sends what is to be sent."""
        if headers.get("authorization") != f"Bearer {API_KEY}":
            return 401, Answer(401, "missing_api_key").body(body.decode())
        key = headers["idempotency-key"]
        self.keys.append(key)
        if key in self._first:
            before, first = self._first[key]
            if before != body:
                self.conflicts.append(key)
                return 409, Answer(409, "invalid_idempotent_request").body(body.decode())
            return 200, first
        self.sent.append(json.loads(body))
        self._first[key] = body, {"id": str(UUID(int=len(self.sent)))}
        return 200, self._first[key][1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one call and closes, so that a test's server ends with the test."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            body = await reader.readexactly(int(headers["content-length"]))
            assert head[0] == "POST /emails HTTP/1.1", head[0]
            extra: dict[str, str] = {}
            if self.after_sending:
                self.answer(headers, body)
            if self.hang:
                await reader.read()  # until the client gives up
                return
            if self.cut:
                return
            if self.raw:
                writer.write(self.raw)
                await writer.drain()
                return
            if self.errors:
                error = self.errors.pop(0)
                status, answer, extra = error.status, error.body(body.decode()), error.headers
            else:
                status, answer = self.answer(headers, body)
            content = json.dumps(answer).encode()
            lines = [f"HTTP/1.1 {status} words", f"content-length: {len(content)}"]
            lines += ["content-type: application/json", "connection: close"]
            lines += [f"{name}: {value}" for name, value in extra.items()]
            writer.write("\r\n".join([*lines, "", ""]).encode() + content)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def resend_server() -> AsyncIterator[ResendServerDouble]:
    """Starts a server on a free port."""
    double = ResendServerDouble()
    listener = await asyncio.start_server(double.serve, "127.0.0.1", 0)
    double._listener = listener
    double.base_url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield double
    finally:
        listener.close()
