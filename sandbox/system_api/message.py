"""Arguments, caller, and the answer of the running message.

Rule module. Spec: System imports, `msg_*` and `accept_message`; canister interface, "Method arguments" and "Responding".
"""

from __future__ import annotations

from typing import Final

from sandbox.protocol import RejectMessage, ReplyData
from sandbox.system_api.message_state import MessageState
from sandbox.system_api.traps import contract_violation


def msg_arg_data_size(s: MessageState) -> int:
    """Length of the argument, or of the reply in a reply callback."""
    return len(s.arg)


def msg_arg_data_copy(s: MessageState, dst: int, offset: int, size: int) -> None:
    """Copy a part of the argument."""
    s.copy_to_canister("msg_arg_data_copy", "payload", dst, offset, size, s.arg)


def msg_caller_size(s: MessageState) -> int:
    """Length of the caller's principal."""
    return len(s.input.caller)


def msg_caller_copy(s: MessageState, dst: int, offset: int, size: int) -> None:
    """Copy a part of the caller's principal."""
    s.copy_to_canister("msg_caller_copy", "id", dst, offset, size, s.input.caller)


def msg_caller_info_data_size(s: MessageState) -> int:
    """Length of what a canister that signs for the caller says about it; 0 if there is none."""
    return len(_caller_info_data(s))


def msg_caller_info_data_copy(s: MessageState, dst: int, offset: int, size: int) -> None:
    """Copy a part of what a canister that signs for the caller says about it."""
    s.copy_to_canister("msg_caller_info_data_copy", "data", dst, offset, size, _caller_info_data(s))


def msg_caller_info_signer_size(s: MessageState) -> int:
    """Length of the id of the canister that signs for the caller; 0 if there is none."""
    return len(_caller_info_signer(s))


def msg_caller_info_signer_copy(s: MessageState, dst: int, offset: int, size: int) -> None:
    """Copy a part of the id of the canister that signed for the caller."""
    s.copy_to_canister("msg_caller_info_signer_copy", "signer", dst, offset, size, _caller_info_signer(s))


def msg_reject_code(s: MessageState) -> int:
    """Reject code of the response; 0 if it was a reply."""
    return s.input.reject_code


def msg_reject_msg_size(s: MessageState) -> int:
    """Length of the reject message in UTF-8."""
    return len(s.input.reject_message.encode())


def msg_reject_msg_copy(s: MessageState, dst: int, offset: int, size: int) -> None:
    """Copy a part of the reject message."""
    s.copy_to_canister("msg_reject_msg_copy", "msg", dst, offset, size, s.input.reject_message.encode())


def msg_deadline(s: MessageState) -> int:
    """Nanoseconds at which the caller stops waiting; 0 if it waits forever."""
    return s.input.deadline_ns


def msg_method_name_size(s: MessageState) -> int:
    """Length of the name of the inspected method."""
    return len(s.input.method.encode())


def msg_method_name_copy(s: MessageState, dst: int, offset: int, size: int) -> None:
    """Copy a part of the name of the inspected method."""
    s.copy_to_canister("msg_method_name_copy", "payload", dst, offset, size, s.input.method.encode())


def accept_message(s: MessageState) -> None:
    """Let the inspected message in.

    Raises: CanisterTrap when called twice.
    """
    if s.accepted:
        raise contract_violation("ic0.accept_message: the function was already called.")
    s.accepted = True


def msg_reply_data_append(s: MessageState, src: int, size: int) -> None:
    """Add to the reply.

    Raises: CanisterTrap when already answered, too large or out of bounds.
    """
    if s.replied:
        raise _already_replied("msg_reply_data_append")
    total = len(s.reply_data) + size
    if total > s.max_reply:
        raise contract_violation(
            f"ic0.msg_reply_data_append: application payload size ({total}) cannot be larger than {s.max_reply}",
            toolchain=False,
        )
    s.reply_data += s.copy_from_canister("msg.reply", src, size)


def msg_reply(s: MessageState) -> None:
    """Answer with the appended data.

    Raises: CanisterTrap when already answered.
    """
    if s.replied:
        raise _already_replied("msg_reply")
    s.response = ReplyData(bytes(s.reply_data))
    s.replied = True


def msg_reject(s: MessageState, src: int, size: int) -> None:
    """Answer with a reject.

    Raises: CanisterTrap when already answered, too large, out of bounds or not UTF-8.
    """
    if s.replied:
        raise _already_replied("msg_reject")
    if size > s.max_reply:
        raise contract_violation(
            f"ic0.msg_reject: application payload size ({size}) cannot be larger than {s.max_reply}", toolchain=False
        )
    try:
        text = s.copy_from_canister("ic0.msg_reject", src, size).decode()
    except UnicodeDecodeError:
        raise contract_violation("ic0.msg_reject: invalid UTF-8 string provided") from None
    s.response = RejectMessage(text)
    s.replied = True


def _caller_info_data(s: MessageState) -> bytes:
    info = s.input.caller_info
    return b"" if info is None else info.data


def _caller_info_signer(s: MessageState) -> bytes:
    info = s.input.caller_info
    return b"" if info is None else info.signer


def _already_replied(name: str) -> Exception:
    return contract_violation(f"ic0.{name}: the call is already replied")


FUNCTIONS: Final = (
    msg_arg_data_size, msg_arg_data_copy, msg_caller_size, msg_caller_copy, msg_caller_info_data_size,
    msg_caller_info_data_copy, msg_caller_info_signer_size, msg_caller_info_signer_copy, msg_reject_code, msg_reject_msg_size,
    msg_reject_msg_copy, msg_deadline, msg_method_name_size, msg_method_name_copy, accept_message, msg_reply_data_append,
    msg_reply, msg_reject,
)  # fmt: skip
