"""What a canister that signs for a user says about it, as the System API shows it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import wasmtime

from ic_types.messages import CallerInfo
from ic_types.principal import Principal
from sandbox.protocol import Finished, ReplyData
from tests.support.random_runs import opened
from tests.unit.sandbox_process.sandbox_harness import message

INFO = CallerInfo(b"name: alice", Principal.canister(3))
WAT = """(module
  (import "ic0" "msg_caller_info_data_size" (func $data_size (result i32)))
  (import "ic0" "msg_caller_info_data_copy" (func $data_copy (param i32 i32 i32)))
  (import "ic0" "msg_caller_info_signer_size" (func $signer_size (result i32)))
  (import "ic0" "msg_caller_info_signer_copy" (func $signer_copy (param i32 i32 i32)))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_reply" (func $reply))
  (memory 1)
  (func (export "canister_update who")
    (call $data_copy (i32.const 0) (i32.const 0) (call $data_size))
    (call $append (i32.const 0) (call $data_size))
    (call $signer_copy (i32.const 100) (i32.const 0) (call $signer_size))
    (call $append (i32.const 100) (call $signer_size))
    (call $reply)))"""


@pytest.mark.spec("initiating-canister-calls", condition=5)
@pytest.mark.spec("ic0.msg_caller_info_data_size")
@pytest.mark.spec("ic0.msg_caller_info_data_copy")
@pytest.mark.spec("ic0.msg_caller_info_signer_size")
@pytest.mark.spec("ic0.msg_caller_info_signer_copy")
def test_caller_info() -> None:
    """Data and signer of the message that runs; nothing for the next one, which has none."""
    with opened(bytes(wasmtime.wat2wasm(WAT))) as box:
        for info, expected in ((INFO, INFO.data + INFO.signer), (None, b"")):
            answer = box.one(replace(message("who", arg=b""), caller_info=info))
            assert isinstance(answer, Finished), answer
            assert answer.response == ReplyData(expected)
