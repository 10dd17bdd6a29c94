"""Every key of a topology file: its type, range, default and meaning.

Rule module. The reader checks files by these tables and `icsim schema` prints them, so the two can't disagree.
Not in the spec: the file format is ours.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits, SubnetType
from ic_types.units import MAX_CYCLES

MAX_SEED = (1 << 64) - 1
MAX_NODES = 100
MAX_CALLS = 1_000_000_000


class Form(Enum):
    """What a value looks like in TOML."""

    TEXT = "a text in quotes"
    NAME = "a name of letters, digits, - and _ (at most 40, the first no - or _)"
    INT = "a whole number"
    CYCLES = 'a whole number or a text such as "5T" (K, M, B, T)'
    BOOL = "true or false"
    TEXTS = "a text or a list of texts"
    TIME = "a date and time with its zone, such as 2025-01-01T00:00:00Z"
    TABLE = "a table"
    TABLES = "tables in double brackets"
    NAMES = "a list of names, or a table of names, count and prefix"
    HEX = "bytes in hexadecimal"


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table."""

    name: str
    form: Form
    meaning: str
    required: bool = False
    low: int = 0
    high: int = (1 << 63) - 1
    choices: tuple[str, ...] = ()
    default: str = ""
    """For the reader's eyes; the value itself is in the records."""


TOPOLOGY = (
    Key("name", Form.NAME, "the network's name", default="the file's name"),
    Key("profile", Form.TEXT, "limits and fees to start from", choices=("mainnet", "minimal"), default="mainnet"),
    Key("seed", Form.INT, "enters the genesis randomness, and the workload's {rand:N}", high=MAX_SEED, default="0"),
    Key("identity_seed", Form.INT, "keys of identities, nodes and subnets derive from it", high=MAX_SEED, default="0"),
    Key("genesis_time", Form.TIME, "time of height 0", default="2025-01-01T00:00:00Z"),
    Key("block_interval_ms", Form.INT, "virtual time from round to round", low=1, high=86_400_000, default="1000"),
    Key(
        "rehash_rounds",
        Form.INT,
        "unchanged memory is hashed again within so many rounds",
        low=1,
        high=1_000_000,
        default="100",
    ),
    Key("identities", Form.NAMES, "users who sign calls", default="one, named user"),
    Key("limits", Form.TABLE, "limits of every subnet that differ from the profile's"),
    Key("fees", Form.TABLE, "fees of every subnet that differ from the profile's"),
    Key("subnet", Form.TABLES, "the subnets; one of them is the root", required=True),
    Key("canister", Form.TABLES, "the canisters, installed in this order"),
    Key("workload", Form.TABLES, "the phases of the workload"),
    Key("invariant", Form.TABLES, "what must hold at the end of a run"),
    Key("outcall", Form.TABLES, "how HTTPS outcalls are answered; the first rule that fits"),
)

IDENTITIES = (
    Key("names", Form.TEXTS, "identities with names of their own"),
    Key("count", Form.INT, "so many numbered identities: prefix-0, prefix-1, ...", high=100_000),
    Key("prefix", Form.NAME, "name of the numbered ones, and of their group", default="user"),
)

SUBNET = (
    Key("name", Form.NAME, "the subnet's name", required=True),
    Key("type", Form.TEXT, "decides limits and fees", required=True, choices=tuple(k.value for k in SubnetType)),
    Key("nodes", Form.INT, "replica nodes; one process each", required=True, low=1, high=MAX_NODES),
    Key("root", Form.BOOL, "whether it is the root (NNS) subnet", default="the first system subnet is"),
    Key("cores", Form.INT, "scheduler cores: canisters that run at the same time", low=1, high=64, default="4"),
    Key("checkpoint_interval", Form.INT, "rounds from checkpoint to checkpoint", low=1, high=1_000_000, default="500"),
    Key("fee_nodes", Form.INT, "nodes that fees are scaled to", low=1, high=1000, default="nodes"),
    Key(
        "chain_keys",
        Form.TEXTS,
        "keys it signs with for canisters: key_1 (all algorithms), ecdsa:Secp256k1:key_1, schnorr:Ed25519:key_1, ...",
        default="key_1, test_key_1 and dfx_test_key, on the first subnet that isn't the root",
    ),
    Key("held_chain_keys", Form.TEXTS, "keys of which it gives public keys, but doesn't sign with them", default="none"),
    Key("admins", Form.TEXTS, "subnet admins: identities or principals; a subnet that has any charges no fees"),
    Key("limits", Form.TABLE, "limits that differ from the profile's"),
    Key("fees", Form.TABLE, "fees that differ from the profile's"),
)

CANISTER = (
    Key("name", Form.NAME, "the canister's name", required=True),
    Key("wasm", Form.TEXT, "module: a path from this file, or a name in examples/canisters", required=True),
    Key("subnet", Form.NAME, "where it lives", required=True),
    Key("count", Form.INT, "so many copies: name-0, name-1, ...", low=1, high=1 << 20),
    Key("init", Form.TEXT, "init argument as Candid text; {i} is the copy's number", default="()"),
    Key("init_hex", Form.HEX, "init argument as bytes instead"),
    Key("candid", Form.TEXT, "service file that types its arguments", default="beside the module, or inside it"),
    Key("cycles", Form.CYCLES, "first balance", high=MAX_CYCLES, default="100T"),
    Key("controllers", Form.TEXTS, "identities, canisters or principals", default="the first identity"),
    Key("settings", Form.TABLE, "other settings"),
)

_U64 = (1 << 64) - 1
SETTINGS = (
    Key("compute_allocation", Form.INT, "percent of a core", high=100),
    Key("memory_allocation", Form.INT, "bytes", high=_U64),
    Key("freezing_threshold", Form.INT, "seconds", high=_U64),
    Key("reserved_cycles_limit", Form.CYCLES, "cycles", high=MAX_CYCLES),
    Key("wasm_memory_limit", Form.INT, "bytes", high=_U64),
    Key("wasm_memory_threshold", Form.INT, "bytes", high=_U64),
    Key("log_visibility", Form.TEXT, "who may read the log", choices=("controllers", "public")),
)

WORKLOAD = (
    Key("name", Form.NAME, "the phase's name", default="phase-0, phase-1, ..."),
    Key("caller", Form.TEXTS, "identities that call in turn; each: all of them", default="the first identity"),
    Key("canister", Form.TEXTS, "canisters that are called in turn; the name of copies means all", required=True),
    Key("method", Form.TEXT, "the method", required=True),
    Key("arg", Form.TEXT, "argument as Candid text with placeholders", default="()"),
    Key("arg_hex", Form.HEX, "argument as bytes instead"),
    Key("kind", Form.TEXT, "how it is called", choices=("update", "query"), default="update"),
    Key("expect", Form.TEXT, "what answer counts as success", choices=("reply", "reject", "any"), default="reply"),
    Key("calls_per_round", Form.INT, "calls submitted in each round", low=1, high=MAX_CALLS, default="1"),
    Key("rounds", Form.INT, "rounds in which calls are submitted", low=1, high=MAX_CALLS, default="1"),
    Key("start_round", Form.INT, "rounds to wait before the first call", high=MAX_CALLS, default="0"),
    Key("after", Form.NAME, "phase of which all calls must be answered before", default="all installs"),
)

INVARIANT = (
    Key("name", Form.TEXT, "what the final report calls it", required=True),
    Key("canister", Form.TEXTS, "canisters that are asked, each by itself", required=True),
    Key("method", Form.TEXT, "a query that answers a record", required=True),
    Key("arg", Form.TEXT, "argument as Candid text", default="()"),
    Key("arg_hex", Form.HEX, "argument as bytes instead"),
    Key("equal", Form.TEXTS, "fields of the answer that must be equal", required=True),
)

OUTCALL = (
    Key("url", Form.TEXT, "URLs that it is for; * stands for any letters", default="*"),
    Key("method", Form.TEXT, "method that it is for", choices=("get", "head", "post", "put", "delete", "patch"), default="all"),
    Key("node", Form.INT, "the only node that it is for, from 1", low=1, high=MAX_NODES, default="all"),
    Key("times", Form.INT, "how many outcalls it answers", low=1, high=MAX_CALLS, default="any number"),
    Key("status", Form.INT, "HTTP status", low=100, high=999, default="200"),
    Key("headers", Form.TEXTS, 'headers of the response, such as "content-type: text/plain"'),
    Key("body", Form.TEXTS, "body of the response; of a list the first is node 1's, and the last that of all further nodes"),
    Key("body_file", Form.TEXT, "file that holds the body instead, from this file"),
    Key("reject", Form.TEXT, "the request fails with this text instead, as if no web server answered"),
    Key("forward", Form.TEXT, "address that is asked instead, such as http://127.0.0.1:8000"),
    Key("file", Form.TEXT, "recorded answers instead, from this file: one JSON object a line"),
)

LIMITS = tuple(Key(f.name, Form.INT, "see configs/limits.py", high=1 << 60) for f in fields(SubnetLimits))
FEES = tuple(Key(f.name, Form.INT, "see configs/fees.py", high=MAX_CYCLES) for f in fields(CyclesCostSchedule))

PROFILE = (
    Key("base", Form.TEXT, "profile that this one changes", choices=("mainnet",)),
    *(Key(kind.value, Form.TABLE, f"tables limits and fees of {kind.value} subnets") for kind in SubnetType),
)
PROFILE_TYPE = (Key("limits", Form.TABLE, "limits"), Key("fees", Form.TABLE, "fees"))
