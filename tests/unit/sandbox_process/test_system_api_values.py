"""What System API functions return and do, seen by the universal canister."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sandbox_harness import CANISTER, SUBNET, Harness, make_environment, message

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.principal import Principal
from ic_types.reject import ErrorCode
from sandbox.protocol import (
    Closure,
    EntryPoint,
    ExecutionContext,
    Finished,
    RejectMessage,
    ReplyData,
    Trapped,
)
from subnet.lab import universal as u
from subnet.lab.universal import Program

WASM = Path(__file__).resolve().parents[3] / "examples" / "canisters" / "universal.wasm"
CALLER = Principal(b"\x11" * 29)
PEER = Principal.canister(8)
BALANCE = 10**15
FEES = CyclesCostSchedule()
LIMITS = SubnetLimits()


@pytest.fixture
def box() -> Iterator[Harness]:
    """An installed universal canister; queries and updates run without committing."""
    with Harness(WASM.read_bytes(), tracking=False) as made:
        yield made


def context(**fields: Any) -> ExecutionContext:
    """A context with cycles."""
    return ExecutionContext(**{"balance": BALANCE, **fields})


def run(box: Harness, program: Program, *, within: ExecutionContext | None = None, **fields: Any) -> Any:
    """The answer of an update call with this program."""
    return box.one(message("update", arg=bytes(program), caller=CALLER, **fields), within or context())


def callback(program: Program, entry: EntryPoint, **fields: Any) -> Any:
    """The answer of a callback that runs this program: registered by a call first."""
    within = fields.pop("within", None) or context()
    with Harness(WASM.read_bytes()) as box:
        made = run(box, Program().call(PEER, "x", b"", on_reply=program, on_reject=program, on_cleanup=program))
        assert isinstance(made, Finished), made
        call = made.calls[0]
        closures = {EntryPoint.REPLY: call.on_reply, EntryPoint.REJECT: call.on_reject, EntryPoint.CLEANUP: call.on_cleanup}
        return box.one(message("", entry, closure=closures[entry], caller=CALLER, **fields), within)


def replied(answer: Any) -> bytes:
    """The bytes of a reply."""
    assert isinstance(answer, Finished), answer
    assert isinstance(answer.response, ReplyData), answer
    return answer.response.data


def number(answer: Any) -> int:
    """A reply as a little-endian number."""
    return int.from_bytes(replied(answer), "little")


# --- who and where


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (u.caller(), CALLER),
        (u.self_id(), CANISTER),
        (u.subnet_self(), SUBNET),
        (u.root_key(), b"root key"),
        (u.time().to_blob(), (42).to_bytes(8, "little")),
        (u.canister_version().to_blob(), (9).to_bytes(8, "little")),
        (u.canister_status().to_blob(), (2).to_bytes(8, "little")),
        (u.in_replicated_execution().to_blob(), (1).to_bytes(8, "little")),
        (u.deadline().to_blob(), (77).to_bytes(8, "little")),
        (u.certificate_present().to_blob(), bytes(8)),
        (u.is_controller(CALLER).to_blob(), (1).to_bytes(8, "little")),
        (u.is_controller(PEER).to_blob(), bytes(8)),
        (u.env_var_count().to_blob(), (2).to_bytes(8, "little")),
        (u.env_var_value("mode"), b"fast"),
        (u.cost_create_canister(), FEES.canister_creation.to_bytes(16, "little")),
        (u.cost_call(3, 10), FEES.call(13, LIMITS.instructions_per_message, LIMITS.max_payload).to_bytes(16, "little")),
    ],
)
def test_what_a_canister_learns(box: Harness, expression: Any, expected: bytes) -> None:
    """Facts about caller, canister, subnet and costs come from input, context and environment."""
    within = context(
        canister_version=9, status=2, controllers=(CALLER,), environment_variables=(("mode", "fast"), ("level", "3"))
    )
    assert replied(run(box, Program().reply(expression), within=within, deadline_ns=77)) == bytes(expected)


def test_missing_variable_traps(box: Harness) -> None:
    """The value of a variable that isn't set can't be asked for."""
    answer = run(box, Program().reply(u.env_var_value("none")))
    assert isinstance(answer, Trapped)
    assert answer.message.startswith("Canister violated contract: Environment variable none not found.")


def test_principal_of_30_bytes_traps(box: Harness) -> None:
    """is_controller takes principals only."""
    answer = run(box, Program().drop(u.is_controller(b"x" * 30)))
    assert (answer.error_code, answer.message.split(".")[0]) == (504, "Canister provided invalid principal id")


def test_certificate_of_a_query(box: Harness) -> None:
    """A non-replicated query reads its certificate."""
    program = Program().reply(u.certificate_present().to_blob().concat(u.certificate()))
    item = message("query", EntryPoint.QUERY, arg=bytes(program), replicated=False, data_certificate=b"signed")
    assert replied(box.one(item)) == (1).to_bytes(8, "little") + b"signed"
    absent = box.one(message("query", EntryPoint.QUERY, arg=bytes(program), replicated=False))
    assert absent.error_code == ErrorCode.CANISTER_CONTRACT_VIOLATION


# --- answering


def test_reply_is_assembled(box: Harness) -> None:
    """Appended pieces make the reply."""
    assert replied(run(box, Program().append("one ").append("two").send_reply())) == b"one two"


def test_reject(box: Harness) -> None:
    """A reject drops appended data."""
    assert run(box, Program().append("x").reject("no")).response == RejectMessage("no")


@pytest.mark.parametrize(
    "program",
    [
        Program().reply("a").reply("b"),
        Program().reply("a").reject("b"),
        Program().reject("a").append("b"),
        Program().reject(b"\xff"),
    ],
    ids=["twice", "reply then reject", "append after reject", "not UTF-8"],
)
def test_answering_against_the_rules_traps(box: Harness, program: Program) -> None:
    """A second answer or invalid text breaks the contract."""
    answer = run(box, program)
    assert isinstance(answer, Trapped)
    assert answer.error_code == ErrorCode.CANISTER_CONTRACT_VIOLATION


@pytest.mark.parametrize("fields", [{"already_responded": True}, {"may_reply": False}])
def test_nobody_to_answer_to(fields: dict[str, bool]) -> None:
    """A call context that has responded, or has nobody waiting, can't be answered."""
    answer = callback(Program().reply("late"), EntryPoint.REPLY, **fields)
    assert answer.message.startswith("Canister violated contract: ic0.msg_reply_data_append: the call is already replied")


def test_reply_may_be_so_large(box: Harness) -> None:
    """Two MiB in replicated execution, three in a query."""
    full = Program().append(u.blob(b"x").repeat(LIMITS.max_payload)).send_reply()
    assert len(replied(run(box, full))) == LIMITS.max_payload
    over = Program().append(u.blob(b"x").repeat(LIMITS.max_payload)).append("y").send_reply()
    assert "cannot be larger than 2097152" in run(box, over).message
    query = box.one(message("query", EntryPoint.QUERY, arg=bytes(over), replicated=False))
    assert len(replied(query)) == LIMITS.max_payload + 1


# --- callbacks


def test_reply_callback() -> None:
    """The reply is the argument; reject code and refund say what came back."""
    program = Program().reply(u.argument().concat(u.reject_code().to_blob()).concat(u.cycles_refunded()))
    answer = callback(program, EntryPoint.REPLY, arg=b"data", cycles_refunded=5)
    assert replied(answer) == b"data" + bytes(8) + (5).to_bytes(16, "little")


def test_reject_callback() -> None:
    """Code and message of the reject are readable."""
    program = Program().reply(u.reject_code().to_blob().concat(u.reject_message()))
    answer = callback(program, EntryPoint.REJECT, reject_code=4, reject_message="né")
    assert replied(answer) == (4).to_bytes(8, "little") + "né".encode()


def test_cleanup_callback_may_not_call() -> None:
    """A cleanup callback runs, but has no calls."""
    assert isinstance(callback(Program().print("bye"), EntryPoint.CLEANUP), Finished)
    answer = callback(Program().call(PEER, "x"), EntryPoint.CLEANUP)
    assert '"ic0_call_new" cannot be executed in cleanup mode' in answer.message


def test_callback_that_is_not_in_the_table(box: Harness) -> None:
    """An index without function is its own error."""
    answer = box.one(message("", EntryPoint.REPLY, closure=Closure(10_000, 0)))
    assert answer.error_code == ErrorCode.CANISTER_FUNCTION_NOT_FOUND


# --- calls


def test_call_leaves_with_everything(box: Harness) -> None:
    """Callee, method, argument, cycles, callbacks and timeout arrive at the node."""
    answer = run(box, Program().call(PEER, "method", "argument", cycles=1000, timeout_s=20, on_cleanup=Program().print("x")))
    (call,) = answer.calls
    assert (call.callee, call.method, call.arg, call.cycles, call.timeout_s) == (PEER, "method", b"argument", 1000, 20)
    assert call.on_cleanup is not None


def test_timeout_is_bounded(box: Harness) -> None:
    """More than the system's longest wait is the longest wait."""
    assert run(box, Program().call(PEER, "m", timeout_s=10_000)).calls[0].timeout_s == 300


NOT_PERFORMED = Program().reply("not performed")


@pytest.mark.parametrize(
    ("within", "performed"),
    [
        ({}, 2),
        ({"output_slots": ((PEER, 1),)}, 1),
        ({"output_slots": ((PEER, 0),)}, 0),
        ({"callbacks_available": 1}, 1),
        ({"balance": FEES.call(1, LIMITS.instructions_per_message, LIMITS.max_payload)}, 1),
        ({"balance": FEES.call(1, LIMITS.instructions_per_message, LIMITS.max_payload) - 1}, 0),
    ],
    ids=["plenty", "one slot", "no slot", "one callback", "cycles for one", "too few cycles"],
)
def test_calls_need_room_and_cycles(box: Harness, within: dict[str, Any], performed: int) -> None:
    """call_perform says 2 when queue, callbacks or cycles don't suffice, and own calls count."""
    program = Program()
    for _ in range(2):
        program = program.call(PEER, "m", if_not_performed=Program().print("2"))
    answer = run(box, program, within=context(**within))
    assert len(answer.calls) == performed
    assert answer.logs == (b"2",) * (2 - performed)


def test_cycles_return_when_a_call_is_not_performed(box: Harness) -> None:
    """A call that can't be made gives its cycles back to the balance."""
    program = Program().call(PEER, "m", cycles=50, if_not_performed=Program()).reply(u.cycles_balance())
    answer = run(box, program, within=context(output_slots=((PEER, 0),)))
    assert number(answer) == BALANCE


def test_more_cycles_than_there_are(box: Harness) -> None:
    """Attaching beyond the liquid balance breaks the contract."""
    answer = run(box, Program().call(PEER, "m", cycles=BALANCE + 1))
    assert (answer.error_code, answer.message) == (504, f"Canister {CANISTER} is out of cycles")


def test_payload_limit(box: Harness) -> None:
    """An argument beyond the limit of the own subnet traps."""
    answer = run(box, Program().call(PEER, "m", u.blob(b"x" * 1024).repeat(10 * 1024)))
    assert "exceeded the allowed limit local-subnet 10485760" in answer.message


# --- cycles


def test_balances(box: Harness) -> None:
    """The liquid balance leaves out what keeps the canister from freezing."""
    within = context(memory_usage=1 << 30, freezing_threshold_s=2_592_000, reserved_balance=7)
    threshold = FEES.freezing_threshold(
        memory_usage=1 << 30, message_memory=0, compute_allocation=0, freezing_threshold_s=2_592_000, reserved_balance=7
    )
    assert threshold > 0
    assert number(run(box, Program().reply(u.cycles_balance()), within=within)) == BALANCE
    assert number(run(box, Program().reply(u.liquid_balance()), within=within)) == BALANCE - threshold


def test_cycles_are_accepted(box: Harness) -> None:
    """Accepting moves cycles from call to balance; after the answer nothing is left."""
    wide = 1 << 70
    program = Program().append(u.cycles_accept(10)).append(u.cycles_available()).append(u.cycles_balance())
    program = program.send_reply().print(u.cycles_available())
    answer = run(box, program, within=context(cycles_available=wide))
    parts = [int.from_bytes(replied(answer)[k : k + 16], "little") for k in (0, 16, 32)]
    assert parts == [10, wide - 10, BALANCE + 10]
    assert answer.cycles_accepted == 10
    assert answer.logs == (bytes(16),)


def test_cycles_are_burned(box: Harness) -> None:
    """No more than the liquid balance can be burned."""
    answer = run(box, Program().reply(u.cycles_burn(2 * BALANCE)))
    assert number(answer) == answer.cycles_burned == BALANCE


# --- time, timers, counters, certified data


def test_timer_returns_the_previous_value(box: Harness) -> None:
    """The first call sees the canister's timer, the next one its own value."""
    answer = run(
        box, Program().append(u.set_timer(50).to_blob()).reply(u.set_timer(60).to_blob()), within=context(global_timer=7)
    )
    assert replied(answer) == (7).to_bytes(8, "little") + (50).to_bytes(8, "little")
    assert answer.global_timer == 60


def test_performance_counters(box: Harness) -> None:
    """Kind 0 counts this message, kind 1 adds earlier ones of the call context, others trap."""
    program = Program().append(u.performance_counter(0).to_blob()).reply(u.performance_counter(1).to_blob())
    answer = run(box, program, within=context(call_context_instructions=10**9))
    first, second = (int.from_bytes(replied(answer)[k : k + 8], "little") for k in (0, 8))
    assert 0 < first < answer.instructions
    assert 10**9 + first < second < 10**9 + answer.instructions
    bad = run(box, Program().drop(u.performance_counter(2)))
    assert bad.message == "Canister violated contract: Error getting performance counter type 2"


def test_certified_data(box: Harness) -> None:
    """Up to 32 bytes."""
    assert run(box, Program().certified_data("x" * 32)).certified_data == b"x" * 32
    assert "Found 33 bytes" in run(box, Program().certified_data("x" * 33)).message


def test_inspect_message(box: Harness) -> None:
    """Inspecting sees the method name, accepts once, and can't be asked twice."""
    answer = box.one(message("some method", EntryPoint.INSPECT_MESSAGE, arg=b"", replicated=False))
    assert isinstance(answer, Finished)
    assert answer.accepted


# --- logs


def test_log_keeps_the_newest(box: Harness) -> None:
    """Records are trimmed to the log's size, and old ones make room."""
    assert run(box, Program().print("a").print("b")).logs == (b"a", b"b")
    assert run(box, Program().print("a").print("x" * 5000)).logs == (b"x" * (4096 - 40),)
    assert run(box, Program().print_out_of_bounds()).logs == (b"(debug_print message out of memory bounds)",)


PRINTING = """(module (import "ic0" "debug_print" (func $print (param i32 i32))) (memory 1)
 (func (export "canister_update go")
  (call $print (i32.const 0) (i32.const 3000)) (call $print (i32.const 0) (i32.const 2000))))"""


@pytest.mark.parametrize(("subnet", "printed"), [("application", 0), ("system", 3000 + 2000)])
def test_printing_is_charged_by_size_and_room_in_the_log(subnet: str, printed: int) -> None:
    """Twice the bytes, 50 for each that finds room in the log of 4096, and on system subnets one for each that is printed."""
    with Harness(PRINTING, environment=make_environment(subnet_type=subnet)) as box:
        calls = 1 + 2 * (1 + 1 + 5 + 100)
        # Of 4096 bytes the first record leaves 4096 - 3000 - 40; the second doesn't find room for all of it.
        logged = 2 * (3000 + 2000) + 50 * (3000 + (4096 - 3040))
        assert box.one(message()).instructions == calls + logged + printed


def test_trap_is_logged(box: Harness) -> None:
    """A failed message leaves its log, with the reason as last record."""
    assert run(box, Program().print("a").trap("oh")).logs == (b"a", b"[TRAP]: oh")
    assert run(box, Program().trap("")).logs == (b"[TRAP]: (no message)",)
    assert run(box, Program().unreachable()).logs == (b"[TRAP]: unreachable",)


# --- memory growth


def test_heap_grows_within_the_limits(box: Harness) -> None:
    """Growth succeeds while canister and subnet have room."""
    assert isinstance(run(box, Program().drop(u.memory_grow(1))), Finished)
    assert run(box, Program().drop(u.memory_grow(1)), within=context(subnet_memory_available=65535)).error_code == 507
    limited = run(box, Program().drop(u.memory_grow(1)), within=context(wasm_memory_limit=65536))
    assert limited.error_code == ErrorCode.CANISTER_WASM_MEMORY_LIMIT_EXCEEDED
    assert number(run(box, Program().reply_int(u.memory_grow(1 << 20)))) & 0xFFFFFFFF == 0xFFFFFFFF


def test_growth_must_not_freeze_the_canister(box: Harness) -> None:
    """An update that would need more cycles than it has traps; a controller is told how many are missing."""
    poor = {"balance": 1, "freezing_threshold_s": 10**9}
    answer = run(box, Program().drop(u.memory_grow(1)), within=context(**poor))
    assert answer.error_code == ErrorCode.INSUFFICIENT_CYCLES_IN_MEMORY_GROW
    assert "additional cycles" not in answer.message
    answer = run(box, Program().drop(u.stable_grow(1)), within=context(**poor, controllers=(CALLER,)))
    assert "additional cycles are required" in answer.message
    assert isinstance(callback(Program().drop(u.memory_grow(1)), EntryPoint.REPLY, within=context(**poor)), Finished)


@pytest.mark.spec("rule-message-execution", condition=12)
def test_growth_reserves_cycles_on_a_full_subnet(box: Harness) -> None:
    """Above the subnet's threshold; not beyond the canister's limit (IC0534), nor more than there are (IC0532)."""
    threshold, capacity = (n // LIMITS.scheduler_cores for n in (LIMITS.subnet_memory_threshold, LIMITS.subnet_memory_capacity))
    usage = threshold + (64 << 30)
    grow = Program().drop(u.stable_grow(16)).reply(u.cycles_balance())
    amount = FEES.storage_reservation(1 << 20, usage, threshold, capacity)
    assert amount > 0
    full = {"subnet_memory_usage": usage, "balance": amount + 10**12}
    assert number(run(box, grow, within=context(**full, reserved_cycles_limit=amount))) == 10**12
    answer = run(box, grow, within=context(**full, reserved_cycles_limit=amount - 1))
    assert answer.error_code == ErrorCode.RESERVED_CYCLES_LIMIT_EXCEEDED_IN_MEMORY_GROW
    text = f"due to its reserved cycles limit. The current limit ({amount - 1:_}) would be exceeded by 1."
    assert text in answer.message
    answer = run(box, grow, within=context(**{**full, "balance": amount - 1}))
    assert answer.error_code == ErrorCode.INSUFFICIENT_CYCLES_IN_MEMORY_GROW
    allocated = context(**full, memory_allocation=10 << 20, reserved_cycles_limit=0)
    assert number(run(box, grow, within=allocated)) == amount + 10**12


def test_stable_memory_grows(box: Harness) -> None:
    """Growth beyond what the subnet has is refused without a trap."""
    assert number(run(box, Program().append(u.stable_grow(2).to_blob()).reply(u.stable_size().to_blob()))) == 2 << 64
    refused = run(box, Program().reply_int(u.stable_grow(2)), within=context(subnet_memory_available=65536))
    assert number(refused) == (1 << 64) - 1
    huge = run(box, Program().reply_int(u.stable_grow(1 << 40)))
    assert number(huge) == (1 << 64) - 1


def test_environment_is_the_sandboxs() -> None:
    """Another environment is another canister."""
    environment = make_environment(canister_id=PEER)
    with Harness(WASM.read_bytes(), tracking=False, environment=environment) as other:
        assert replied(run(other, Program().reply(u.self_id()))) == PEER
