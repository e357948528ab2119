"""`watchword healthcheck`: is the server of this environment serving?

For images without grpc_health_probe. It imports no more than it needs, wants no secret, and its
exit code is 0 or 1: Docker keeps 2 for itself.
"""

import os
import sys
from typing import Annotated, Final

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc

ADDRESS_VARIABLE: Final = "WATCHWORD_API__ADDRESS"
# As in transport/server.py, which would take long to import; a test compares them.
DEFAULT_ADDRESS: Final = "127.0.0.1:50051"
TIMEOUT_SECONDS: Final = 3.0
# A server on all addresses is asked on this machine's own.
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104  # compared, not bound
_OPTIONS: Final = (
    # A proxy of the environment is for the outside.
    ("grpc.enable_http_proxy", 0),
)

app = typer.Typer()


class _Unhealthy(Exception):
    """What is wrong and, as the second argument, what to do."""


@app.command()
def healthcheck(
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help=f"Or `unix:/path`. Default: {ADDRESS_VARIABLE} as `serve`."
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=60, help="Seconds for the whole question.")
    ] = TIMEOUT_SECONDS,
) -> None:
    """Ask the server whether it is SERVING; exit 0 if it is, 1 otherwise."""
    chosen = address or os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS
    try:
        target = target_of(chosen)
        _check(target, timeout)
    except _Unhealthy as error:
        message, hint = error.args
        print(f"error: {message}\nhint: {hint}", file=sys.stderr)
        raise typer.Exit(1) from None
    print(f"`{target}` is SERVING")


def target_of(address: str) -> str:
    """Where to ask for what listens on `address`; raises _Unhealthy for what is none."""
    if address.startswith("unix:/"):
        return address
    host, _, port = address.rpartition(":")
    if not (host and port.isascii() and port.isdecimal() and int(port) < 65_536):
        raise _Unhealthy(
            "the address must be `host:port` or `unix:/path`",
            f"look at {ADDRESS_VARIABLE}, or name one by `--address`",
        )
    if int(port) == 0:
        raise _Unhealthy(
            "port 0 is a free one, and which is not known here",
            f"set {ADDRESS_VARIABLE} to a fixed port, or name it by `--address`",
        )
    return f"{_LOOPBACK.get(host, host)}:{port}"


def _check(target: str, timeout: float) -> None:
    with grpc.insecure_channel(target, options=_OPTIONS) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=timeout
            )
        except grpc.RpcError as error:
            raise _failure(target, timeout, error.code()) from None
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        raise _Unhealthy(
            f"`{target}` is {status}",
            "the server starts, drains, or waits for its database; its log says which",
        )


def _failure(target: str, timeout: float, code: grpc.StatusCode) -> _Unhealthy:
    if code is grpc.StatusCode.UNAVAILABLE:
        return _Unhealthy(
            f"nothing answers gRPC at `{target}`", "look whether `watchword serve` runs there"
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return _Unhealthy(
            f"no answer from `{target}` within {timeout:g} s",
            "the process hangs or is overloaded; look at its log and its CPU",
        )
    return _Unhealthy(
        f"`{target}` answered {code.name}", f"look whether that is Watchword; {ADDRESS_VARIABLE}"
    )
