"""Error codes and texts of the management canister.

Rule module. Spec: interface spec, "Error codes"; the texts are the replica's, without its suggestions and links.
"""

from __future__ import annotations

from ic_types.chain_keys.key_id import KeyId
from ic_types.principal import CanisterId, Principal, SubnetId
from ic_types.reject import ErrorCode, Reject, reject
from scheduler.canister import Canister


class ManagementError(Exception):
    """A rule refuses the call; `dispatch.execute_management_call` turns it into the reject."""

    def __init__(self, why: Reject) -> None:
        super().__init__(why.message)
        self.reject = why


def _error(code: ErrorCode, text: str) -> ManagementError:
    return ManagementError(reject(code, text))


def canister_not_found(canister_id: CanisterId) -> ManagementError:
    """IC0301."""
    return _error(ErrorCode.CANISTER_NOT_FOUND, f"Canister {canister_id} not found.")


def not_controller(canister: Canister, caller: Principal) -> ManagementError:
    """IC0512."""
    known = " ".join(map(str, canister.settings.controllers))
    text = (
        f"Only the controllers of the canister {canister.canister_id} can control it.\n"
        f"Canister's controllers: {known}\nSender's ID: {caller}"
    )
    return _error(ErrorCode.CANISTER_INVALID_CONTROLLER, text)


def delete_self(canister_id: CanisterId) -> ManagementError:
    """IC0512."""
    return _error(ErrorCode.CANISTER_INVALID_CONTROLLER, f"Canister {canister_id} cannot delete itself.")


def delete_not_stopped(canister_id: CanisterId) -> ManagementError:
    """IC0510."""
    return _error(ErrorCode.CANISTER_NOT_STOPPED, f"Canister {canister_id} must be stopped before it is deleted.")


def delete_queue_not_empty(canister_id: CanisterId) -> ManagementError:
    """IC0203."""
    text = f"Canister {canister_id} has messages in its queues and cannot be deleted now. Please retry after some time."
    return _error(ErrorCode.CANISTER_QUEUE_NOT_EMPTY, text)


def not_enough_to_create(sent: int, required: int) -> ManagementError:
    """IC0403."""
    text = (
        f"Creating a canister requires a fee of {required} that is deducted from the canister's initial balance "
        f"but only {sent} cycles were received with the create_canister request."
    )
    return _error(ErrorCode.INSUFFICIENT_CYCLES_FOR_CREATE_CANISTER, text)


def out_of_canister_ids() -> ManagementError:
    """IC0101."""
    text = "Could not create canister. Subnet has surpassed its canister ID allocation."
    return _error(ErrorCode.SUBNET_OVERSUBSCRIBED, text)


def specified_id_taken(canister_id: CanisterId) -> ManagementError:
    """IC0538."""
    return _error(ErrorCode.CANISTER_ALREADY_INSTALLED, f"Canister {canister_id} is already installed.")


def specified_id_elsewhere(canister_id: CanisterId, subnet: SubnetId) -> ManagementError:
    """IC0405."""
    text = f"Unsuccessful validation of specified ID: Specified CanisterId {canister_id} is not hosted by subnet {subnet}."
    return _error(ErrorCode.CANISTER_NOT_HOSTED_BY_SUBNET, text)


def not_empty(canister_id: CanisterId) -> ManagementError:
    """IC0514."""
    text = (
        f"Canister {canister_id} cannot be installed because the canister is not empty. "
        "Try installing with mode='reinstall' instead."
    )
    return _error(ErrorCode.CANISTER_NON_EMPTY, text)


def install_rate_limited(canister_id: CanisterId) -> ManagementError:
    """IC0209."""
    text = (
        f"Canister {canister_id} is rate limited because it executed too many instructions in the previous install_code "
        "messages. Please retry installation after several minutes."
    )
    return _error(ErrorCode.CANISTER_INSTALL_CODE_RATE_LIMITED, text)


def install_not_enough_cycles(why: Reject) -> ManagementError:
    """IC0207."""
    return _error(ErrorCode.CANISTER_OUT_OF_CYCLES, f"Canister installation failed with `{why.message}`.")


def missing_upgrade_option(text: str) -> ManagementError:
    """IC0504."""
    return _error(ErrorCode.CANISTER_CONTRACT_VIOLATION, f"Missing upgrade option: {text}")


def invalid_upgrade_option(text: str) -> ManagementError:
    """IC0504."""
    return _error(ErrorCode.CANISTER_CONTRACT_VIOLATION, f"Invalid upgrade option: {text}")


def out_of_range(setting: str, allowed: str, found: int) -> ManagementError:
    """IC0504."""
    return _error(ErrorCode.CANISTER_CONTRACT_VIOLATION, f"{setting} expected to be in the range of {allowed}, got {found}")


def invalid_payload(text: str) -> ManagementError:
    """IC0408."""
    return _error(ErrorCode.INVALID_MANAGEMENT_PAYLOAD, text)


def compute_not_affordable(percent: int, missing: int) -> ManagementError:
    """IC0530."""
    text = (
        f"Cannot increase compute allocation to {percent}% due to insufficient cycles. "
        f"At least {missing:_} additional cycles are required."
    )
    return _error(ErrorCode.INSUFFICIENT_CYCLES_IN_COMPUTE_ALLOCATION, text)


def memory_not_affordable(allocated: int, missing: int) -> ManagementError:
    """IC0531."""
    text = (
        f"Cannot increase memory allocation to {allocated} due to insufficient cycles. "
        f"At least {missing:_} additional cycles are required."
    )
    return _error(ErrorCode.INSUFFICIENT_CYCLES_IN_MEMORY_ALLOCATION, text)


def compute_oversubscribed(percent: int, available: int) -> ManagementError:
    """IC0101."""
    text = (
        f"Canister requested a compute allocation of {percent}% which cannot be satisfied because the Subnet's remaining "
        f"compute capacity is {available}%."
    )
    return _error(ErrorCode.SUBNET_OVERSUBSCRIBED, text)


def memory_oversubscribed(requested: int, available: int) -> ManagementError:
    """IC0101."""
    text = f"Canister requested {requested} of memory but only {available} are available in the subnet."
    return _error(ErrorCode.SUBNET_OVERSUBSCRIBED, text)


def reserved_limit_too_low(reserved: int, limit: int) -> ManagementError:
    """IC0540."""
    text = f"Cannot set the reserved cycles limit {limit} below the reserved cycles balance of the canister {reserved}."
    return _error(ErrorCode.RESERVED_CYCLES_LIMIT_IS_TOO_LOW, text)


def reserved_limit_in_allocation(allocated: int, reserved: int, limit: int) -> ManagementError:
    """IC0533."""
    text = (
        f"Cannot increase memory allocation to {allocated} due to its reserved cycles limit. "
        f"The current limit ({limit:_}) would be exceeded by {reserved - limit:_}."
    )
    return _error(ErrorCode.RESERVED_CYCLES_LIMIT_EXCEEDED_IN_MEMORY_ALLOCATION, text)


def reserved_limit_in_growth(grown: int, reserved: int, limit: int) -> ManagementError:
    """IC0534."""
    text = (
        f"Canister cannot grow memory by {grown} bytes due to its reserved cycles limit. "
        f"The current limit ({limit:_}) would be exceeded by {reserved - limit:_}."
    )
    return _error(ErrorCode.RESERVED_CYCLES_LIMIT_EXCEEDED_IN_MEMORY_GROW, text)


def key_not_held(subnet: SubnetId, key: KeyId) -> ManagementError:
    """IC0406."""
    return _error(ErrorCode.CANISTER_REJECTED_MESSAGE, f"Subnet {subnet} does not hold threshold key {key}.")


def rejected(text: str) -> ManagementError:
    """IC0406."""
    return _error(ErrorCode.CANISTER_REJECTED_MESSAGE, text)


def not_enough_cycles_sent(method: str, sent: int, fee: int) -> ManagementError:
    """IC0406."""
    return rejected(f"{method} request sent with {sent:_} cycles, but {fee:_} cycles are required.")


def no_bitcoin() -> ManagementError:
    """IC0406."""
    text = "No bitcoin canisters available. The Bitcoin API is not simulated."
    return _error(ErrorCode.CANISTER_REJECTED_MESSAGE, text)


def unknown_method(method: str) -> Reject:
    """IC0536, of a call by a canister."""
    return reject(ErrorCode.CANISTER_METHOD_NOT_FOUND, f"Management canister has no method '{method}'")


def unknown_method_by_user(method: str) -> Reject:
    """IC0407, at induction."""
    text = f"Cannot enqueue management message. Method {method} is unknown."
    return reject(ErrorCode.UNKNOWN_MANAGEMENT_MESSAGE, text)


def not_for_users(method: str) -> Reject:
    """IC0407, at induction."""
    text = f"Cannot enqueue management message because {method} method is not allowed to be called by a user."
    return reject(ErrorCode.UNKNOWN_MANAGEMENT_MESSAGE, text)


def undecodable_by_user() -> Reject:
    """IC0408, at induction."""
    text = "Cannot enqueue management message. Candid payload is invalid."
    return reject(ErrorCode.INVALID_MANAGEMENT_PAYLOAD, text)


def stop_cancelled(canister_id: CanisterId) -> Reject:
    """IC0511: somebody started the canister again."""
    return reject(ErrorCode.CANISTER_STOPPING_CANCELLED, f"Canister {canister_id}'s stop request was cancelled.")


def stop_timed_out() -> Reject:
    """IC0206."""
    return reject(ErrorCode.STOP_CANISTER_REQUEST_TIMEOUT, "Stop canister request timed out")


# --- access


def not_controller_or_admin(canister: Canister, caller: Principal, admins: tuple[Principal, ...]) -> ManagementError:
    """IC0541; IC0512 where there are no admins."""
    if not admins:
        return not_controller(canister, caller)
    text = (
        f"Only the controllers of the canister {canister.canister_id} or subnet admins can control it.\n"
        f"Canister's controllers: {' '.join(map(str, canister.settings.controllers))}\n"
        f"Subnet admins: {' '.join(map(str, admins))}\nSender's ID: {caller}"
    )
    return _error(ErrorCode.CANISTER_INVALID_CONTROLLER_OR_SUBNET_ADMIN, text)


def no_admins(method: str) -> ManagementError:
    """IC0406."""
    return _error(ErrorCode.CANISTER_REJECTED_MESSAGE, f"{method} is only available on subnets with subnet admins")


def not_admin(caller: Principal, admins: tuple[Principal, ...]) -> ManagementError:
    """IC0410."""
    text = f"Only subnet admins can call this method.\nSubnet admins: {' '.join(map(str, admins))}\nSender's ID: {caller}"
    return _error(ErrorCode.INVALID_SUBNET_ADMIN, text)


def status_hidden(caller: Principal) -> ManagementError:
    """IC0542."""
    return _error(ErrorCode.CANISTER_STATUS_ACCESS_DENIED, f"Caller {caller} is not allowed to read the canister status")


def snapshots_hidden(caller: Principal, method: str) -> ManagementError:
    """IC0406."""
    return _error(ErrorCode.CANISTER_REJECTED_MESSAGE, f"Caller {caller} is not allowed to call {method}")


def logs_hidden(caller: Principal) -> ManagementError:
    """IC0406."""
    return _error(ErrorCode.CANISTER_REJECTED_MESSAGE, f"Caller {caller} is not allowed to access canister logs")


def sender_elsewhere(subnet: SubnetId | None) -> ManagementError:
    """IC0504."""
    text = f"Incorrect sender subnet id: {subnet}. Sender should be on the same subnet or on the NNS subnet."
    return _error(ErrorCode.CANISTER_CONTRACT_VIOLATION, text)


def only_as_query(method: str) -> Reject:
    """IC0406, of a replicated call."""
    return reject(ErrorCode.CANISTER_REJECTED_MESSAGE, f"{method} API is only accessible in non-replicated mode")


def not_queryable(method: str) -> Reject:
    """IC0536, of a query."""
    return reject(ErrorCode.CANISTER_METHOD_NOT_FOUND, f"Query method {method} not found.")


# --- resources


def grow_not_affordable(grown: int, missing: int) -> ManagementError:
    """IC0532."""
    text = (
        f"Canister cannot grow memory by {grown} bytes due to insufficient cycles. "
        f"At least {missing:_} additional cycles are required."
    )
    return _error(ErrorCode.INSUFFICIENT_CYCLES_IN_MEMORY_GROW, text)


def snapshot_not_affordable(why: Reject) -> ManagementError:
    """IC0207."""
    return _error(ErrorCode.CANISTER_OUT_OF_CYCLES, f"Canister snapshotting failed with: `{why.message}`")


def contract_violation(text: str) -> ManagementError:
    """IC0504."""
    return _error(ErrorCode.CANISTER_CONTRACT_VIOLATION, text)


def store_not_found(store: CanisterId, subnet: SubnetId, target: CanisterId) -> ManagementError:
    """IC0504."""
    text = f"InstallChunkedCode Error: Store canister {store} was not found on subnet {subnet} of target canister {target}"
    return contract_violation(text)


def log_limit(what: str, found: int, allowed: str) -> ManagementError:
    """IC0406."""
    text = f"The canister log memory limit {found} is too {what}. It must be {allowed}."
    return _error(ErrorCode.CANISTER_REJECTED_MESSAGE, text)


def wrong_subnet(named: SubnetId, own: SubnetId) -> ManagementError:
    """IC0406."""
    text = f"Provided target subnet ID {named} does not match current subnet ID {own}."
    return _error(ErrorCode.CANISTER_REJECTED_MESSAGE, text)
