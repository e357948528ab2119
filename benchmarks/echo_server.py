"""A bare grpc.aio server: one generic unary handler that answers bytes. It knows only grpcio.

Run by path with the interpreter to measure. The first line on stdout is one JSON object {pid, port,
grpcio, python, loop}; it serves until stdin is closed, so it ends with the process that started it.
"""

import argparse
import asyncio
import importlib
import json
import os
import platform
import sys

import grpc

SERVICE, METHOD = "benchmark.Echo", "Call"
REGISTERED_SERVICE = "benchmark.Registered"


def handlers(answer: bytes | None) -> "dict[str, grpc.RpcMethodHandler[bytes, bytes]]":
    """Returns the one method; without `answer` it returns the request."""

    async def call(request: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return request if answer is None else answer

    return {METHOD: grpc.unary_unary_rpc_method_handler(call)}


async def serve(answer: bytes | None, registered: int) -> None:
    """Serves on a free port of loopback until stdin ends."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    generic = grpc.method_handlers_generic_handler(SERVICE, handlers(answer))
    server.add_generic_rpc_handlers((generic,))
    if registered:
        # What generated code does for its services (health, reflection). Nobody calls these.
        idle = {f"Idle{n}": handlers(answer)[METHOD] for n in range(registered)}
        server.add_registered_method_handlers(REGISTERED_SERVICE, idle)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    facts = {
        "pid": os.getpid(),
        "port": port,
        "grpcio": grpc.__version__,
        "python": platform.python_version(),
        "loop": type(asyncio.get_running_loop()).__module__.partition(".")[0],
    }
    print(json.dumps(facts), flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    await server.stop(grace=None)


def main() -> None:
    """Reads the arguments and serves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--response-bytes", type=int, help="answer so many bytes, not the request")
    parser.add_argument("--registered", type=int, default=0, help="idle registered methods beside")
    parser.add_argument("--uvloop", action="store_true", help="run on uvloop")
    options = parser.parse_args()
    size = options.response_bytes
    serving = serve(None if size is None else b"\x55" * size, options.registered)
    if options.uvloop:
        importlib.import_module("uvloop").run(serving)
    else:
        asyncio.run(serving)


if __name__ == "__main__":
    main()
