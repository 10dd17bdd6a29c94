"""`icsim candid` as its users see it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from subnet.cli.main import run

OLD = "type R = record { a : nat; b : opt nat }; service : (nat, opt text) -> { get : () -> (R) query; set : (R) -> () }"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a service file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.did").write_text(OLD)
    return tmp_path


def test_service_files_are_checked_and_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 and the place when callers would break, a warning when they would read null, 2 when a file is wrong."""

    def check(text: str, code: int = 0) -> str:
        (folder / "new.did").write_text(text)
        assert run(["candid", "check", "new.did", "--against", "old.did"]) == code
        out, err = capsys.readouterr()
        return (out + err).rstrip()

    assert check(OLD) == "new.did can take the place of old.did"
    assert check(OLD.replace("a : nat", "a : text"), 1).endswith(
        "new.did can't take the place of old.did: method get, result 0, field a: text is not nat"
    )
    assert check(OLD.replace("opt nat", "opt text")).endswith(
        "but callers will read null where they read values before: method get, result 0, field b: text is not nat"
    )
    assert "line 1, column 6: expected a name for the type" in check("type nat = int", 2)
    assert "new.did declares no service" in check("type A = nat", 2)
    assert run(["candid", "check", "old.did", "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"types": 1, "methods": 2}


def test_values_are_encoded_and_decoded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At the types of a method's arguments, its results, the init arguments, or none."""

    def out(*arguments: str, code: int = 0) -> str:
        assert run(["candid", *arguments]) == code
        out, err = capsys.readouterr()
        return out.rstrip() or err.rstrip()

    raw = out("encode", "(record { a = 5 })", "--did", "old.did", "--method", "set")
    assert out("decode", raw) == "(record { 97 = 5 : nat; 98 = null })"
    get = ("--did", "old.did", "--method", "get", "--results")
    assert out("decode", f"0x{raw}", *get) == "(record { a = 5 : nat; b = null })"
    assert json.loads(out("decode", raw, *get, "--output", "json"))["values"] == [{"a": 5, "b": None}]
    assert out("decode", out("encode", "(1)", "--did", "old.did"), "--did", "old.did") == "(1 : nat, null)"
    assert out("format", "old.did").startswith("type R = record { a : nat; b : opt nat };\nservice : (nat, opt text) -> {")
    for arguments, words in (
        (("decode", "zz"), "'zz' is not hexadecimal"),
        (("decode", "4449444c00017e05"), "byte 7: 5 is no tag of a bool"),
        (("encode", "(x)"), "line 1, column 2: 'x' is no value"),
        (("encode", "(1)", "--method", "m"), "--method and --results need --did FILE"),
        (("encode", "(1)", "--did", "old.did", "--results"), "--results needs --method NAME"),
        (("encode", "(1)", "--did", "old.did", "--method", "m"), "no method 'm'; its methods are: get, set"),
    ):
        assert words in out(*arguments, code=2)
