"""The health of a server, as a load balancer asks for it."""

import contextlib
from collections.abc import AsyncIterator

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

WAIT_SECONDS = 20.0
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = ("", "watchword.v1.AuthService")


@contextlib.asynccontextmanager
async def health_of(target: str) -> AsyncIterator[health_pb2_grpc.HealthStub]:
    """A stub for grpc.health.v1 that waits for the server to be there."""
    async with grpc.aio.insecure_channel(target) as channel:
        yield health_pb2_grpc.HealthStub(channel)


async def status(health: health_pb2_grpc.HealthStub, service: str = "") -> int:
    """Returns the health of a service of the server."""
    request = health_pb2.HealthCheckRequest(service=service)
    answer = await health.Check(request, wait_for_ready=True, timeout=WAIT_SECONDS)
    return answer.status


async def watched(health: health_pb2_grpc.HealthStub) -> AsyncIterator[int]:
    """Yields the health of the server: what it is, then each change; ends with the connection."""
    request = health_pb2.HealthCheckRequest(service="")
    with contextlib.suppress(grpc.aio.AioRpcError):
        async for answer in health.Watch(request, wait_for_ready=True):
            yield answer.status
