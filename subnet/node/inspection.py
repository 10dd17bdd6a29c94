"""What a node tells about its state on request: tables, audits, logs, and digests for finding a divergence.

Rule module. Answers are CBOR. Digests are asked level by level: `()`, then a component, a canister, a part of it, and within a
memory a group of pages; a leaf is answered with its digest itself.
"""

from __future__ import annotations

from dataclasses import asdict

import cbor2

from ic_types import canonical, wire
from ic_types.principal import CanisterId, Principal
from sandbox.controller import SandboxController
from subnet.node.rehash import Rehash
from subnet.node.replica import Replica
from subnet.protocol import Inspect, Inspected
from subnet.state.audit import audit_cycles, travelling
from subnet.state.invariants import account_of
from subnet.state.state_hash import HEAP, subnet_names


def inspect(replica: Replica, controller: SandboxController, request: Inspect) -> Inspected:
    """Answer an Inspect; an unknown `what` is answered with the known ones."""
    path = request.path
    match request.what:
        case "canisters":
            body: object = canisters(replica, controller)
        case "cycles":
            body = cycles(replica)
        case "digests":
            body = digests(replica, path)
        case "logs":
            body = logs(replica, Principal(path[0]))
        case "processes":
            pools = {"update": controller.pids("update"), "query": controller.pids("query")}
            body = {pool: {bytes(i): pid for i, pid in sorted(pids.items())} for pool, pids in pools.items()}
        case "statistics":
            body = {**asdict(controller.statistics()), "height": replica.state.height}
        case "invariants":
            body = {"height": replica.state.height, "account": wire.encode(account_of(replica.state))}
        case "read_state":
            body = replica.read_state(path)
        case _:
            known = "canisters, cycles, digests, invariants, logs, processes, read_state, statistics"
            body = {"error": f"nothing called {request.what!r} can be inspected; known: {known}"}
    return Inspected(cookie=request.cookie, body=cbor2.dumps(body))


def canisters(replica: Replica, controller: SandboxController) -> list[dict[str, object]]:
    """One row per canister."""
    pids = controller.pids("update")
    rows: list[dict[str, object]] = []
    for canister_id in replica.state.scheduler.priority.ids():
        c = replica.state.canisters[canister_id]
        rows.append(
            {
                "id": bytes(canister_id),
                "pid": pids.get(canister_id, 0),
                "status": c.status.value,
                "messages": c.metrics.messages_executed,
                "instructions": c.metrics.instructions,
                "cycles": c.balance,
                "reserved": c.reserved_balance,
                "burned": c.metrics.cycles_burned,
                "heap_pages": 0 if c.execution is None else c.execution.heap.wasm_pages,
                "stable_pages": 0 if c.execution is None else c.execution.stable.wasm_pages,
                "module_hash": b"" if c.execution is None else c.execution.module.module_hash,
                "version": c.version,
                "open_calls": len(c.callbacks),
                "changes": c.history.total,
                "snapshots": len(c.snapshots),
                "messages_queued": c.queues.has_input() or c.queues.has_output(),
                "open_contexts": len(c.contexts),
                "certified_data": c.certified_data,
                "controllers": [bytes(p) for p in c.settings.controllers],
                "candid": candid_of(replica, canister_id),
            }
        )
    return rows


def candid_of(replica: Replica, canister_id: CanisterId) -> str:
    """The canister's own service description, from its `candid:service` section.

    A private one too: who asks here runs the network. Users read it as certified metadata, by the rules for that.
    """
    execution = replica.state.canisters[canister_id].execution
    if execution is None:
        return ""
    sections = [s.content for s in execution.module.custom_sections if s.name == "candid:service"]
    return sections[0].decode("utf-8", "replace") if sections else ""


def cycles(replica: Replica) -> dict[str, object]:
    """Where all cycles are, and what travels to other subnets."""
    audit = audit_cycles(replica.state)
    state = replica.state
    causes = {f"burned: {cause.value}": amount for cause, amount in state.tally.burned.items()}
    causes |= {f"lost: {cause.value}": amount for cause, amount in state.tally.lost.items()}
    causes |= {f"lost: {cause.value}": amount for cause, amount in state.lost.by_cause.items()}
    heads = {
        bytes(peer): [stream.begin, stream.end, stream.signals_end, [signal.index for signal in stream.reject_signals]]
        for peer, stream in sorted(replica.state.streams.items())
    }
    return {
        **asdict(audit),
        "expected": audit.expected,
        "found": audit.found,
        "difference": audit.difference,
        "causes": causes,
        "travelling": travelling(state),
        "streams": heads,
        "height": state.height,
    }


def logs(replica: Replica, canister_id: CanisterId) -> list[tuple[int, int, bytes]]:
    """The canister's log: index, time in ns, content."""
    canister = replica.state.canisters.get(canister_id)
    return [] if canister is None else [(r.index, r.time, r.content) for r in canister.logs]


def digests(replica: Replica, path: tuple[bytes, ...]) -> object:
    """Digests below a path; at the top everything is read again first, so that damaged pages show."""
    known = replica.hash
    if not path:
        for canister_id in Rehash.audit_everything(replica.state):
            known.note_canister(replica.state, canister_id)
        return {label.encode(): digest for label, digest in known.components().items()}
    if path[0] == b"subnet":
        fields = {name.encode(): canonical.digest(value) for name, value in subnet_names(replica.state).items()}
        return fields if len(path) == 1 else fields.get(path[1], b"")
    if path[0] != b"canisters":
        return known.component_digests(path[0]) if len(path) == 1 else known.component_digests(path[0]).get(path[1], b"")
    if len(path) == 1:
        return known.canister_digests()
    canister_id = Principal(path[1])
    parts = known.part_digests(canister_id)
    if len(path) == 2:
        return parts
    if path[2] in (b"heap", b"stable"):
        return memory_digests(replica, canister_id, path[2], path[3:])
    return parts.get(path[2], b"")


def memory_digests(replica: Replica, canister_id: CanisterId, which: bytes, path: tuple[bytes, ...]) -> object:
    """Digests of groups of pages, of the pages of a group, or of one page."""
    canister = replica.state.canisters.get(canister_id)
    if canister is None or canister.execution is None:
        return {}
    memory = canister.execution.heap if which == HEAP else canister.execution.stable
    if not path:
        sizes = {b"size in Wasm pages": canonical.digest(memory.wasm_pages)}
        return sizes | {f"pages from {g << 8}".encode(): digest for g, digest in sorted(memory.group_digests().items())}
    if path[0].startswith(b"size"):
        return memory.wasm_pages
    group = int(path[0].split()[-1]) >> 8
    pages = memory.page_digests(group)
    if len(path) == 1:
        return {f"page {(group << 8) + k}".encode(): digest for k, digest in enumerate(pages) if any(digest)}
    return pages[int(path[1].split()[-1]) & 255]
