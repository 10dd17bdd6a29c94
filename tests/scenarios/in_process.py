"""Networks of replicas in this process: subnets of one or more nodes, real sandboxes, some of which may be killed at random.

After every round all nodes of a subnet must have the same state hash, and the invariants hold.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from configs.limits import SubnetLimits
from ic_types import bls
from ic_types.candid import encoder
from ic_types.messages import Ingress
from ic_types.principal import MANAGEMENT_CANISTER, Principal
from subnet.management import candid_types
from subnet.protocol import CertifiedSlice, Certify, IngressOutcome, SliceRequest
from subnet.state.invariants import check_invariants
from tests.scenarios.stage import NAMES, Ended
from tests.support.lone_node import GENESIS_NS, SECOND, LoneNode, network_record
from tests.support.lone_world import MAX_SLICE
from xnet.stream import Stream

USER = Principal(b"\x01a user\x02")
UNSLICED = replace(SubnetLimits(), install_code_rate_limit=10**15)
SLICED = replace(
    UNSLICED,
    instructions_per_slice=1_000_000,
    instructions_per_install_slice=200_000_000,
    instructions_per_round=220_000_000,
    instructions_per_message=2_000_000_000,
)
KILLS = 0.04
"""Of the moments at which a sandbox may be killed."""


@dataclass(frozen=True)
class Setting:
    """One cell of the matrix."""

    spread: bool
    """The canisters live on three subnets."""
    nodes: int
    sliced: bool
    kills: bool

    def __str__(self) -> str:
        parts = ("three subnets" if self.spread else "one subnet", f"{self.nodes} node{'s' if self.nodes > 1 else ''}")
        return ", ".join((*parts, "sliced" if self.sliced else "unsliced", "killed" if self.kills else "undisturbed"))


class InProcess:
    """Satisfies `stage.Network`."""

    def __init__(self, folder: Path, setting: Setting, seed: int = 1) -> None:
        names = ("one", "two", "three") if setting.spread else ("one",)
        network, shares = network_record(names, setting.nodes)
        self.dice = random.Random(f"{setting} {seed}")
        self.killed = 0
        self.dead: set[int] = set()
        options: dict[str, Any] = {"limits": SLICED if setting.sliced else UNSLICED}
        if setting.kills:
            options["fault_point"] = self._maybe_kill
        self.nodes = {
            name: [LoneNode(folder, network, name, shares[name][k], index=k + 1, **options) for k in range(setting.nodes)]
            for name in names
        }
        self.now = GENESIS_NS
        self.height = 0
        self.batch: dict[str, list[Ingress]] = {name: [] for name in names}
        self.slices: dict[str, list[CertifiedSlice]] = {name: [] for name in names}
        self.outcomes: dict[bytes, IngressOutcome] = {}
        self.homes: dict[Principal, str] = {}
        self.ids: dict[str, Principal] = {}
        for k, name in enumerate(NAMES):
            self.ids[name] = self._create(names[k % len(names)])
        for name in NAMES:
            settings = {"controllers": [USER, *self.ids.values()]}
            value = {"canister_id": self.ids[name], "settings": settings}
            self._done(
                self.send(MANAGEMENT_CANISTER, "update_settings", _encode(candid_types.UPDATE_SETTINGS, value), self.ids[name])
            )

    def _maybe_kill(self, _point: str, pid: int) -> None:
        if pid not in self.dead and self.dice.random() < KILLS:
            os.kill(pid, signal.SIGKILL)
            self.dead.add(pid)
            self.killed += 1

    def _create(self, subnet: str) -> Principal:
        arg = _encode(candid_types.PROVISIONAL_CREATE, {"amount": 10**15})
        sent = self._put(subnet, MANAGEMENT_CANISTER, "provisional_create_canister_with_cycles", arg)
        canister_id = Principal(self._done(sent)[-10:])
        self.homes[canister_id] = subnet
        return canister_id

    def _done(self, message_id: bytes) -> bytes:
        while message_id not in self.outcomes:
            self.round()
        outcome = self.outcomes[message_id]
        assert outcome.status == "replied", outcome
        return outcome.reply

    # --- for the stage

    def send(self, canister_id: Principal, method: str, arg: bytes, about: Principal) -> bytes:
        """Into the next batch."""
        return self._put(self.homes[about], canister_id, method, arg)

    def _put(self, subnet: str, canister_id: Principal, method: str, arg: bytes) -> bytes:
        message = self.nodes[subnet][0].ingress(canister_id, method, arg, USER)
        unique = hashlib.sha256(subnet.encode() + message.message_id).digest()
        self.batch[subnet].append(replace(message, message_id=unique))
        return unique

    def ended(self, message_id: bytes) -> Ended | None:
        """From the outcomes."""
        found = self.outcomes.get(message_id)
        if found is None:
            return None
        reply = found.reply if found.status == "replied" else None
        return Ended(reply, found.reject_code, found.error_code, found.reject_message)

    def round(self, seconds: int = 1) -> None:
        """One round of all subnets and nodes."""
        self.now, self.height = self.now + seconds * SECOND, self.height + 1
        batch, self.batch = self.batch, {name: [] for name in self.nodes}
        slices, self.slices = self.slices, {name: [] for name in self.nodes}
        signatures = {}
        for name, nodes in self.nodes.items():
            made = [
                node.round(*batch[name], slices=tuple(slices[name]), checkpoint=self.height % 50 == 0, time_ns=self.now)
                for node in nodes
            ]
            hashes = {one.state_hash for one in made}
            assert len(hashes) == 1, f"nodes of subnet {name} differ at height {self.height}"
            threshold = nodes[0].config.threshold
            shares = [(k + 1, one.certification_share) for k, one in enumerate(made[:threshold])]
            signatures[name] = bls.combine(threshold, shares)
            self.outcomes |= {outcome.message_id: outcome for outcome in made[0].outcomes}
        for name, nodes in self.nodes.items():
            self._certify(name, nodes, signatures[name])
        breaches = check_invariants([nodes[0].replica.state for nodes in self.nodes.values()])
        assert not breaches, "\n".join(one.text() for one in breaches)

    def _certify(self, name: str, nodes: list[LoneNode], signature: bytes) -> None:
        """Nodes take turns at making slices for the next round."""
        source = nodes[0]
        peers = [peer for peer in self.nodes if peer != name]
        requests = []
        for peer in peers:
            theirs = self.nodes[peer][0].replica.state.streams.get(source.record.subnet_id) or Stream()
            ours = source.replica.state.streams.get(self.nodes[peer][0].record.subnet_id) or Stream()
            requests.append(
                SliceRequest(
                    peer=self.nodes[peer][0].record.subnet_id,
                    message_begin=theirs.signals_end,
                    signals_begin=theirs.begin,
                    max_bytes=MAX_SLICE,
                )
                if ours.end > theirs.signals_end or ours.signals_end > theirs.begin
                else None
            )
        maker = self.height % len(nodes)
        for k, node in enumerate(nodes):
            asked = tuple(one for one in requests if one is not None) if k == maker else ()
            made = node.replica.certify(Certify(height=self.height, signature=signature, slices=asked))
            wanted = [peer for peer, one in zip(peers, requests, strict=True) if one is not None] if k == maker else []
            for peer, one in zip(wanted, made.slices, strict=True):
                if one is not None:
                    self.slices[peer].append(one)

    def close(self) -> None:
        """End all sandboxes."""
        for nodes in self.nodes.values():
            for node in nodes:
                node.close()


def _encode(kind: Any, value: Any) -> bytes:
    return encoder.encode([kind], [value])
