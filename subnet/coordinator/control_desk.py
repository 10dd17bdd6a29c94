"""Clients' requests: each answered at once, or when nodes have told or made what is asked for.

Rule module. The protocol is `subnet.control_protocol`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, assert_never

import cbor2
import structlog

from ic_types.errors import EnvelopeError, IcsimError
from ic_types.principal import Principal, SubnetId
from ic_types.units import NS_PER_SECOND
from subnet import control_protocol as cp
from subnet import outcall_protocol as op
from subnet.coordinator.coordinator import Coordinator
from subnet.coordinator.network_state import Node, Subnet
from subnet.coordinator.ports import ReplyAddress
from subnet.coordinator.relay import Answer, Receiver
from subnet.coordinator.summary import summarise
from subnet.protocol import Inspect, Inspected, QueryRequest, ReadState
from subnet.zygote_protocol import Children

REQUESTS = (
    cp.Advance, op.AnswerOutcall, cp.Call, cp.Describe, cp.GetDelegations, op.GetOutcalls, cp.GetProcesses,
    cp.GetRequests, cp.GetStatus, cp.GetTime, cp.GetSummary, cp.InspectNode, cp.KillNode, cp.Query, cp.RenameCanister,
    op.SetOutcallRules, ReadState, cp.StopNetwork, cp.Submit,
)  # fmt: skip
Request = (
    cp.Advance | op.AnswerOutcall | cp.Call | cp.Describe | cp.GetDelegations | op.GetOutcalls
    | cp.GetProcesses | cp.GetRequests | cp.GetStatus | cp.GetTime | cp.GetSummary | cp.InspectNode | cp.KillNode | cp.Query
    | cp.RenameCanister | op.SetOutcallRules | ReadState | cp.StopNetwork | cp.Submit
)  # fmt: skip
log = structlog.get_logger()


class ControlDesk:
    """Answers clients."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._waiting_for_children: list[ReplyAddress] = []
        self.stop_asked: ReplyAddress | None = None
        """Who asked to stop; answered when the nodes have ended."""

    def serve(self, address: ReplyAddress, request: Request) -> None:
        """Answer a request, now or later."""
        try:
            self._serve(address, request)
        except IcsimError as error:
            self._reply(address, cp.Refused(message=str(error), exit_code=error.exit_code))

    def _reply(self, address: ReplyAddress, message: object) -> None:
        self._coordinator.ports.reply(address, message)

    def _serve(self, address: ReplyAddress, request: Request) -> None:
        match request:
            case cp.GetStatus():
                self._reply(address, self.status())
            case cp.GetTime():
                self._reply(address, self._time())
            case cp.Submit():
                self._submit(address, request)
            case cp.GetRequests():
                found = tuple(self._request(message_id) for message_id in request.message_ids)
                self._reply(address, cp.RequestStatuses(requests=found))
            case cp.Advance():
                self._coordinator.wait_for(address, request)
            case cp.Query():
                self._query(address, request)
            case cp.Call():
                self._call(address, request)
            case ReadState():
                self._coordinator.clock.asked()
                self._coordinator.relay.ask(self._place_of(request.effective_id), request, self._passer(address))
            case cp.GetDelegations():
                self._coordinator.delegations.tell(address)
            case cp.InspectNode():
                self._inspect(address, request)
            case cp.Describe():
                self._reply(address, self._describe())
            case cp.GetSummary():
                self.summary(lambda found: self._reply(address, cp.SummaryReply(json.dumps(found).encode())))
            case cp.KillNode():
                self._kill(request)
                self._reply(address, cp.Done())
            case cp.RenameCanister():
                self._coordinator.batches.renames.append(request.rename)
                self._coordinator.delegations.ranges_change()
                self._reply(address, cp.Done())
            case op.SetOutcallRules() | op.AnswerOutcall() | op.GetOutcalls():
                self._reply(address, self._outcalls(request))
            case cp.GetProcesses():
                self._waiting_for_children.append(address)
                self._coordinator.ports.list_children()
            case cp.StopNetwork():
                self.stop_asked = address
                self._coordinator.stop(request.reason)
            case _:
                assert_never(request)

    def children(self, message: Children) -> None:
        """The zygote's list of processes has come."""
        for address in self._waiting_for_children:
            self._reply(address, message)
        self._waiting_for_children = []

    # --- answers

    def status(self) -> cp.NetworkStatus:
        """How far the network is."""
        coordinator = self._coordinator
        network, book, workload = coordinator.network, coordinator.book, coordinator.driving.workload
        failure = coordinator.failure
        return cp.NetworkStatus(
            phase=phase_of(coordinator),
            height=network.height,
            time_ns=network.now,
            wall_ns=int((coordinator.ports.clock() - coordinator.started_at) * 1e9),
            subnets=tuple(self._subnet_status(subnet) for subnet in network.subnets),
            submitted=book.submitted,
            replied=book.replied,
            rejected=book.rejected + book.expired,
            pending=book.pending,
            workload_rounds=workload.rounds,
            workload_start=workload.start_height or 0,
            installed=len(network.plan.canisters) - coordinator.driving.bootstrap.open,
            workload_done=coordinator.driving.finished,
            problem=failure.message if failure else "",
            exit_code=failure.exit_code if failure else 0,
        )

    def _time(self) -> cp.NetworkTime:
        coordinator = self._coordinator
        network = coordinator.network
        healthy = network.height > 0 and coordinator.failure is None and not coordinator.stopping
        now = coordinator.clock.users_now(network.now)
        return cp.NetworkTime(height=network.height, now_ns=now, healthy=healthy)

    def _subnet_status(self, subnet: Subnet) -> cp.SubnetStatus:
        return cp.SubnetStatus(
            subnet_id=subnet.record.subnet_id,
            name=subnet.plan.name,
            subnet_type=subnet.plan.subnet_type,
            height=subnet.height,
            state_hash=subnet.state_hash,
            nodes=tuple(
                cp.NodeStatus(index=n.index, pid=n.pid, phase=n.phase.value, height=n.height, restarts=n.restarts)
                for n in subnet.nodes
            ),
            totals=dict(subnet.totals),
            pool=self._coordinator.pool.waiting(subnet.place),
        )

    def _describe(self) -> cp.Description:
        network = self._coordinator.network
        plan, genesis = network.plan, network.genesis
        return cp.Description(
            name=plan.name,
            seed=plan.seed,
            identity_seed=plan.identity_seed,
            registry=genesis.registry,
            canisters=tuple(
                cp.CanisterName(name=c.name, canister_id=c.canister_id, subnet=genesis.subnets[c.subnet].subnet_id)
                for c in plan.canisters
            ),
            identities=plan.identities,
            genesis_time_ns=plan.genesis_time_ns,
            block_interval_ns=plan.block_interval_ns,
            out_dir=self._coordinator.config.out_dir,
            ingress_ttl_ns=min(subnet.limits.ingress_ttl_s for subnet in plan.subnets) * NS_PER_SECOND,
            live=self._coordinator.clock.live,
            any_expiry=self._coordinator.config.accept_any_expiry,
            url=self._coordinator.config.url,
            max_ingress_bytes=tuple(
                network.subnets[network.by_id[one.subnet_id]].plan.limits.max_payload for one in genesis.registry.subnets
            ),
            moved=tuple((one, network.subnets[at].record.subnet_id) for one, at in self._coordinator.pool.moved.items()),
        )

    def _submit(self, address: ReplyAddress, request: cp.Submit) -> None:
        coordinator = self._coordinator
        if coordinator.failure is not None:
            raise IcsimError(f"the network has stopped making rounds: {coordinator.failure.message}")
        coordinator.door.submit(
            request.envelopes,
            request.effective_canister_id,
            lambda results: self._reply(address, cp.Submitted(results=results)),
        )

    def _request(self, message_id: bytes) -> cp.RequestStatus:
        found = self._coordinator.book.requests.get(message_id)
        if found is None:
            return cp.RequestStatus(message_id=message_id, status="unknown")
        outcome = found.outcome
        return cp.RequestStatus(
            message_id=message_id,
            status=found.status,
            submitted_height=found.submitted_height,
            answered_height=found.answered_height,
            reply=outcome.reply if outcome else b"",
            reject_code=outcome.reject_code if outcome else 0,
            reject_message=outcome.reject_message if outcome else "",
            error_code=outcome.error_code if outcome else "",
        )

    def _call(self, address: ReplyAddress, request: cp.Call) -> None:
        coordinator = self._coordinator
        if coordinator.failure is not None:
            raise IcsimError(f"the network has stopped making rounds: {coordinator.failure.message}")
        with coordinator.stages("check envelopes"):
            coordinator.call(address, request)

    def _place_of(self, effective_id: Principal) -> Subnet:
        """The subnet with this id, or of the canister with this id."""
        network = self._coordinator.network
        place = network.by_id.get(effective_id)
        if place is None:
            place = self._coordinator.pool.subnet_of(effective_id)
        if place is None:
            raise EnvelopeError(f"canister {effective_id} is in no subnet's range; `icsim status` lists the canisters")
        return network.subnets[place]

    def _query(self, address: ReplyAddress, request: cp.Query) -> None:
        self._coordinator.clock.asked()
        subnet = self._place_of(request.receiver if request.effective_id is None else request.effective_id)
        question = QueryRequest(
            cookie=0,
            sender=request.sender,
            receiver=request.receiver,
            method=request.method,
            arg=request.arg,
            request_id=request.request_id,
            caller_info=request.caller_info,
        )
        self._coordinator.relay.ask(subnet, question, self._passer(address), self._node(subnet, request.node_index))

    def _inspect(self, address: ReplyAddress, request: cp.InspectNode) -> None:
        subnet = self._subnet(request.subnet)
        question = Inspect(cookie=0, what=request.what, path=request.path)
        self._coordinator.relay.ask(subnet, question, self._passer(address), self._node(subnet, request.node_index))

    def _passer(self, address: ReplyAddress) -> Receiver:
        def receive(answer: Answer | None) -> None:
            self._reply(address, answer or cp.Refused(message="no live node could answer; `icsim status` shows them"))

        return receive

    def _subnet(self, subnet_id: SubnetId) -> Subnet:
        place = self._coordinator.network.by_id.get(subnet_id)
        if place is None:
            raise EnvelopeError(f"there is no subnet {subnet_id}; `icsim status` lists them")
        return self._coordinator.network.subnets[place]

    def _node(self, subnet: Subnet, index: int) -> Node | None:
        if index == 0:
            return None
        if not 1 <= index <= len(subnet.nodes):
            raise EnvelopeError(f"subnet {subnet.plan.name} has nodes 1 to {len(subnet.nodes)}, no node {index}")
        return subnet.nodes[index - 1]

    def _outcalls(self, request: op.SetOutcallRules | op.AnswerOutcall | op.GetOutcalls) -> cp.Done | op.OpenOutcalls:
        outcalls, subnets = self._coordinator.outcalls, self._coordinator.network.subnets
        if isinstance(request, op.GetOutcalls):
            waiting = [
                op.OpenOutcall(subnet=subnet.record.subnet_id, request=one)
                for subnet in subnets
                for one in outcalls.open_calls(subnet.place)
            ]
            return op.OpenOutcalls(outcalls=tuple(waiting))
        if isinstance(request, op.AnswerOutcall):
            subnet = self._subnet(request.subnet)
            if not outcalls.answer(subnet.place, request.call_id, request.rules):
                raise IcsimError(
                    f"subnet {subnet.plan.name} has no open outcall {request.call_id}; `icsim outcalls` lists them"
                )
        else:
            outcalls.change(request.rules, clear=request.clear)
        return cp.Done()

    def _kill(self, request: cp.KillNode) -> None:
        node = self._node(self._subnet(request.subnet), request.node_index)
        if node is None:
            raise EnvelopeError("node 0 doesn't exist; nodes are numbered from 1")
        self._coordinator.keeper.kill(node)

    def summary(self, done: Callable[[dict[str, Any]], None]) -> None:
        """Gather what the nodes tell of their canisters, then make the summary."""
        coordinator = self._coordinator
        told: dict[str, list[Any]] = {}
        missing = [subnet for subnet in coordinator.network.subnets if subnet.live()]
        if not missing:
            done(summarise(coordinator, told))
            return
        left = len(missing)

        def receiver(name: str) -> Receiver:
            def receive(answer: Answer | None) -> None:
                nonlocal left
                told[name] = _rows(answer)
                left -= 1
                if left == 0:
                    ordered = {s.plan.name: told[s.plan.name] for s in coordinator.network.subnets if s.plan.name in told}
                    done(summarise(coordinator, ordered))

            return receive

        for subnet in missing:
            coordinator.relay.ask(subnet, Inspect(cookie=0, what="canisters"), receiver(subnet.plan.name))


def phase_of(coordinator: Coordinator) -> str:
    """In one word, as `NetworkStatus.phase`."""
    if coordinator.stopping:
        return "stopping"
    if coordinator.failure is not None:
        return "failed"
    if coordinator.network.height < coordinator.replay_to:
        return "replaying"
    if coordinator.network.height == 0 and not coordinator.keeper.all_live():
        return "starting"
    if not coordinator.goals and not coordinator.rounds.height:
        return "idle"
    return "running" if coordinator.driving.installed else "installing"


def _rows(answer: Answer | None) -> list[Any]:
    if not isinstance(answer, Inspected):
        return []
    try:
        found = cbor2.loads(answer.body)
    except (cbor2.CBORDecodeError, ValueError, EOFError):
        log.error("coordinator.malformed_inspection", what="canisters")
        return []
    return found if isinstance(found, list) else []
