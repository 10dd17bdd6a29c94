"""`[[outcall]]` tables and recorded files: what they mean, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.loader import load_topology
from configs.topology import Topology
from ic_types.errors import ConfigError
from ic_types.outcall_rule import OutcallRule

NETWORK = '[[subnet]]\nname = "nns"\ntype = "system"\nnodes = 1\n[[subnet]]\nname = "app"\ntype = "application"\nnodes = 4\n'


def read(folder: Path, text: str, extra: str = "") -> Topology:
    """A topology with this text."""
    path = folder / "net.toml"
    path.write_text(NETWORK + extra + text)
    return load_topology(path)


def test_rules_stand_in_their_order(tmp_path: Path) -> None:
    """Those of a file stand where its table stands."""
    (tmp_path / "body.bin").write_bytes(b"\xff\x00")
    (tmp_path / "old.jsonl").write_text(
        '{"url": "https://a/", "method": "post", "node": 2, "times": 1, "status": 404, '
        '"headers": [["a", "b"]], "body_hex": "ff"}\n'
        '\n{"reject": "gone"}\n'
    )
    rules = read(
        tmp_path,
        '[[outcall]]\nurl = "https://x/*"\nmethod = "get"\nnode = 3\nstatus = 201\nheaders = "a: b:c"\nbody = ["1", "2"]\n'
        '[[outcall]]\nfile = "old.jsonl"\n[[outcall]]\nbody_file = "body.bin"\ntimes = 5\n[[outcall]]\nforward = "http://localhost:1"\n',
    ).outcalls
    assert rules == (
        OutcallRule(url="https://x/*", method="GET", node=3, status=201, headers=(("a", "b:c"),), bodies=(b"1", b"2")),
        OutcallRule(url="https://a/", method="POST", node=2, times=1, status=404, headers=(("a", "b"),), bodies=(b"\xff",)),
        OutcallRule(reject_code=2, reject_message="gone"),
        OutcallRule(times=5, bodies=(b"\xff\x00",)),
        OutcallRule(forward="http://localhost:1"),
    )


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ('body = "a"\nreject = "b"', r"reject: stands beside body; a rule has one of body, body_file, reject, forward, file"),
        ('headers = "no colon"', r"headers: 'no colon' is no header"),
        ('method = "trace"', r"method: found 'trace'; allowed are get"),
        ('forward = "localhost"', r"forward: 'localhost' is no address"),
        ('body_file = "nowhere"', r"body_file: .*nowhere can't be read"),
        ('file = "nowhere"', r"file: .*nowhere can't be read"),
        ('file = "bad.jsonl"', r"file: line 2 of .*bad.jsonl: unknown key 'uri'; known are url"),
        ("node = 0", r"node: found 0; allowed is 1"),
    ],
)
def test_wrong_rules_are_told(tmp_path: Path, rule: str, why: str) -> None:
    """With file, line and key."""
    (tmp_path / "bad.jsonl").write_text('{"url": "x"}\n{"uri": "x"}\n')
    with pytest.raises(ConfigError, match=f"net.toml, line [0-9]+, outcall number 1, {why}"):
        read(tmp_path, f"[[outcall]]\n{rule}\n")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("[]", "expected an object"),
        ('{"headers": ["a: b"]}', "headers: expected a list of"),
        ('{"status": "200"}', "status: expected a whole number"),
        ('{"body": 5}', "body: expected a text"),
        ('{"method": "TRACE"}', "method: 'TRACE' is none of GET"),
        ("{", "line 1 of "),
    ],
)
def test_wrong_recorded_answers_are_told(tmp_path: Path, line: str, why: str) -> None:
    """With the line."""
    (tmp_path / "bad.jsonl").write_text(line)
    with pytest.raises(ConfigError, match=why):
        read(tmp_path, '[[outcall]]\nfile = "bad.jsonl"\n')


def test_chain_keys_of_subnets(tmp_path: Path) -> None:
    """By default the usual ones on the first subnet that isn't the root; a bare name means all algorithms."""
    nns, app = read(tmp_path, "").subnets
    assert (nns.chain_keys, len(app.chain_keys)) == ((), 12)
    assert "schnorr:Ed25519:dfx_test_key" in app.chain_keys
    chosen = read(tmp_path, "", 'chain_keys = ["ecdsa:secp256k1:mine"]\nheld_chain_keys = "key_1"\n').subnets
    assert [one.chain_keys for one in chosen] == [(), ("ecdsa:Secp256k1:mine",)]
    assert len(chosen[1].held_chain_keys) == 4
    assert read(tmp_path, "", "chain_keys = []\n").subnets[1].chain_keys == ()
    with pytest.raises(ConfigError, match="chain_keys: 'rsa:4096:key' is no chain key"):
        read(tmp_path, "", 'chain_keys = "rsa:4096:key"\n')
