"""The gateway process: uvicorn on the listening socket that the zygote hands over.

Plumbing.
"""

from __future__ import annotations

import asyncio
import socket

import structlog
import uvicorn

from configs import log_setup
from ic_types import wire
from subnet import control_protocol as cp
from subnet.gateway.api import Api
from subnet.gateway.app import App
from subnet.gateway.boundary import Boundary
from subnet.gateway.caller import Caller
from subnet.gateway.canister_http import CanisterHttp
from subnet.gateway.line import Line
from subnet.gateway.web import Web
from subnet.network_config import GatewayConfig

_KEEP_ALIVE_SECONDS = 75
_BACKLOG = 2048
log = structlog.get_logger("gateway")


def run_gateway(raw: bytes, listener: socket.socket) -> int:
    """Entry for the zygote: serve until the network ends."""
    config: GatewayConfig = wire.decode(raw, GatewayConfig)
    log_setup.configure("icsim gateway", config.log_path)
    asyncio.run(_serve(config, listener))
    return 0


async def _serve(config: GatewayConfig, listener: socket.socket) -> None:
    line = Line(config.socket_dir)
    description = await line.ask(cp.Describe(), cp.Description)
    boundary = Boundary(line, description)
    caller = Caller(boundary)
    app = App(
        api=Api(boundary, config.sync_wait_s),
        web=Web(boundary, caller, CanisterHttp(caller)),
        nodes=sum(len(one.nodes) for one in description.registry.subnets),
        receive_timeout_s=config.receive_timeout_s,
        request_timeout_s=config.request_timeout_s,
    )
    log.info("gateway.started", url=config.url)
    settings = uvicorn.Config(
        app,
        http="httptools",
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        backlog=_BACKLOG,
    )
    await uvicorn.Server(settings).serve(sockets=[listener])
