"""`icsim canister` and `icsim deploy` as their users see them, over a network in a dictionary."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configs.canister_reader import EXAMPLES
from ic_types.candid import types as t
from ic_types.candid.encoder import encode
from ic_types.errors import BadInput
from ic_types.principal import Principal
from subnet.cli import connection
from subnet.cli.canister_settings import amount
from subnet.cli.main import run
from subnet.cli.output import answer_json
from subnet.lab.calls import Target
from subnet.lab.canister_names import CanisterNames
from subnet.lab.identity_store import IdentityStore
from subnet.lab.interface import Interface
from tests.support.fake_link import FakeLink

FIRST = Principal.canister(0).to_text()
INIT = '(record { symbol = "G"; minter = {identity:self} })'


class Terminal:
    """Commands and what they print."""

    def __init__(self, folder: Path, link: FakeLink, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.link = link
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Standard output of a command that ends with this code."""
        found = run(list(arguments))
        out, self.errors = self._capsys.readouterr()
        assert found == code, f"{found}: {out}{self.errors}"
        return out

    def json(self, *arguments: str, code: int = 0) -> Any:
        """What it prints for programs."""
        return json.loads(self(*arguments, "--output", "json", code=code))

    def refused(self, *arguments: str, code: int = 2) -> str:
        """The one line that a refused command prints."""
        assert self(*arguments, code=code) == ""
        return self.errors


@pytest.fixture
def icsim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """A folder that is home too, and a network."""
    link = FakeLink()

    @contextlib.contextmanager
    def linked(network: str | None, root_key: str | None = None) -> Iterator[FakeLink]:
        yield link

    monkeypatch.setattr(connection, "linked", linked)
    monkeypatch.setenv("ICSIM_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    shutil.copy(EXAMPLES / "ledger.wasm", tmp_path)
    shutil.copy(EXAMPLES / "timer.wasm", tmp_path)
    return Terminal(tmp_path, link, capsys)


def test_the_life_of_a_canister(icsim: Terminal) -> None:
    """Created, installed, called, upgraded, stopped, deleted; its name lives as long as it does."""
    assert icsim("canister", "create", "gold", "--cycles", "5K") == f"{FIRST}\n"
    assert "made the identity 'default'" in icsim.errors
    me = IdentityStore(icsim.folder / "home").get("default").identity.principal
    assert icsim("canister", "id", "gold") == f"{FIRST}\n"
    assert icsim("canister", "install", "gold", "ledger.wasm", INIT) == "gold: installed\n"
    canister = icsim.link.state[Principal.canister(0)]
    assert canister.arg == encode([t.record({"symbol": t.text, "minter": t.principal})], [{"symbol": "G", "minter": me}])
    assert icsim("canister", "upgrade", "gold", "ledger.wasm", INIT) == "gold: upgraded\n"
    assert icsim("canister", "install", "gold", "ledger.wasm", INIT, "--reinstall") == "gold: reinstalled\n"
    assert canister.installs == ["install", "upgrade", "reinstall"]
    icsim.link.answers["mint"] = encode([t.variant({"ok": t.nat})], [{"ok": 7}])
    assert icsim("canister", "call", "gold", "mint", "({identity:self}, 5)") == "(variant { ok = 7 : nat })\n"
    assert icsim("canister", "query", FIRST, "mint", "({caller}, 5)") == "(variant { ok = 7 : nat })\n"
    assert icsim("canister", "top-up", "gold", "37") == "gold: topped up with 37 cycles\n"
    assert canister.cycles == 5037
    assert icsim("canister", "stop", "gold") == "gold: stopped\n"
    assert canister.status == "stopped"
    assert icsim("canister", "start", "gold") == "gold: started\n"
    assert icsim("canister", "delete", "gold") == "gold: deleted\n"
    assert "'gold' is neither a canister's name nor an id on fake; canisters: none" in icsim.refused("canister", "id", "gold")
    assert f"canister {FIRST} doesn't exist on fake" in icsim.refused("canister", "stop", FIRST)


def test_what_is_known_of_a_canister(icsim: Terminal) -> None:
    """info, status, metadata and settings, for people and programs."""
    icsim("canister", "create", "gold")
    icsim("canister", "install", "gold", "ledger.wasm", INIT)
    info = icsim.json("canister", "info", "gold")
    assert (info["name"], info["id"], info["subnet"]) == ("gold", FIRST, "app")
    assert info["methods"]["symbol"] == "() -> (text) query"
    text = icsim("canister", "info", "gold")
    assert f"controllers  {info['controllers'][0]}" in text
    assert "methods      approve : (principal, nat) -> (Outcome)\n             audit : () -> " in text
    status = icsim.json("canister", "status", "gold")
    assert (status["status"], status["module_hash"], status["cycles"]) == ("running", info["module_hash"], 10**14)
    assert "cycles                                 100,000,000,000,000" in icsim("canister", "status", "gold")
    assert icsim("canister", "metadata", "gold").startswith("type Outcome")
    assert "has no metadata called 'nope'" in icsim.refused("canister", "metadata", "gold", "nope")


def test_settings_change_by_name(icsim: Terminal) -> None:
    """Only what is given; amounts have units, principals have names."""
    icsim("identity", "new", "me", "--use")
    icsim("identity", "new", "bob")
    icsim("canister", "create", "gold")
    settings = icsim.link.state[Principal.canister(0)].settings
    store = IdentityStore(icsim.folder / "home")
    me, bob = (store.get(name).identity.principal for name in ("me", "bob"))
    shown = icsim.json(
        *("canister", "settings", "gold", "--freezing-threshold", "2d", "--wasm-memory-limit", "1GiB"),
        *("--add-controller", "bob", "--reserved-cycles-limit", "3T", "--log-visibility", "bob,aaaaa-aa"),
        *("--environment-variable", "A=1=2", "--compute-allocation", "5"),
    )
    assert settings["freezing_threshold"] == 172_800
    assert (settings["wasm_memory_limit"], settings["reserved_cycles_limit"]) == (1 << 30, 3 * 10**12)
    assert settings["controllers"] == [me, bob]
    assert settings["log_visibility"] == {"allowed_viewers": [bob, Principal(b"")]}
    assert (shown["environment_variables"], shown["compute_allocation"]) == ({"A": "1=2"}, 5)
    assert "environment variables                  A=1=2" in icsim("canister", "settings", "gold", "--log-visibility", "public")
    assert settings["log_visibility"] == {"public": None}
    icsim("canister", "settings", "gold", "--remove-controller", "bob")
    assert settings["controllers"] == [me]
    assert "is no controller; controllers:" in icsim.refused("canister", "settings", "gold", "--remove-controller", "bob")
    assert "expected seconds, a number or one with s, m, h, d" in icsim.refused(
        "canister", "settings", "gold", "--freezing-threshold", "2GiB"
    )
    assert "expected NAME=VALUE" in icsim.refused("canister", "settings", "gold", "--environment-variable", "A")
    assert "is neither a canister, an identity nor a principal" in icsim.refused(
        "canister", "settings", "gold", "--set-controller", "nobody"
    )


def test_rejects_are_quoted(icsim: Terminal) -> None:
    """Code, error code and message, exit code 1; as an object for programs."""
    icsim("canister", "create", "gold")
    line = icsim.refused("canister", "call", "gold", "absent", code=1)
    expected = f"call of absent rejected with code 5 (IC0536): Canister {FIRST} has no update method 'absent'"
    assert line == f"icsim: {expected}\n"
    assert icsim.json("canister", "call", "gold", "absent", code=1) == {
        "error": {
            "kind": "rejected",
            "message": expected,
            "reject_code": 5,
            "error_code": "IC0536",
            "reject_message": f"Canister {FIRST} has no update method 'absent'",
        }
    }
    assert icsim.json("canister", "id", "nobody", code=2)["error"]["kind"] == "BadInput"
    icsim("identity", "new", "bob")
    assert "rejected with code 5 (IC0512): Only controllers" in icsim.refused(
        "canister", "stop", "gold", "--identity", "bob", code=1
    )


def test_wrong_arguments_are_refused(icsim: Terminal) -> None:
    """Before the network is asked to do anything."""
    icsim("canister", "create", "gold")
    icsim("canister", "install", "gold", "ledger.wasm", INIT)
    icsim.link.calls.clear()
    for arguments, words in (
        (("create", "gold"), f"there is a canister 'gold' already: {FIRST}"),
        (("create", "--cycles", "5GiB"), "--cycles 5GiB: expected cycles"),
        (("top-up", "gold", "x"), "CYCLES x: expected cycles"),
        (("create", "5"), "can't be the name of a canister"),
        (("create", "--specified-id", "x"), "--specified-id"),
        (("install", "gold", "nosuch.wasm"), "there is no module nosuch.wasm"),
        (("install", "gold", "ledger.wasm", "(5)"), "expected record"),
        (("install", "gold", "ledger.wasm", "zz", "--hex"), "not hexadecimal"),
        (("call", "gold", "mint", "(5)"), "expected principal"),
        (("call", "gold", "nosuch"), "its methods are: approve"),
        (("call", "gold", "mint", "(5)", "--arg-file", "x"), "--arg-file excludes ARG"),
        (("call", "gold", "mint", "--arg-file", "x"), "can't be read"),
        (("call", "gold", "mint", "--candid", "x.did"), "x.did can't be read"),
        (("call", "gold", "symbol", "--rounds", "5"), "those behind a URL make rounds by themselves"),
        (("query", "gold", "symbol", "--node", "1"), "those behind a URL choose the node"),
        (("stop", "aaaaa-aa"), "`icsim canister call` calls it"),
        (("snapshot", "load", "gold", "zz"), "is no snapshot id"),
        (("stop", "gold", "--identity", "eve"), "there is no identity 'eve'"),
    ):
        line = icsim.refused("canister", *arguments)
        assert words in line, line
    assert icsim.link.calls == []


def test_a_service_file_and_an_argument_file_can_be_given(icsim: Terminal) -> None:
    """In place of the canister's own service, and of the argument on the command line."""
    icsim("canister", "create", "gold")
    (icsim.folder / "own.did").write_text("service : { twice : (record { a : nat }) -> (nat) }")
    (icsim.folder / "arg.txt").write_text("(record { a = 5 })\n")
    icsim.link.answers["twice"] = encode([t.nat], [10])
    assert icsim("canister", "call", "gold", "twice", "--candid", "own.did", "--arg-file", "arg.txt") == "(10 : nat)\n"
    assert icsim("canister", "call", "gold", "twice", "4449444c0000", "--hex") == "4449444c00017d0a\n"


def test_a_project_is_deployed(icsim: Terminal) -> None:
    """A table for people, rows for programs, steps on standard error; its canisters go by name from then on."""
    assert "there is no icsim.toml here or above" in icsim.refused("deploy")
    (icsim.folder / "icsim.toml").write_text(f"[[canister]]\nname = 'gold'\nwasm = 'ledger.wasm'\ninit = '{INIT}'\n")
    out = icsim("deploy")
    assert icsim.errors.endswith(f"gold: created {FIRST}\ngold: installed\n")
    assert all(word in out for word in ("gold", FIRST, "app", "created, installed"))
    (row,) = icsim.json("deploy")["canisters"]
    assert (row["canister"], row["done"], len(row["module"])) == ("gold", "unchanged", 64)
    assert (icsim.folder / ".icsim" / "canister_ids.json").is_file()
    assert icsim("canister", "id", "gold") == f"{FIRST}\n"
    icsim.link.fails = "install_code"
    assert "canister gold: call of install_code rejected with code 5 (IC0503)" in icsim.refused("deploy", "--reinstall", code=1)


def test_a_canister_whose_name_cannot_be_kept_is_not_lost(icsim: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that can't be read are found before it is made; later failures show its id."""
    icsim("identity", "new", "me")
    (icsim.folder / "home" / "canister_ids.json").mkdir()
    assert "can't be read" in icsim.refused("canister", "create", "gold")
    assert icsim.link.state == {}
    (icsim.folder / "home" / "canister_ids.json").rmdir()

    def full(*_: object) -> None:
        raise BadInput("no space left")

    monkeypatch.setattr(CanisterNames, "put", full)
    line = icsim.refused("canister", "create", "gold")
    assert line == f"icsim: canister {FIRST} was made, but its name gold can't be kept: no space left\n"


def test_long_linked_lists_are_printed(icsim: Terminal) -> None:
    """Nested thousands of levels deep, with names and without; beyond that the bytes are shown."""
    icsim("canister", "create", "gold")
    nodes = 4900
    # record { id 0 : nat; id 1 : opt the same }, as compilers write lists; all tails follow one another
    raw = bytes.fromhex("4449444c026e016c02007d01000100") + b"\1\7" * nodes + b"\0"
    icsim.link.answers["list"] = raw
    text = icsim("canister", "call", "gold", "list")
    assert text.count("7 : nat") == nodes
    assert text.startswith("(\n  opt record {\n    7 : nat;\n    opt record {\n")
    assert max(map(len, text.splitlines())) <= 100
    (icsim.folder / "list.did").write_text("type L = opt record { nat; L }; service : { list : () -> (L) }")
    assert icsim("canister", "call", "gold", "list", "--candid", "list.did") == text
    icsim.link.answers["list"] = bytes.fromhex("4449444c026e016c02007d01000100") + b"\1\7" * 6000 + b"\0"
    assert icsim("canister", "call", "gold", "list").startswith("0x4449444c")


def test_amounts_have_units() -> None:
    """Each kind its own."""
    assert amount("1_000", "bytes", "--x") == 1000
    assert amount("2 MiB", "bytes", "--x") == 2 << 20
    assert amount("3m", "seconds", "--x") == 180
    assert amount("4B", "cycles", "--x") == 4 * 10**9
    for text, unit in (("1d", "bytes"), ("-1", "bytes"), ("1.5T", "cycles"), ("1K", "percent"), ("", "seconds")):
        with pytest.raises(BadInput, match=f"--x {text}: expected {unit}"):
            amount(text, unit, "--x")


def test_answers_for_programs() -> None:
    """Values as JSON has them; large numbers and odd floats as text, bytes as hexadecimal."""
    kinds: list[t.Type] = [
        t.nat, t.nat, t.float64, t.blob, t.principal, t.opt(t.opt(t.nat)), t.vec(t.variant({"a": t.null})),
        t.record({"x": t.tuple_(t.bool_, t.text)}), t.func(),
    ]  # fmt: skip
    from ic_types.candid.values import FuncRef, Some

    values = [
        5,
        1 << 60,
        float("inf"),
        b"\xff",
        Principal(b""),
        Some(7),
        [{"a": None}],
        {"x": (True, "t")},
        FuncRef(Principal(b""), "m"),
    ]
    did = t.service({"get": t.func([], kinds)})
    from ic_types.candid.did import DidFile

    target = Target("x", Principal(b""), Interface(DidFile(types={}, service=did), "x"))
    found = answer_json(target, "get", encode(kinds, values))
    assert found["values"] == [
        5, str(1 << 60), "inf", "ff", "aaaaa-aa", 7, [{"a": None}], {"x": [True, "t"]}, {"canister": "aaaaa-aa", "method": "m"},
    ]  # fmt: skip
    assert answer_json(target, "get", b"\x01\x02") == {"hex": "0102"}
    assert answer_json(target, "other", encode([t.nat], [1]))["values"] == [1]
