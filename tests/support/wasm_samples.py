"""Small canisters as text, for everybody's tests.

Each sample is a complete module in the text format with `IC0` imports already in; `compile_wat` makes bytes of it.
"""

from __future__ import annotations

import wasmtime


def compile_wat(text: str) -> bytes:
    """The binary module of a text module."""
    return bytes(wasmtime.wat2wasm(text))


def custom_section(name: str, content: bytes) -> bytes:
    """A custom section to be appended to a module's bytes; name and content shorter than 64 bytes."""
    raw = name.encode()
    body = bytes((len(raw),)) + raw + content
    assert len(body) < 128
    return bytes((0, len(body))) + body


IC0 = {
    "msg_arg_data_size": "(result i32)",
    "msg_arg_data_copy": "(param i32 i32 i32)",
    "msg_caller_size": "(result i32)",
    "msg_caller_copy": "(param i32 i32 i32)",
    "msg_reply": "",
    "msg_reply_data_append": "(param i32 i32)",
    "msg_reject": "(param i32 i32)",
    "msg_reject_code": "(result i32)",
    "msg_cycles_accept128": "(param i64 i64 i32)",
    "msg_cycles_available128": "(param i32)",
    "trap": "(param i32 i32)",
    "debug_print": "(param i32 i32)",
    "time": "(result i64)",
    "performance_counter": "(param i32) (result i64)",
    "call_new": "(param i32 i32 i32 i32 i32 i32 i32 i32)",
    "call_data_append": "(param i32 i32)",
    "call_cycles_add128": "(param i64 i64)",
    "call_on_cleanup": "(param i32 i32)",
    "call_perform": "(result i32)",
    "stable64_size": "(result i64)",
    "stable64_grow": "(param i64) (result i64)",
    "stable64_read": "(param i64 i64 i64)",
    "stable64_write": "(param i64 i64 i64)",
    "global_timer_set": "(param i64) (result i64)",
    "certified_data_set": "(param i32 i32)",
    "accept_message": "",
}


def module(body: str, *imports: str) -> str:
    """A text module with these System API imports (called by their names with `$`) before the body."""
    lines = [f'(import "ic0" "{name}" (func ${name} {IC0[name]}))' for name in imports]
    return "(module " + "\n".join(lines) + body + ")"


REPLY_WORD = """
(func $reply_word (param $word i32)
  (i32.store (i32.const 0) (local.get $word))
  (call $msg_reply_data_append (i32.const 0) (i32.const 4))
  (call $msg_reply))
"""
_REPLIES = ("msg_reply", "msg_reply_data_append")

EMPTY = "(module)"

COUNTER = module(
    """
    (memory 1)
    (global $count (mut i32) (i32.const 0))
    (func (export "canister_update inc")
      (global.set $count (i32.add (global.get $count) (i32.const 1)))
      (call $reply_word (global.get $count)))
    (func (export "canister_query get") (call $reply_word (global.get $count)))"""
    + REPLY_WORD,
    *_REPLIES,
)
"""`inc` adds one and replies with the count (4 bytes, little-endian), `get` is a query for it; the count is a global."""

HEAP_COUNTER = module(
    """
    (memory 2)
    (data (i32.const 65536) "\\05\\00\\00\\00")
    (func (export "canister_update inc")
      (i32.store (i32.const 65536) (i32.add (i32.load (i32.const 65536)) (i32.const 1)))
      (call $reply_word (i32.load (i32.const 65536))))
    (func (export "canister_query get") (call $reply_word (i32.load (i32.const 65536))))"""
    + REPLY_WORD,
    *_REPLIES,
)
"""As COUNTER with the count in the heap's second Wasm page, starting at 5 by a data segment."""

TRAP = module(
    """
    (memory 1)
    (data (i32.const 16) "that went wrong")
    (func (export "canister_update trap") (i32.store (i32.const 0) (i32.const 7)) (call $trap (i32.const 16) (i32.const 15)))
    (func (export "canister_update unreachable") unreachable)
    (func (export "canister_update divide") (drop (i32.div_u (i32.const 1) (i32.const 0))))
    (func (export "canister_update out_of_bounds") (drop (i32.load (i32.const 65536))))
    (func $deep (export "canister_update overflow") (call $deep))
    (func (export "canister_update no_reply"))
    (func (export "canister_update grow_and_trap")
      (drop (memory.grow (i32.const 3))) unreachable)
    (func (export "canister_update say") (call $debug_print (i32.const 16) (i32.const 15)) (call $msg_reply))""",
    "trap",
    "debug_print",
    "msg_reply",
)
"""Methods named after the way they fail; `say` logs and replies."""

INFINITE_LOOP = module(
    """
    (memory 1)
    (func (export "canister_update forever") (loop (br 0)))
    (func (export "canister_update spin") (local $left i32)
      ;; as many turns as the argument's four bytes say
      (call $msg_arg_data_copy (i32.const 0) (i32.const 0) (i32.const 4))
      (local.set $left (i32.load (i32.const 0)))
      (loop $turn
        (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (i32.const 1)))
        (br_if $turn (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
      (call $reply_word (i32.load (i32.const 8))))"""
    + REPLY_WORD,
    *_REPLIES,
    "msg_arg_data_copy",
)
"""`forever` never ends; `spin` turns as often as its argument (u32, little-endian, above 0) says; replies with all turns."""

ECHO = module(
    """
    (memory 64)
    (func $echo (local $size i32)
      (local.set $size (call $msg_arg_data_size))
      (call $msg_arg_data_copy (i32.const 0) (i32.const 0) (local.get $size))
      (call $msg_reply_data_append (i32.const 0) (local.get $size))
      (call $msg_reply))
    (export "canister_update echo" (func $echo))
    (export "canister_query ask" (func $echo))""",
    *_REPLIES,
    "msg_arg_data_size",
    "msg_arg_data_copy",
)
"""Replies with its argument."""

CALLER = module(
    """
    (memory 1)
    (table funcref (elem $on_reply $on_reject $on_cleanup))
    (data (i32.const 1000) "inc")
    (func (export "canister_update call")
      ;; argument: id of the canister whose `inc` is called
      (call $msg_arg_data_copy (i32.const 100) (i32.const 0) (call $msg_arg_data_size))
      (call $call_new (i32.const 100) (call $msg_arg_data_size) (i32.const 1000) (i32.const 3)
        (i32.const 0) (i32.const 11) (i32.const 1) (i32.const 22))
      (call $call_on_cleanup (i32.const 2) (i32.const 33))
      (if (call $call_perform) (then (call $reply_word (i32.const 999)))))
    (func $on_reply (param i32)
      (call $msg_arg_data_copy (i32.const 0) (i32.const 0) (call $msg_arg_data_size))
      (call $reply_word (i32.add (i32.load (i32.const 0)) (local.get 0))))
    (func $on_reject (param i32) (call $reply_word (i32.add (call $msg_reject_code) (local.get 0))))
    (func $on_cleanup (param i32) (i32.store (i32.const 500) (local.get 0)))
    (func (export "canister_query cleaned") (call $reply_word (i32.load (i32.const 500))))"""
    + REPLY_WORD,
    *_REPLIES,
    "msg_arg_data_size",
    "msg_arg_data_copy",
    "msg_reject_code",
    "call_new",
    "call_on_cleanup",
    "call_perform",
)
"""`call` calls `inc` of the canister that its argument names; replies with word + 11, reject code + 22, or 999."""

STABLE = module(
    """
    (memory 1)
    (func (export "canister_update grow")
      (call $reply_word (i32.wrap_i64 (call $stable64_grow (i64.const 1)))))
    (func (export "canister_update write") (local $size i32)
      ;; the argument goes to offset 4090, over a page border
      (local.set $size (call $msg_arg_data_size))
      (call $msg_arg_data_copy (i32.const 100) (i32.const 0) (local.get $size))
      (call $stable64_write (i64.const 4090) (i64.const 100) (i64.extend_i32_u (local.get $size)))
      (call $msg_reply))
    (func $read
      (call $stable64_read (i64.const 200) (i64.const 4090) (i64.const 16))
      (call $msg_reply_data_append (i32.const 200) (i32.const 16))
      (call $msg_reply))
    (export "canister_update read_replicated" (func $read))
    (export "canister_query read" (func $read))
    (func (export "canister_query size") (call $reply_word (i32.wrap_i64 (call $stable64_size))))"""
    + REPLY_WORD,
    *_REPLIES,
    "msg_arg_data_size",
    "msg_arg_data_copy",
    "stable64_size",
    "stable64_grow",
    "stable64_read",
    "stable64_write",
)
"""Stable memory: `grow` by one page, `write` the argument at 4090, `read` 16 bytes from there, `size`."""

CLOCK = module(
    """
    (memory 1)
    (global $beats (mut i32) (i32.const 0))
    (global $timers (mut i32) (i32.const 0))
    (func (export "canister_heartbeat") (global.set $beats (i32.add (global.get $beats) (i32.const 1))))
    (func (export "canister_global_timer") (global.set $timers (i32.add (global.get $timers) (i32.const 1))))
    (func (export "canister_update set_timer")
      (drop (call $global_timer_set (i64.add (call $time) (i64.const 1))))
      (call $msg_reply))
    (func (export "canister_query beats") (call $reply_word (global.get $beats)))
    (func (export "canister_query timers") (call $reply_word (global.get $timers)))"""
    + REPLY_WORD,
    *_REPLIES,
    "time",
    "global_timer_set",
)
"""Counts heartbeats and timers; `set_timer` sets the global timer one nanosecond after now."""

LIFECYCLE = module(
    """
    (memory 1)
    (global $steps (mut i32) (i32.const 0))
    (func $note (param i32)
      (global.set $steps (i32.add (i32.mul (global.get $steps) (i32.const 10)) (local.get 0))))
    (func $start (call $note (i32.const 1)))
    (start $start)
    (func (export "canister_init") (call $note (i32.const 2)))
    (func (export "canister_pre_upgrade") (i32.store (i32.const 64) (i32.const 3)))
    (func (export "canister_post_upgrade") (call $note (i32.const 4)))
    (func (export "canister_inspect_message") (call $accept_message))
    (func (export "canister_query steps") (call $reply_word (global.get $steps)))"""
    + REPLY_WORD,
    *_REPLIES,
    "accept_message",
)
"""`steps` shows which entry points ran, a digit each: 1 start, 2 init, 4 post_upgrade."""

WASM64 = """(module
  (import "ic0" "msg_reply" (func $msg_reply))
  (import "ic0" "msg_reply_data_append" (func $append (param i64 i64)))
  (memory i64 1)
  (func (export "canister_update inc")
    (i64.store (i64.const 8) (i64.add (i64.load (i64.const 8)) (i64.const 1)))
    (call $append (i64.const 8) (i64.const 8))
    (call $msg_reply)))
"""
"""A counter in a 64-bit heap, replying with 8 bytes."""

SAMPLES = {
    name: text for name, text in globals().items() if name.isupper() and isinstance(text, str) and text.startswith("(module")
}
"""All samples by name."""
