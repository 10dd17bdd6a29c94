"""What a canister can learn about itself and its subnet.

Rule module. Spec: System imports, `canister_self_*`, `subnet_self_*`, `canister_status`, `canister_version`, `is_controller`,
`in_replicated_execution`, `env_var_*`.
"""

from __future__ import annotations

from typing import Final

from ic_types.principal import MAX_BYTES
from sandbox.system_api.availability import REPLICATED
from sandbox.system_api.message_state import MessageState
from sandbox.system_api.traps import contract_violation, invalid_principal

MAX_ENV_VAR_NAME: Final = 128


def canister_self_size(s: MessageState) -> int:
    """Length of the own id."""
    return len(s.environment.canister_id)


def canister_self_copy(s: MessageState, dst: int, offset: int, size: int) -> None:
    """Copy a part of the own id."""
    s.copy_to_canister("canister_self_copy", "id", dst, offset, size, s.environment.canister_id)


def subnet_self_size(s: MessageState) -> int:
    """Length of the subnet's id."""
    return len(s.environment.subnet_id)


def subnet_self_copy(s: MessageState, dst: int, offset: int, size: int) -> None:
    """Copy a part of the subnet's id."""
    s.copy_to_canister("subnet_self_copy", "id", dst, offset, size, s.environment.subnet_id)


def canister_status(s: MessageState) -> int:
    """1 running, 2 stopping, 3 stopped."""
    return s.need_context().status


def canister_version(s: MessageState) -> int:
    """The canister's version at the start of the message."""
    return s.need_context().canister_version


def is_controller(s: MessageState, src: int, size: int) -> int:
    """1 if these bytes are a controller's principal, else 0.

    Raises: CanisterTrap when they are no principal or out of bounds.
    """
    raw = s.copy_from_canister("ic0.is_controller", src, size)
    if size > MAX_BYTES:
        raise invalid_principal()
    return int(raw in s.need_context().controllers)


def in_replicated_execution(s: MessageState) -> int:
    """1 if all nodes execute this message, else 0."""
    return int(bool(s.mode & REPLICATED) and s.input.replicated)


def env_var_count(s: MessageState) -> int:
    """How many environment variables are set."""
    return len(s.need_context().environment_variables)


def env_var_name_size(s: MessageState, index: int) -> int:
    """Length of the name of a variable, in order of names."""
    return len(_name_at(s, index))


def env_var_name_copy(s: MessageState, index: int, dst: int, offset: int, size: int) -> None:
    """Copy a part of the name of a variable."""
    s.copy_to_canister("env_var_name_copy", "name", dst, offset, size, _name_at(s, index))


def env_var_name_exists(s: MessageState, name_src: int, name_size: int) -> int:
    """1 if a variable of this name is set, else 0."""
    return int(_lookup(s, "env_var_name_exists", name_src, name_size) is not None)


def env_var_value_size(s: MessageState, name_src: int, name_size: int) -> int:
    """Length of the value of a variable; traps if it isn't set."""
    return len(_value(s, "env_var_value_size", name_src, name_size))


def env_var_value_copy(s: MessageState, name_src: int, name_size: int, dst: int, offset: int, size: int) -> None:
    """Copy a part of the value of a variable; traps if it isn't set."""
    value = _value(s, "env_var_value_copy", name_src, name_size)
    s.copy_to_canister("env_var_value_copy", "value", dst, offset, size, value)


def _name_at(s: MessageState, index: int) -> bytes:
    names = sorted(name.encode() for name, _ in s.need_context().environment_variables)
    if index >= len(names):
        raise contract_violation_index(index, len(names))
    return names[index]


def contract_violation_index(index: int, length: int) -> Exception:
    """An environment variable's index is too large."""
    what = f"Environment variable index {index} is out of bounds. The number of environment variables is {length}."
    return contract_violation(what, toolchain=False)


def _lookup(s: MessageState, call: str, src: int, size: int) -> bytes | None:
    if size > MAX_ENV_VAR_NAME:
        raise contract_violation(f"ic0.{call}: the name of {size} bytes is longer than {MAX_ENV_VAR_NAME}", toolchain=False)
    try:
        name = s.copy_from_canister(f"ic0.{call} name", src, size).decode()
    except UnicodeDecodeError:
        raise contract_violation(f"ic0.{call}: invalid UTF-8 string provided") from None
    for known, value in s.need_context().environment_variables:
        if known == name:
            return value.encode()
    return None


def _value(s: MessageState, call: str, src: int, size: int) -> bytes:
    value = _lookup(s, call, src, size)
    if value is None:
        name = bytes(s.heap[src : src + size]).decode()
        raise contract_violation(f"Environment variable {name} not found.", toolchain=False)
    return value


FUNCTIONS: Final = (
    canister_self_size, canister_self_copy, subnet_self_size, subnet_self_copy, canister_status, canister_version,
    is_controller, in_replicated_execution, env_var_count, env_var_name_size, env_var_name_copy, env_var_name_exists,
    env_var_value_size, env_var_value_copy,
)  # fmt: skip
