"""One replica node without a coordinator, in this process: batches in, results out, real sandboxes.

Processes that fork (sandbox launcher, compiler) are started by `python -m tests.support.lone_helpers`, so that this process may
have used ZeroMQ and wasmtime before.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zmq

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from configs.topology import chain_key_texts
from ic_types import bls
from ic_types.candid import encoder
from ic_types.candid.types import Type
from ic_types.chain_keys.registry import ChainKeyRecord
from ic_types.messages import Ingress
from ic_types.principal import ANONYMOUS, MANAGEMENT_CANISTER, CanisterId, Principal
from ic_types.units import TimeNs
from sandbox import artefacts
from sandbox.controller import SandboxController
from sandbox.launcher import ZygoteLauncher
from subnet.coordinator.chain_key_secrets import deal_chain_keys
from subnet.coordinator.consensus_desk import ConsensusDesk
from subnet.coordinator.network_plan import SubnetPlan
from subnet.management import candid_types
from subnet.node.driver import Driver
from subnet.node.replica import Replica
from subnet.protocol import Batch, CertifiedSlice, Certify, NetworkRecord, NodeConfig, RoundResult, SubnetRecord
from subnet.state.invariants import check_invariants

ROOT = Path(__file__).resolve().parents[2]
GENESIS_NS = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
KEY_SEED = 5
"""From which the chain keys derive."""


@contextmanager
def helpers() -> Iterator[Path]:
    """A socket folder in which a launcher and a compiler listen."""
    folder = Path(tempfile.mkdtemp(prefix="icsim-test-"))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.lone_helpers", str(folder), str(ROOT / ".icsim" / "cache")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n", "the helpers don't start"
        yield folder
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def network_record(names: tuple[str, ...] = ("app",), nodes: int = 1) -> tuple[NetworkRecord, dict[str, tuple[bytes, ...]]]:
    """A registry of application subnets with `nodes` nodes each, and their key shares by name (t = n - (n - 1) // 3)."""
    records, shares = [], {}
    for position, name in enumerate(names):
        key, secret = bls.deal(f"key of {name}".encode(), nodes, nodes - (nodes - 1) // 3)
        shares[name] = secret
        records.append(
            SubnetRecord(
                subnet_id=Principal.self_authenticating(bls.to_der(key)),
                name=name,
                subnet_type="application",
                public_key=key,
                nodes=tuple(Principal.self_authenticating(f"{name}/{k}".encode()) for k in range(1, nodes + 1)),
                range_start=Principal.canister(position << 20),
                range_end=Principal.canister(((position + 1) << 20) - 1),
            )
        )
    keys = chain_keys(records[-1])
    return NetworkRecord(subnets=tuple(records), root=records[0].subnet_id, chain_keys=keys), shares


def chain_keys(holder: SubnetRecord, *names: str) -> tuple[ChainKeyRecord, ...]:
    """Keys of all algorithms that this subnet signs with, at the price of the default fees."""
    fees = CyclesCostSchedule()
    plan = SubnetPlan(
        name=holder.name,
        subnet_type=holder.subnet_type,
        nodes=len(holder.nodes),
        limits=SubnetLimits(),
        fees=fees,
        chain_keys=chain_key_texts(names or ("key_1",)),
    )
    return deal_chain_keys(KEY_SEED, [plan], [holder])


class LoneNode:
    """A replica, its controller, and convenience for making batches."""

    def __init__(self, folder: Path, network: NetworkRecord, name: str, share: bytes, index: int = 1, **options: Any) -> None:
        self.record = next(r for r in network.subnets if r.name == name)
        n = len(self.record.nodes)
        limits = options.pop("limits", SubnetLimits())
        fees = options.pop("fees", CyclesCostSchedule())
        fault_point = options.pop("fault_point", None)
        self.config = NodeConfig(
            subnet=self.record.subnet_id,
            subnet_name=name,
            node_index=index,
            node_id=self.record.nodes[index - 1],
            network=network,
            limits=limits,
            fees=fees,
            genesis_time_ns=GENESIS_NS,
            key_share=share,
            threshold=n - (n - 1) // 3,
            coordinator_endpoint="",
            socket_dir=str(folder),
            compiler_endpoint=f"ipc://{folder}/compiler",
            cache_dir=str(ROOT / ".icsim" / "cache"),
            **options,
        )
        self.context: zmq.Context[Any] = zmq.Context()
        self.controller = SandboxController(
            context=self.context,
            endpoint=f"ipc://{folder}/node-{name}-{index}-{os.urandom(4).hex()}",
            launcher=ZygoteLauncher(folder),
            artefact_loader=lambda artefact: artefacts.load(self.config.cache_dir, artefact)[1],
            environment_for=lambda canister_id: self.replica.environment_for(canister_id),
            compiler_endpoint=self.config.compiler_endpoint,
            batch_size=self.config.batch_size,
            max_sandboxes=self.config.max_sandboxes,
            max_in_flight=self.config.max_in_flight,
            name=f"{name}/{index}",
            reuse_instances=self.config.reuse_instances,
            fault_point=fault_point,
        )
        self.driver = Driver(self.controller, limits)
        self.replica = Replica(self.config, self.driver)
        self.nonce = itertools.count()
        self.desk = ConsensusDesk(KEY_SEED, 1)
        """Answers what the node asks of consensus."""

    def ingress(self, receiver: CanisterId, method: str, arg: bytes, sender: Principal = ANONYMOUS) -> Ingress:
        """A message as the coordinator would put it into a batch."""
        raw = f"{next(self.nonce)}".encode() + bytes(receiver) + method.encode() + arg
        return Ingress(
            message_id=hashlib.sha256(raw).digest(),
            sender=sender,
            receiver=receiver,
            method=method,
            arg=arg,
            expiry=TimeNs(self.replica.state.time + 240 * SECOND),
            raw_bytes=len(raw) + 200,
        )

    def round(
        self,
        *ingress: Ingress,
        slices: tuple[CertifiedSlice, ...] = (),
        checkpoint: bool = False,
        time_ns: int | None = None,
    ) -> RoundResult:
        """Execute the next batch, a second after the last one unless another time is given."""
        height = self.replica.state.height + 1
        batch = Batch(
            height=height,
            time_ns=GENESIS_NS + height * SECOND if time_ns is None else time_ns,
            randomness=hashlib.sha256(f"tape {height}".encode()).digest(),
            ingress=ingress,
            slices=slices,
            answers=self.desk.take(0, height, GENESIS_NS + height * SECOND),
            is_checkpoint=checkpoint,
        )
        result = self.replica.process(batch, lambda: ())
        self.desk.asked(0, result)
        if self.config.threshold == 1:
            signature = bls.combine(1, [(self.config.node_index, result.certification_share)])
            self.replica.certify(Certify(height=height, signature=signature))
        return result

    def call(self, receiver: CanisterId, method: str, arg: bytes, sender: Principal = ANONYMOUS, rounds: int = 50) -> bytes:
        """Submit a message and run rounds until it is answered; the reply. Raises: AssertionError with the reject."""
        message = self.ingress(receiver, method, arg, sender)
        result = self.round(message)
        for _ in range(rounds):
            for outcome in result.outcomes:
                if outcome.message_id == message.message_id:
                    assert outcome.status == "replied", f"{outcome.error_code}: {outcome.reject_message}"
                    return outcome.reply
            result = self.round()
        raise AssertionError(f"no answer to {method} within {rounds} rounds")

    def manage(self, method: str, kind: Type, value: Any, sender: Principal = ANONYMOUS) -> bytes:
        """Call the management canister as a user."""
        return self.call(MANAGEMENT_CANISTER, method, encoder.encode([kind], [value]), sender)

    def install(self, wasm: bytes, arg: bytes = b"", cycles: int = 10**15) -> CanisterId:
        """Create a canister with these cycles and install code."""
        created = self.manage("provisional_create_canister_with_cycles", candid_types.PROVISIONAL_CREATE, {"amount": cycles})
        canister_id = Principal(created[-10:])
        value = {"mode": {"install": None}, "canister_id": canister_id, "wasm_module": wasm, "arg": arg}
        self.manage("install_code", candid_types.INSTALL_CODE, value)
        return canister_id

    def check(self) -> None:
        """All invariants hold and every cycle is accounted for."""
        breaches = check_invariants([self.replica.state])
        assert not breaches, "\n".join(one.text() for one in breaches)

    def close(self) -> None:
        """End all sandboxes."""
        self.controller.close()
        self.context.destroy(linger=0)


def example(name: str) -> bytes:
    """A module of examples/canisters."""
    return (ROOT / "examples" / "canisters" / f"{name}.wasm").read_bytes()
