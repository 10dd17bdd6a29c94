"""Deploying a project: what is created, installed, upgraded and left alone, and what is refused before anything is done."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from configs.canister_reader import EXAMPLES
from ic_types.candid import types as t
from ic_types.candid.decoder import decode
from ic_types.candid.did import parse_did
from ic_types.candid.encoder import encode
from ic_types.errors import BadInput, ConfigError
from ic_types.principal import Principal
from subnet.lab.calls import CallRejected
from subnet.lab.canister_names import CanisterNames
from subnet.lab.deployment import Deployed, DeployOptions, deploy
from subnet.lab.identity_store import IdentityStore
from subnet.lab.project import find_project, load_project
from subnet.lab.session import Session, lenient
from subnet.management.methods import METHODS
from tests.support.fake_link import FakeLink

PROJECT = """
[[canister]]
name = "exchange"
wasm = "exchange.wasm"
init = '(record { base = {canister:gold}; quote = {canister:silver} })'
environment = { MODE = "test" }

[[canister]]
name = "gold"
wasm = "ledger.wasm"
init = '(record { symbol = "GOLD"; minter = {identity:self} })'
cycles = "10T"
[canister.settings]
freezing_threshold = 1000
log_visibility = "public"

[[canister]]
name = "silver"
wasm = "ledger.wasm"
init = '(record { symbol = "SILVER"; minter = {canister:gold} })'
controllers = ["self", "exchange", "alice", "aaaaa-aa"]
"""


class Place:
    """A project folder, a network and someone who deploys."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.link = FakeLink()
        self.store = IdentityStore(folder / "home")
        for module in ("ledger", "exchange", "timer"):
            shutil.copy(EXAMPLES / f"{module}.wasm", folder)
        self.write(PROJECT)

    def write(self, text: str) -> None:
        """The project file."""
        (self.folder / "icsim.toml").write_text(text)

    def session(self, who: str | None = None) -> Session:
        """Someone at the network."""
        return Session(self.link, self.store, CanisterNames(self.folder / ".icsim", "fake"), who)

    def deploy(self, *names: str, who: str | None = None, **options: bool) -> dict[str, str]:
        """What was done, by canister."""
        found = self.deployed(*names, who=who, **options)
        return {one.canister.name: one.summary for one in found}

    def deployed(self, *names: str, who: str | None = None, **options: bool) -> list[Deployed]:
        """The same in full."""
        project = load_project(self.folder / "icsim.toml")
        return deploy(self.session(who), project.chosen(names), DeployOptions(**options))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty network."""
    found = Place(tmp_path)
    found.store.new("alice")
    return found


def test_a_project_is_deployed(place: Place) -> None:
    """Dependencies first; init arguments, cycles, settings, controllers and environment are as the file says."""
    found = place.deployed()
    assert [one.canister.name for one in found] == ["gold", "silver", "exchange"]
    assert [one.summary for one in found] == ["created, installed, settings changed"] * 3
    session = place.session()
    gold, silver, exchange = (place.link.state[one.canister_id] for one in found)
    ids = {one.canister.name: one.canister_id for one in found}
    assert session.canister_names.all() == ids
    assert (gold.cycles, silver.cycles) == (10**13, 10**14)
    assert (gold.settings["freezing_threshold"], gold.settings["log_visibility"]) == (1000, {"public": None})
    assert decode(gold.arg, found[0].canister.init.types) == [{"symbol": "GOLD", "minter": session.identity.principal}]
    assert decode(silver.arg, found[1].canister.init.types) == [{"symbol": "SILVER", "minter": ids["gold"]}]
    assert decode(exchange.arg, found[2].canister.init.types) == [{"base": ids["gold"], "quote": ids["silver"]}]
    alice = place.store.get("alice").identity.principal
    everybody = {session.identity.principal, ids["exchange"], alice, Principal(b"")}
    assert set(silver.settings["controllers"]) == everybody
    assert exchange.settings["controllers"] == [session.identity.principal]
    assert exchange.settings["environment_variables"] == [
        {"name": "MODE", "value": "test"},
        {"name": "PUBLIC_CANISTER_ID:gold", "value": ids["gold"].to_text()},
        {"name": "PUBLIC_CANISTER_ID:silver", "value": ids["silver"].to_text()},
    ]


def test_deploying_again_changes_what_differs(place: Place) -> None:
    """Nothing at first; then settings, code, or what the options ask for."""
    place.deploy()
    place.link.calls.clear()
    assert set(place.deploy().values()) == {"unchanged"}
    assert set(place.link.calls) == {"canister_status"}
    place.write(PROJECT.replace("1000", "2000"))
    assert place.deploy() == {"gold": "settings changed", "silver": "unchanged", "exchange": "unchanged"}
    shutil.copy(place.folder / "timer.wasm", place.folder / "exchange.wasm")
    place.write(
        PROJECT.replace("init = '(record { base = {canister:gold}; quote = {canister:silver} })'", "depends = ['gold']")
    )
    assert place.deploy("exchange", allow_incompatible=True)["exchange"] == "upgraded, settings changed"
    assert place.deploy("gold", upgrade_unchanged=True) == {"gold": "upgraded"}
    assert place.deploy("gold", reinstall=True) == {"gold": "reinstalled"}
    gold = place.link.state[place.session().canister_id("gold")]
    assert gold.installs == ["install", "upgrade", "reinstall"]


def test_names_choose_canisters_and_what_they_need(place: Place) -> None:
    """`silver` needs `gold` for its argument and is controlled by `exchange`; `gold` needs nobody."""
    assert list(place.deploy("gold")) == ["gold"]
    assert list(place.deploy("silver")) == ["gold", "silver", "exchange"]
    with pytest.raises(BadInput, match="has no canister 'lead'; it has: gold, silver, exchange"):
        place.deploy("lead")


def test_an_interrupted_deployment_goes_on(place: Place) -> None:
    """What was created is found again; the error names canister, code and message."""
    place.link.fails = "install_code"
    with pytest.raises(CallRejected) as caught:
        place.deploy()
    assert str(caught.value) == ("canister gold: call of install_code rejected with code 5 (IC0503): it was asked to fail")
    assert (caught.value.code, caught.value.error_code) == (5, "IC0503")
    assert len(place.link.state) == 3
    place.link.fails = ""
    assert place.deploy()["gold"] == "installed"
    assert len(place.link.state) == 3


def test_canisters_that_are_gone_are_made_again(place: Place) -> None:
    """As after the network was started anew."""
    place.deploy()
    place.link.state.clear()
    assert set(place.deploy().values()) == {"created, installed, settings changed"}


def test_somebody_elses_canisters_are_left_alone(place: Place) -> None:
    """The error says who controls what, and how to go on."""
    place.deploy("gold")
    with pytest.raises(BadInput, match=r"canister gold: .* is not controlled by .*, who deploys; choose another --identity"):
        place.deploy("gold", who="alice")


def test_an_upgrade_that_breaks_callers_is_refused(place: Place) -> None:
    """The method and the difference are named; the module stays."""
    place.deploy()
    (place.folder / "less.did").write_text("service : () -> { approve : (principal) -> () }")
    changed = PROJECT.replace('name = "gold"\n', 'name = "gold"\ncandid = "less.did"\n').replace(
        """init = '(record { symbol = "GOLD"; minter = {identity:self} })'""", "init = '()'"
    )
    place.write(changed)
    with pytest.raises(BadInput) as caught:
        place.deploy("gold", upgrade_unchanged=True)
    assert "canister gold: the upgrade would break callers: method audit is missing; --allow" in str(caught.value)
    assert place.link.state[place.session().canister_id("gold")].installs == ["install"]
    assert place.deploy("gold", upgrade_unchanged=True, allow_incompatible=True)["gold"] == "upgraded"


def test_large_modules_are_uploaded_in_chunks(place: Place) -> None:
    """What doesn't fit into a message goes through the chunk store, which is empty before and after."""
    wasm = (place.folder / "ledger.wasm").read_bytes()
    padding = b"\x07padding" + b"x" * 3_000_000
    size = len(padding)
    leb = bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128, size >> 21])
    (place.folder / "ledger.wasm").write_bytes(wasm + b"\0" + leb + padding)
    place.deploy("gold")
    calls = [name for name in place.link.calls if "chunk" in name]
    assert calls[:2] == ["clear_chunk_store", "upload_chunk"]
    assert calls[-2:] == ["install_chunked_code", "clear_chunk_store"]
    assert set(place.deploy("gold").values()) == {"unchanged"}


WRONG = {
    "unknown key": ('wasm = "ledger.wasm"', 'wasm = "ledger.wasm"\ncolour = 1', ["colour", "unknown key"]),
    "no module": (
        'wasm = "ledger.wasm"',
        'wasm = "lead.wasm"',
        ["gold", "wasm", "lead.wasm can't be read", "build the module"],
    ),
    "no wasm": ('wasm = "ledger.wasm"', 'wasm = "icsim.toml"', ["wasm", "is not a Wasm module"]),
    "wrong init": ('symbol = "GOLD"', "symbol = 5", ["gold", "init", "expected text, found int 5"]),
    "unknown canister": ("{canister:silver}", "{canister:lead}", ["exchange", "init", "there is no canister 'lead'"]),
    "a circle": ("minter = {canister:gold}", "minter = {canister:exchange}", ["circle", "exchange", "silver"]),
    "one name twice": ('name = "silver"', 'name = "gold"', ["there are two canisters called 'gold'"]),
    "a wrong name": ('name = "silver"', 'name = "2"', ["name", "can't be the name of a canister"]),
    "both inits": ('cycles = "10T"', 'init_hex = "00"', ["init_hex", "an install has one argument"]),
    "wrong environment": ('MODE = "test"', "MODE = 5", ["environment", "table of texts"]),
    "a wrong service": ('cycles = "10T"', 'candid = "icsim.toml"', ["candid", "its service file is wrong"]),
}


@pytest.mark.parametrize(("before", "after", "words"), WRONG.values(), ids=WRONG)
def test_wrong_projects_are_refused(place: Place, before: str, after: str, words: list[str]) -> None:
    """The error names file, canister and key, before the network is asked."""
    assert before in PROJECT
    place.write(PROJECT.replace(before, after, 1))
    with pytest.raises(ConfigError) as caught:
        place.deploy()
    assert all(word in str(caught.value) for word in (*words, "icsim.toml")), caught.value
    assert place.link.state == {}


def test_the_nearest_project_is_found(place: Place) -> None:
    """In the folder or above it."""
    below = place.folder / "src" / "ledger"
    below.mkdir(parents=True)
    assert find_project(below) == place.folder / "icsim.toml"
    assert find_project(Path("/")) is None


def test_a_canisters_own_service_comes_first(place: Place) -> None:
    """Then the project's, then the topology's, then none."""
    place.deploy("gold")
    session = place.session()
    assert session.target("gold").interface.methods()["mint"] == "(principal, nat) -> (Outcome)"
    empty = session.manage("provisional_create_canister_with_cycles", {"amount": 1}, Principal(b""))["canister_id"]
    session.canister_names.put("plain", empty)
    assert not session.target("plain").interface.is_known
    place.link.services["plain"] = parse_did("service : { a : () -> () }")
    assert list(session.target("plain").interface.methods()) == ["a"]
    own = Session(place.link, place.store, session.canister_names, services=lambda _: parse_did("service : { b : () -> () }"))
    assert list(own.target("plain").interface.methods()) == ["b"]
    assert list(own.target("plain", parse_did("service : { c : () -> () }")).interface.methods()) == ["c"]


def test_answers_of_older_networks_are_read() -> None:
    """Fields of the management canister's records that a network doesn't send read as None."""
    status = METHODS["canister_status"].results[0]
    old = t.record({"cycles": t.nat, "settings": t.record({"compute_allocation": t.nat, "controllers": t.vec(t.principal)})})
    raw = encode([old], [{"cycles": 5, "settings": {"compute_allocation": 1, "controllers": []}}])
    (found,) = decode(raw, [lenient(status)])
    assert (found["cycles"], found["settings"]["compute_allocation"], found["settings"]["controllers"]) == (5, 1, [])
    assert found["settings"]["log_visibility"] is None
    assert found["module_hash"] is None
