"""What is wrong with a topology, and what its user is told: file, line, key, what was found, what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.loader import load_topology
from ic_types.errors import ConfigError

GOOD = """\
name = "net"
profile = "minimal"
identities = ["alice", "bob"]

[[subnet]]
name = "nns"
type = "system"
nodes = 4

[[subnet]]
name = "app"
type = "application"
nodes = 4

[[canister]]
name = "counter"
wasm = "counter.wasm"
subnet = "app"
count = 3

[[canister]]
name = "ledger"
wasm = "ledger"
subnet = "nns"
init = '(record { symbol = "X"; minter = {identity:alice} })'

[[workload]]
name = "mint"
caller = "alice"
canister = "ledger"
method = "mint"
arg = "({identity:bob}, {rand:10})"
calls_per_round = 2
rounds = 5

[[workload]]
name = "count"
canister = "counter"
method = "inc"
arg_hex = "0100000000000000"
after = "mint"
"""

BROKEN = [
    ("broken TOML", "nodes = 4\n\n[[canister]]", "nodes = = 4\n\n[[canister]]", "is not valid TOML: Invalid value (at line 13"),
    ("an unknown top-level key", 'name = "net"', 'nam = "net"', "line 1, nam: unknown key; did you mean 'name'?"),
    (
        "an unknown key of a subnet",
        'type = "system"',
        'kind = 1\ntype = "system"',
        "line 7, subnet 'nns', kind: unknown key; known are: name, type, nodes",
    ),
    (
        "a mistyped key",
        "calls_per_round = 2",
        "call_per_round = 2",
        "line 33, workload 'mint', call_per_round: unknown key; did you mean 'calls_per_round'?",
    ),
    (
        "an unknown limit",
        "nodes = 4\n\n[[subnet]]",
        "nodes = 4\n[subnet.limits]\ninstructions_per_slise = 5\n\n[[subnet]]",
        "line 10, subnet 'nns', limits, instructions_per_slise: unknown key; did you mean 'instructions_per_slice'?",
    ),
    ("a missing key", 'type = "application"\n', "", "line 10, subnet 'app': the key 'type' is missing"),
    (
        "an unknown type",
        '"application"',
        '"aplication"',
        "line 12, subnet 'app', type: found 'aplication'; allowed are system, application, verified_application; "
        "did you mean 'application'?",
    ),
    ("an unknown profile", '"minimal"', '"tiny"', "line 2, profile: found 'tiny'; allowed are mainnet, minimal"),
    (
        "no root",
        'type = "system"',
        'type = "application"',
        'subnet: there is no root: at least one subnet must have type = "system"',
    ),
    (
        "a root of another type",
        'type = "application"',
        'type = "application"\nroot = true',
        "line 13, subnet 'app', root: the root is a system subnet",
    ),
    (
        "two roots",
        'type = "system"\nnodes = 4\n\n[[subnet]]\nname = "app"\ntype = "application"',
        'type = "system"\nroot = true\nnodes = 4\n\n[[subnet]]\nname = "app"\ntype = "system"\nroot = true',
        "subnet 'app', root: two subnets are marked as root, 'nns' is the other",
    ),
    (
        "zero nodes",
        'type = "application"\nnodes = 4',
        'type = "application"\nnodes = 0',
        "line 13, subnet 'app', nodes: found 0; allowed is 1 to 100",
    ),
    (
        "negative nodes",
        'type = "application"\nnodes = 4',
        'type = "application"\nnodes = -1',
        "nodes: found -1; allowed is 1 to 100",
    ),
    (
        "nodes in quotes",
        'type = "application"\nnodes = 4',
        'type = "application"\nnodes = "4"',
        "line 13, subnet 'app', nodes: expected a whole number, found '4'",
    ),
    ("a bool for a number", "rounds = 5", "rounds = true", "rounds: expected a whole number, found True"),
    ("a decimal for a number", "rounds = 5", "rounds = 1.5", "rounds: expected a whole number, found 1.5"),
    ("a number for a text", 'name = "app"', "name = 5", "line 11, subnet number 2, name: expected a name of letters"),
    ("a name with a space", 'name = "app"', 'name = "my app"', "name: expected a name of letters, digits, - and _"),
    (
        "two subnets of one name",
        'name = "app"',
        'name = "nns"',
        "line 11, subnet 'nns', name: the name 'nns' is taken, see line 6",
    ),
    (
        "two canisters of one name",
        'name = "ledger"',
        'name = "counter"',
        "line 22, canister 'counter', name: the name 'counter' is taken",
    ),
    (
        "a copy's name",
        'name = "ledger"',
        'name = "counter-1"',
        "canister 'counter-1', name: the canister name 'counter-1' is taken by a copy of another canister",
    ),
    ("two phases of one name", 'name = "count"', 'name = "mint"', "line 37, workload 'mint', name: the name 'mint' is taken"),
    ("an identity's name", 'name = "counter"', 'name = "bob"', "canister 'bob', name: 'bob' is also the name of an identity"),
    ("an identity twice", '["alice", "bob"]', '["alice", "bob", "bob"]', "line 3, identities: the name 'bob' stands twice"),
    ("no identity", '["alice", "bob"]', "[]", "line 3, identities: the list is empty"),
    ("the identity anonymous", '["alice", "bob"]', '["anonymous"]', "identities: 'anonymous' has a meaning of its own"),
    ("identities of numbers", '["alice", "bob"]', "[1]", "identities: expected a text or a list of texts, found 1 in the list"),
    (
        "no subnet of that name",
        'subnet = "app"',
        'subnet = "aps"',
        "line 18, canister 'counter', subnet: there is no subnet 'aps'; did you mean 'app'?",
    ),
    ("no such module", 'wasm = "counter.wasm"', 'wasm = "countr.wasm"', "countr.wasm, nor an example; did you mean 'counter'?"),
    (
        "no such module path",
        'wasm = "counter.wasm"',
        'wasm = "lib/counter.wasm"',
        "line 17, canister 'counter', wasm: there is no file",
    ),
    ("a module that is none", 'wasm = "counter.wasm"', 'wasm = "text.wasm"', "is not a Wasm module: it starts with b'hell'"),
    ("a module that is cut off", 'wasm = "counter.wasm"', 'wasm = "cut.wasm"', "is not a Wasm module: section"),
    (
        "no such service file",
        'subnet = "app"',
        'subnet = "app"\ncandid = "x.did"',
        "canister 'counter', candid: its service file is wrong",
    ),
    ("zero copies", "count = 3", "count = 0", "line 19, canister 'counter', count: found 0; allowed is 1 to 1048576"),
    (
        "too many canisters",
        "count = 3",
        "count = 3\ncycles = 5\n\n[limits]\ncanister_ids_per_subnet = 2",
        "line 19, canister 'counter', count: 3 canisters on subnet app; allowed are 2 (canister_ids_per_subnet)",
    ),
    (
        "wrong Candid",
        'init = \'(record { symbol = "X";',
        "init = '(record { symbol = 5;",
        "line 25, canister 'ledger', init: Candid text, line 1, column 20: expected text, found int 5",
    ),
    (
        "broken Candid",
        'init = \'(record { symbol = "X";',
        'init = \'(record { symbol = "X"',
        "init: Candid text, line 1, column 24: expected '}', found 'minter'",
    ),
    (
        "no init argument",
        "init = '(record { symbol = \"X\"; minter = {identity:alice} })'\n",
        "",
        "canister 'ledger', init: Candid text, line 1, column 3: argument 0 of type record",
    ),
    (
        "an unknown identity in Candid",
        "{identity:alice}",
        "{identity:alise}",
        "init: {identity:alise}: there is no identity 'alise'; did you mean 'alice'?",
    ),
    (
        "an unknown canister in Candid",
        "{identity:bob}",
        "{canister:legder}",
        "arg: {canister:legder}: there is no canister 'legder'; did you mean 'ledger'?",
    ),
    ("a caller in init", "{identity:alice}", "{caller}", "init: {caller} has no meaning here"),
    ("random below nothing", "{rand:10}", "{rand:0}", "arg: {rand:0}: expected a number above 0"),
    ("bytes and text", 'arg_hex = "0100000000000000"', 'arg_hex = "01"\narg = "()"', "arg_hex: arg is given too"),
    (
        "odd hexadecimal",
        'arg_hex = "0100000000000000"',
        'arg_hex = "010"',
        "arg_hex: expected bytes in hexadecimal, found '010'",
    ),
    (
        "an unknown caller",
        'caller = "alice"',
        'caller = ["alice", "carol"]',
        "line 29, workload 'mint', caller: there is no identity 'carol'",
    ),
    ("no caller", 'caller = "alice"', "caller = []", "caller: the list is empty"),
    (
        "an unknown target",
        'canister = "counter"',
        'canister = "conter"',
        "line 38, workload 'count', canister: there is no canister 'conter'; did you mean 'counter'?",
    ),
    (
        "an unknown method",
        'method = "inc"',
        'method = "increase"',
        "line 39, workload 'count', method: canister 'counter-0' has no method 'increase'; it exports: inc, read",
    ),
    (
        "an update that is queried",
        'method = "inc"',
        'method = "inc"\nkind = "query"',
        "kind: 'inc' of canister 'counter-0' is an update method",
    ),
    (
        "an argument that misfits",
        "({identity:bob}, {rand:10})",
        "({identity:bob})",
        "arg: Candid text, line 1, column 23: argument 1 of type nat is missing; expected are (principal, nat); "
        'with placeholders filled in it is (principal "aaaaa-aa")',
    ),
    (
        "an unknown phase",
        'after = "mint"',
        'after = "mnt"',
        "line 41, workload 'count', after: there is no earlier phase 'mnt'; there are: mint",
    ),
    (
        "a later phase",
        'name = "mint"',
        'name = "mint"\nafter = "count"',
        "workload 'mint', after: there is no earlier phase 'count'",
    ),
    (
        "an unknown kind",
        'method = "inc"',
        'method = "inc"\nkind = "updat"',
        "kind: found 'updat'; allowed are update, query; did you mean",
    ),
    (
        "an unknown expectation",
        'method = "inc"',
        'method = "inc"\nexpect = "ok"',
        "expect: found 'ok'; allowed are reply, reject, any",
    ),
    (
        "an unknown controller",
        'subnet = "app"',
        'subnet = "app"\ncontrollers = ["alise"]',
        "controllers: 'alise' is no identity, canister or principal; did you mean 'alice'?",
    ),
    (
        "too many controllers",
        'subnet = "app"',
        'subnet = "app"\ncontrollers = [' + '"bob",' * 11 + "]",
        "11 controllers; at most 10",
    ),
    (
        "cycles in words",
        'subnet = "app"',
        'subnet = "app"\ncycles = "many"',
        'cycles: expected a whole number or a text such as "5T"',
    ),
    (
        "too many cycles",
        'subnet = "app"',
        f'subnet = "app"\ncycles = {1 << 128}',
        "cycles: found 340282366920938463463374607431768211456",
    ),
    (
        "an allocation above 100",
        'subnet = "app"',
        'subnet = "app"\nsettings = { compute_allocation = 101 }',
        "canister 'counter', settings, compute_allocation: found 101; allowed is 0 to 100",
    ),
    (
        "a subnet that is no table",
        '[[subnet]]\nname = "nns"\ntype = "system"\nnodes = 4\n\n[[subnet]]',
        "[subnet]",
        "subnet: expected tables in double brackets: [[subnet]], found a table",
    ),
    (
        "a canister that is no table",
        '[[canister]]\nname = "counter"\nwasm = "counter.wasm"\nsubnet = "app"\ncount = 3\n\n[[canister]]',
        "[canister]",
        "canister: expected tables in double brackets: [[canister]], found a table",
    ),
    ("limits that are no table", 'profile = "minimal"', "limits = 5", "line 2, limits: expected a table, found 5"),
    (
        "a round shorter than a slice",
        'profile = "minimal"',
        "limits = { instructions_per_round = 5 }",
        "instructions_per_round is 5, less than the larger slice",
    ),
    ("a slice of nothing", 'profile = "minimal"', "limits = { instructions_per_slice = 0 }", "instructions_per_slice is 0"),
    (
        "a time without zone",
        'profile = "minimal"',
        "genesis_time = 2025-01-01T00:00:00",
        "genesis_time: expected a date and time with its zone",
    ),
    (
        "a time before 1970",
        'profile = "minimal"',
        "genesis_time = 1969-01-01T00:00:00Z",
        "genesis_time: 1969-01-01T00:00:00+00:00 is before 1970",
    ),
    (
        "an interval of nothing",
        'profile = "minimal"',
        "block_interval_ms = 0",
        "block_interval_ms: found 0; allowed is 1 to 86400000",
    ),
    ("a negative seed", 'profile = "minimal"', "seed = -1", "line 2, seed: found -1; allowed is 0 to 18446744073709551615"),
    (
        "an equation of one field",
        '[[workload]]\nname = "mint"',
        '[[invariant]]\nname = "x"\ncanister = "ledger"\nmethod = "audit"\nequal = ["supply"]\n\n[[workload]]\nname = "mint"',
        "invariant 'x', equal: 1 fields; an equation needs two or more",
    ),
    (
        "an equation of unknown fields",
        '[[workload]]\nname = "mint"',
        '[[invariant]]\nname = "x"\ncanister = "ledger"\nmethod = "audit"\nequal = ["supply", "sun"]\n\n'
        '[[workload]]\nname = "mint"',
        "invariant 'x', equal: the answer of 'audit' has no field 'sun'; it has: ",
    ),
]


def write(folder: Path, text: str) -> Path:
    """A topology file with some modules beside it."""
    (folder / "text.wasm").write_bytes(b"hello")
    (folder / "cut.wasm").write_bytes(b"\0asm\1\0\0\0\1\x7f")
    path = folder / "net.toml"
    path.write_text(text)
    return path


def test_the_unbroken_file_loads(tmp_path: Path) -> None:
    """All cases below break this file in one place."""
    topology = load_topology(write(tmp_path, GOOD))
    assert [c.name for c in topology.canisters] == ["counter-0", "counter-1", "counter-2", "ledger"]


@pytest.mark.parametrize(("old", "new", "message"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_broken_file_is_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    """One message that names the culprit."""
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load_topology(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_no_subnets_are_refused(tmp_path: Path) -> None:
    """Neither the key missing nor an empty list."""
    with pytest.raises(ConfigError, match="the key 'subnet' is missing"):
        load_topology(write(tmp_path, 'name = "x"'))
    with pytest.raises(ConfigError, match="there is no subnet; a network needs at least a system subnet"):
        load_topology(write(tmp_path, "subnet = []"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """With the nearest name in the folder."""
    write(tmp_path, GOOD)
    with pytest.raises(ConfigError, match=r"nets\.toml: no such file; did you mean .*net\.toml\?"):
        load_topology(tmp_path / "nets.toml")
    with pytest.raises(ConfigError, match="exist either"):
        load_topology(tmp_path / "gone" / "net.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(ConfigError, match="can't be read"):
        load_topology(tmp_path / "latin.toml")


WRONG_OPTIONS = [
    ("seed", "--set seed: expected key=value"),
    ("=5", "--set =5: expected key=value"),
    ("sed=5", "--set sed=5: sed: unknown key; did you mean 'seed'?"),
    ("seed=x", "--set seed=x: seed: expected a whole number, found 'x'"),
    ("subnet.app.nodes=0", "--set subnet.app.nodes=0: subnet 'app', nodes: found 0; allowed is 1 to 100"),
    ("subnet.apq.nodes=1", "--set subnet.apq.nodes=1: there is no subnet named 'apq'; there are: nns, app"),
    ("subnet.app=1", "--set subnet.app=1: name one of its keys too"),
    ("name.x=1", "--set name.x=1: name is no table"),
    ("limits.instructions_per_slise=1", "limits, instructions_per_slise: unknown key; did you mean 'instructions_per_slice'?"),
    ("workload.mint.arg=(5)", "--set workload.mint.arg=(5): workload 'mint', arg: Candid text"),
]


@pytest.mark.parametrize(("option", "message"), WRONG_OPTIONS)
def test_a_wrong_option_is_refused(option: str, message: str, tmp_path: Path) -> None:
    """The error names the option, not a line of the file."""
    with pytest.raises(ConfigError) as caught:
        load_topology(write(tmp_path, GOOD), [option])
    assert message in str(caught.value)


def test_wrong_numbers_of_nodes_and_seeds_are_refused(tmp_path: Path) -> None:
    """As the command line gives them."""
    with pytest.raises(ConfigError, match="--nodes 0: allowed is 1 to 100"):
        load_topology(write(tmp_path, GOOD), nodes=0)
    with pytest.raises(ConfigError, match="--seed -1: allowed is 0 to"):
        load_topology(write(tmp_path, GOOD), seed=-1)
