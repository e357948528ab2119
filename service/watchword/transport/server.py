"""What listens: a service, health and, where it is switched on, reflection."""

from datetime import timedelta
from typing import Annotated, ClassVar, Protocol, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from pydantic import AfterValidator, Field, model_validator

from watchword.settings import Duration, Section, is_loopback
from watchword.transport.pipeline import Method, Pipeline, generic_handler

BODY_MAX_BYTES = 64 * 1024
METADATA_MAX_BYTES = 8 * 1024


def _check_address(address: str) -> str:
    host, colon, port = address.rpartition(":")
    if address.startswith("unix:"):
        if not address.startswith("unix:/"):
            raise ValueError("must be `unix:` and an absolute path")
    elif not (host and colon and port.isdecimal() and int(port) < 65_536):
        raise ValueError("must be `host:port` or `unix:/path`")
    return address


Address = Annotated[str, AfterValidator(_check_address)]
_ADDRESS = "`host:port` (port 0: a free one) or `unix:/path`"


class ListenerSettings(Section):
    """Where a service listens; `section` is that of the variables' names."""

    section: ClassVar[str]

    address: Address = Field(description=_ADDRESS)
    reflection: bool = Field(False, description="server reflection, for grpcurl and `buf curl`")
    allow_plaintext: bool = Field(
        False, description="allow an address off loopback, which is plain text until there is TLS"
    )

    @classmethod
    def address_setting(cls) -> str:
        """The variable that says where."""
        return f"WATCHWORD_{cls.section}__ADDRESS"

    @model_validator(mode="after")
    def _check_plaintext(self) -> Self:
        host = self.address.rpartition(":")[0]
        if not (self.allow_plaintext or self.address.startswith("unix:") or is_loopback(host)):
            raise ValueError(
                "address is off loopback and would carry tokens in plain text; set "
                f"WATCHWORD_{self.section}__ALLOW_PLAINTEXT=true where the network itself is "
                "trusted"
            )
        return self


class ApiSettings(ListenerSettings):
    """Where AuthService listens."""

    section = "API"

    address: Address = Field("127.0.0.1:50051", description=_ADDRESS)
    shutdown_delay: Duration = Field(
        timedelta(0),
        le=timedelta(minutes=5),
        description="how long to go on serving as NOT_SERVING after SIGTERM",
    )
    drain_timeout: Duration = Field(
        timedelta(seconds=10),
        le=timedelta(minutes=5),
        description="how long calls in flight may take to finish after that",
    )


class AdminSettings(ListenerSettings):
    """Where AdminService listens; it belongs on a network that operators alone reach."""

    section = "ADMIN"

    address: Address = Field("127.0.0.1:50052", description=_ADDRESS)


class Service(Protocol):
    """One gRPC service: its full name and its RPCs."""

    @property
    def name(self) -> str: ...
    def methods(self) -> list[Method]: ...


class AddressTaken(Exception):
    """The address cannot be listened on; the message ends with a `hint:` line.

    `setting` is the variable that says where to listen, set or not.
    """

    def __init__(self, address: str, *, setting: str, hint: str) -> None:
        super().__init__(f"cannot listen on `{address}`\nhint: {hint}")
        self.address = address
        self.setting = setting


class GrpcServer:
    """One gRPC server of one service, with health and, where it is switched on, reflection;
    NOT_SERVING until it is told otherwise.
    """

    def __init__(self, settings: ListenerSettings, pipeline: Pipeline, service: Service) -> None:
        self._settings = settings
        self._name = service.name
        self._server = grpc.aio.server(
            options=[
                # Two processes on one port would share its calls without anybody meaning it.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", BODY_MAX_BYTES),
                ("grpc.max_metadata_size", METADATA_MAX_BYTES),
                ("grpc.absolute_max_metadata_size", METADATA_MAX_BYTES),
                # Clients may ping an idle connection twice a minute, as gateways do.
                ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
                ("grpc.keepalive_permit_without_calls", 1),
            ]
        )
        methods = {
            method.name: pipeline.handler(service.name, method) for method in service.methods()
        }
        self._server.add_generic_rpc_handlers((generic_handler(service.name, methods),))
        # As the gate names them.
        self.handlers = {f"{service.name}/{name}": handler for name, handler in methods.items()}
        self.services = [service.name, health.SERVICE_NAME]
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if settings.reflection:
            self.services.append(reflection.SERVICE_NAME)
            reflection.enable_server_reflection(self.services, self._server)

    async def start(self, address: str | None = None) -> str:
        """Listens, and returns the address with the port that it got; raises AddressTaken.

        The address is the settings' unless the gate listens there and has made another.
        """
        await self.set_serving(False)
        address = address or self._settings.address
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError:
            raise AddressTaken(
                address,
                setting=self._settings.address_setting(),
                hint=f"stop what listens there or set {self._settings.address_setting()}",
            ) from None
        await self._server.start()
        return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"

    async def set_serving(self, serving: bool) -> None:
        """Sets the health of the server and of its service."""
        status = (
            health_pb2.HealthCheckResponse.SERVING
            if serving
            else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in ("", self._name):
            await self._health.set(name, status)

    async def leave(self) -> None:
        """Answers NOT_SERVING from now on."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace_seconds: float) -> None:
        """Lets calls in flight finish for so long."""
        await self._server.stop(grace=grace_seconds)
