"""HTTP/2 by hand (RFC 9113): frames that no client library would send."""

import contextlib
import select
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    *(0, 1, 3, 4, 6, 7),
    *(8, 9),
)
END_STREAM, END_HEADERS = 1, 4
CANCEL = 8
FRAME_MAX_BYTES = 16_384
# Less than the 20 s after which the gate would end a connection for want of an answer to its ping.
WAIT_SECONDS = 10.0
# `:status: 200` from the static table (RFC 7541, 6.1 and appendix A).
STATUS_200 = 0x88


@dataclass(frozen=True)
class Frame:
    """One frame that was read."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Writes a frame (4.1)."""
    length = struct.pack(">I", len(payload))[1:]
    return length + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def reset(stream: int, code: int = CANCEL) -> bytes:
    """Writes RST_STREAM (6.4)."""
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def header_block(path: str, **more: str) -> bytes:
    """Writes the header list of a call, each field literal and unindexed (RFC 7541, 6.2.2)."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":authority": "localhost",
        ":path": path,
        "content-type": "application/grpc",
        "te": "trailers",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    return b"".join(field(name, value) for name, value in fields.items())


def field(name: str, value: str) -> bytes:
    """Writes one field of a header list."""
    return b"\0" + _string(name) + _string(value)


def _string(text: str) -> bytes:
    """Writes a string without Huffman's code (RFC 7541, 5.1 and 5.2)."""
    encoded = text.encode()
    length, prefix = len(encoded), b""
    if length < 127:
        return bytes((length,)) + encoded
    prefix, length = b"\x7f", length - 127
    while length > 127:
        prefix += bytes((length & 127 | 128,))
        length >>= 7
    return prefix + bytes((length,)) + encoded


def split_headers(stream: int, block: bytes, *, flags: int = END_HEADERS | END_STREAM) -> bytes:
    """Writes a header block as HEADERS and as many CONTINUATION as it takes."""
    parts = [block[at : at + FRAME_MAX_BYTES] for at in range(0, len(block), FRAME_MAX_BYTES)]
    end = flags & END_HEADERS
    written = frame(HEADERS, flags & ~END_HEADERS | (0 if parts[1:] else end), stream, parts[0])
    for number, part in enumerate(parts[1:], start=2):
        written += frame(CONTINUATION, end if number == len(parts) else 0, stream, part)
    return written


class RawConnection:
    """A blocking socket that has sent the preface and its settings; a context manager."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=WAIT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send(PREFACE + frame(SETTINGS, 0, 0))

    def __enter__(self) -> "RawConnection":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> bool:
        """Sends; false if the other end has gone. A peer that does not read: TimeoutError."""
        try:
            self.socket.sendall(data)
        except ConnectionError:
            return False
        return True

    def is_open(self) -> bool:
        """Whether the other end has not gone, as far as can be seen now; reads what has come."""
        try:
            while select.select([self.socket], [], [], 0)[0]:
                if not self.socket.recv(65_536):
                    return False
        except ConnectionError:
            return False
        return True

    def frames(self) -> Iterator[Frame]:
        """Reads until the other end has gone; TimeoutError if it says nothing for 10 s."""
        with contextlib.suppress(ConnectionError), self.socket.makefile("rb") as stream:
            while len(head := stream.read(9)) == 9:
                length = int.from_bytes(head[:3])
                payload = stream.read(length)
                (number,) = struct.unpack(">I", head[5:])
                yield Frame(head[3], head[4], number, payload)

    def frames_of(self, stream: int) -> Iterator[Frame]:
        """Reads what comes for a stream until that or the connection has ended."""
        for it in self.frames():
            if it.stream == stream:
                yield it
                if it.kind == RST_STREAM or it.flags & END_STREAM:
                    return

    def ping(self) -> bool:
        """Waits until everything that was sent has been read; false if the other end has gone."""
        if not self.send(frame(PING, 0, 0, b"12345678")):
            return False
        # Unbuffered, since the next call reads what follows.
        with contextlib.suppress(ConnectionError):
            while len(head := self._read(9)) == 9:
                self._read(int.from_bytes(head[:3]))
                if head[3] == PING and head[4]:
                    return True
        return False

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (part := self.socket.recv(count - len(data))):
            data += part
        return data
