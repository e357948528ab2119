"""A real HTTP server on loopback that behaves as Resend documents `POST /emails`, `GET /domains`.

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
    `after_sending`, after the mail was taken. `delay_seconds` passes before each answer. `domains`
    are the account's, by name their status; None for a key that may only send.
    """

    base_url: str = ""
    sent: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    errors: list[Answer] = field(default_factory=list)
    raw: bytes = b""
    domains: dict[str, str] | None = field(default_factory=dict)
    hang: bool = False
    cut: bool = False
    after_sending: bool = False
    delay_seconds: float = 0.0
    asked: int = 0
    _first: dict[str, tuple[bytes, dict[str, Any]]] = field(default_factory=dict)
    _listener: asyncio.Server | None = None

    async def listen(self) -> None:
        """Takes connections, after a `stop` where it did before."""
        port = int(self.base_url.rpartition(":")[2] or 0)
        self._listener = await asyncio.start_server(self.serve, "127.0.0.1", port)
        self.base_url = f"http://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

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

    def list_domains(self, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """What `GET /domains` answers."""
        if headers.get("authorization") != f"Bearer {API_KEY}":
            return 403, Answer(403, "invalid_api_key").body("")
        if self.domains is None:
            return 401, Answer(401, "restricted_api_key").body("")
        data = [{"name": name, "status": status} for name, status in self.domains.items()]
        return 200, {"object": "list", "has_more": False, "data": data}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one call and closes, so that a test's server ends with the test."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            lists = head[0].startswith("GET /domains?")
            assert lists or head[0] == "POST /emails HTTP/1.1", head[0]
            extra: dict[str, str] = {}
            self.asked += 1
            await asyncio.sleep(self.delay_seconds)
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
            elif lists:
                status, answer = self.list_domains(headers)
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
    await double.listen()
    try:
        yield double
    finally:
        double.stop()
