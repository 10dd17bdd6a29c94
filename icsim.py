"""The Python API: networks of real canisters in scripts, notebooks and tests.

Plumbing: names what lives in `subnet.lab`, imported when it is first used.

    import icsim

    with icsim.network("configs/quickstart.toml", nodes=1) as net:
        net.canisters["gold"].call("mint", net.identities["trader-0"], 500, as_="minter")
        print(net.canisters["gold"].query("balance_of", net.identities["trader-0"]))

docs/python_api.md tells more.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from configs.topology import Topology
    from ic_types.candid.values import FuncRef, Some
    from ic_types.errors import BadInput, CandidError, ConfigError, DivergenceError, IcsimError, NetworkError
    from ic_types.identity import AnonymousIdentity, Ed25519Identity
    from ic_types.principal import Principal
    from subnet.lab.async_network import AsyncCanister, AsyncNetwork
    from subnet.lab.calls import CallRejected
    from subnet.lab.canister import Canister, LogEntry, PendingCall
    from subnet.lab.invariants import CyclesAudit, Invariant
    from subnet.lab.network import Network, Subnet
    from subnet.lab.renaming import ORCHESTRATOR
    from subnet.lab.starter import NetworkStarter, network

_HOME = {
    "AnonymousIdentity": "ic_types.identity",
    "AsyncCanister": "subnet.lab.async_network",
    "AsyncNetwork": "subnet.lab.async_network",
    "BadInput": "ic_types.errors",
    "CallRejected": "subnet.lab.calls",
    "CandidError": "ic_types.errors",
    "Canister": "subnet.lab.canister",
    "ConfigError": "ic_types.errors",
    "CyclesAudit": "subnet.lab.invariants",
    "DivergenceError": "ic_types.errors",
    "Ed25519Identity": "ic_types.identity",
    "FuncRef": "ic_types.candid.values",
    "IcsimError": "ic_types.errors",
    "Invariant": "subnet.lab.invariants",
    "LogEntry": "subnet.lab.canister",
    "Network": "subnet.lab.network",
    "NetworkError": "ic_types.errors",
    "NetworkStarter": "subnet.lab.starter",
    "ORCHESTRATOR": "subnet.lab.renaming",
    "PendingCall": "subnet.lab.canister",
    "Principal": "ic_types.principal",
    "Some": "ic_types.candid.values",
    "Subnet": "subnet.lab.network",
    "Topology": "configs.topology",
    "network": "subnet.lab.starter",
}

__all__ = [
    "ORCHESTRATOR",
    "AnonymousIdentity",
    "AsyncCanister",
    "AsyncNetwork",
    "BadInput",
    "CallRejected",
    "CandidError",
    "Canister",
    "ConfigError",
    "CyclesAudit",
    "DivergenceError",
    "Ed25519Identity",
    "FuncRef",
    "IcsimError",
    "Invariant",
    "LogEntry",
    "Network",
    "NetworkError",
    "NetworkStarter",
    "PendingCall",
    "Principal",
    "Some",
    "Subnet",
    "Topology",
    "network",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that `import icsim` costs nothing."""
    if name not in _HOME:
        raise AttributeError(f"module icsim has no attribute {name!r}; it has: {', '.join(__all__)}")
    found = getattr(import_module(_HOME[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Public names, for completion."""
    return __all__
