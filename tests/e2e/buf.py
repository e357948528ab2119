"""Calls by `buf curl` with server reflection: no stub of ours takes part."""

import base64
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.rpc import error_details_pb2

from tests.support.processes import WatchwordProcess, run

BUF = Path(sys.executable).with_name("buf")


@dataclass(frozen=True)
class Buf:
    """`buf curl` for one server, with its service key."""

    server: WatchwordProcess

    async def call(self, method: str, **request: Any) -> dict[str, Any]:
        """Calls `watchword.v1.AuthService/METHOD`; returns the response."""
        exit_code, stdout, stderr = await self._curl(method, request)
        assert exit_code == 0, stderr
        return json.loads(stdout)

    async def refused(self, method: str, **request: Any) -> dict[str, Any]:
        """Calls and returns the error that came."""
        exit_code, _, stderr = await self._curl(method, request)
        assert exit_code != 0
        return json.loads(stderr)

    async def _curl(self, method: str, request: dict[str, Any]) -> tuple[int, str, str]:
        done = await run(
            *("curl", "--protocol", "grpc", "--http2-prior-knowledge"),
            *("-H", f"authorization: Bearer {self.server.ready['service_key']}"),
            *("-d", json.dumps(request)),
            f"http://{self.server.ready['api']}/watchword.v1.AuthService/{method}",
            program=[str(BUF)],
        )
        return done.exit_code, done.stdout, done.stderr


def reason_of(error: dict[str, Any]) -> str:
    """Returns the reason in the first detail of an error as `buf curl` prints it."""
    (detail,) = error["details"]
    assert detail["type"] == "google.rpc.ErrorInfo"
    # It prints base64 without padding.
    encoded = base64.b64decode(detail["value"] + "===")
    return error_details_pb2.ErrorInfo.FromString(encoded).reason
