"""Bad input of every kind: exit code 2 and one line that names culprit and remedy, before anything is started."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from subnet.cli.main import run

ROOT = Path(__file__).resolve().parents[3]
SUBNET = 'profile = "minimal"\n[[subnet]]\nname = "nns"\ntype = "system"\nnodes = 1\n'
CANISTER = '[[canister]]\nname = "ledger"\nwasm = "ledger.wasm"\nsubnet = "nns"\n'
TOPOLOGIES = {
    "unknown key": (SUBNET + 'colour = "red"\n', ["line 6", "colour", "unknown key", "nodes"]),
    "no root": (SUBNET.replace("system", "application"), ["no root", 'type = "system"']),
    "zero nodes": (SUBNET.replace("nodes = 1", "nodes = 0"), ["line 5", "nodes", "found 0", "1 to 100"]),
    "unknown subnet": (SUBNET + CANISTER.replace("nns", "app"), ["line 9", "no subnet 'app'", "nns"]),
    "unknown module": (SUBNET + CANISTER.replace("ledger.wasm", "leger.wasm"), ["line 8", "leger.wasm", "ledger"]),
    "wrong Candid": (SUBNET + CANISTER + "init = '(5)'\n", ["line 10", "init", "expected record"]),
    "no TOML": ("x = [\n", ["not valid TOML"]),
    "too large": (SUBNET.replace("nodes = 1", "nodes = 100") + CANISTER.replace("[[canister]]", "[[canister]]\ncount = 9000")
        + "init = '(record { symbol = \"A\"; minter = {identity:user} })'\n", ["GiB", "--nodes"]),
}  # fmt: skip
OPTIONS = {
    "--rounds 0": "1 and more",
    "--jobs 0": "1 to 100000",
    "--batch-size 0": "1 to 100000",
    "--nodes 0": "1 to 100",
    "--nodes x": "not a valid integer",
    "--seed -1": "allowed is 0 to",
    "--set nosuch=3": "unknown key",
    "--set nodes": "key=value",
    "--quiet --json": "exclude each other",
    "--out used": "not empty",
    "--out file": "is a file",
    "--nope": "--nodes",
    "--resume used": "holds no run",
    "--resume used --seed 0": "--seed can't be changed",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own, which is icsim's home too."""
    monkeypatch.setenv("ICSIM_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.toml").write_text(SUBNET)
    (tmp_path / "file").write_text("")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "something").write_text("")
    return tmp_path


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a refused command prints."""
    code = run(arguments)
    shown = capsys.readouterr()
    assert (code, shown.out) == (2, "")
    assert len(shown.err.splitlines()) == 1, shown.err
    assert "Traceback" not in shown.err
    return shown.err


@pytest.mark.parametrize("command", ["run", "check", "up"])
@pytest.mark.parametrize("kind", TOPOLOGIES)
def test_wrong_topologies_are_refused(command: str, kind: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command says where the topology is wrong and what is allowed; nothing is left on disk."""
    text, words = TOPOLOGIES[kind]
    (folder / "wrong.toml").write_text(text)
    said = refused([command, "wrong.toml"], capsys)
    assert all(word in said for word in words), said
    assert "wrong" in said
    assert not (folder / "home").exists()


@pytest.mark.parametrize("options", OPTIONS)
def test_wrong_options_are_refused(options: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each option names itself and what is allowed."""
    arguments = options.split() if "--resume" in options else ["good.toml", *options.split()]
    assert OPTIONS[options] in refused(["run", *arguments], capsys)


def test_missing_files_and_commands_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message proposes what was meant."""
    assert "did you mean good.toml?" in refused(["run", "god.toml"], capsys)
    assert "icsim run configs/quickstart.toml" in refused(["run"], capsys)
    assert "did you mean 'run'?" in refused(["rnu"], capsys)
    assert "is no directory" in refused(["replay", "nowhere"], capsys)
    assert "holds no run" in refused(["replay", "used"], capsys)


def test_check_refuses_a_module_that_a_subnet_would_refuse(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole module is validated, not only its outline."""
    module = bytearray((ROOT / "examples/canisters/counter.wasm").read_bytes())
    module[module.rindex(b"\x0b")] = 0xFF
    (folder / "bad.wasm").write_bytes(module)
    (folder / "bad.toml").write_text(SUBNET + CANISTER.replace("ledger.wasm", "bad.wasm"))
    said = refused(["check", "bad.toml"], capsys)
    assert "canister 'ledger'" in said
    assert "would be refused" in said


def test_commands_without_a_network_say_how_to_start_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1: the command is right, but nothing runs."""
    for arguments in (["status"], ["call", "a", "b"], ["query", "a", "b"], ["advance"], ["logs", "a"], ["down"]):
        assert run(arguments) == 1
        assert "icsim up TOPOLOGY" in capsys.readouterr().err


def test_a_home_that_cannot_be_written_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Caches need a place; the message says how to choose one."""
    monkeypatch.setenv("ICSIM_HOME", "/proc/nowhere")
    assert "ICSIM_HOME" in refused(["run", "good.toml", "--out", "new"], capsys)


def test_unexpected_errors_are_one_line_and_a_file(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in the program shows its traceback in a file only; exit code 1."""
    monkeypatch.setattr("subnet.cli.run.load_topology", lambda *_, **__: 1 / 0)
    assert run(["run", "good.toml"]) == 1
    said = capsys.readouterr().err
    path = re.search(r"the traceback is in (\S+)", said)
    assert path is not None
    assert "ZeroDivisionError" in Path(path[1]).read_text()
    assert len(said.splitlines()) == 1


def test_commands_start_light() -> None:
    """Neither wasmtime nor rich is imported before it is needed: a run's first round comes sooner."""
    code = "import sys, subnet.cli.run, subnet.cli.calls; print([m for m in ('wasmtime', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_good_topologies_are_described(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`check` prints what was found and the memory; the README's example and all of ours are valid; `schema` is JSON."""
    readme = re.search(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert readme is not None
    (folder / "bank.toml").write_text(readme[1])
    for path in (folder / "bank.toml", ROOT / "configs" / "quickstart.toml", ROOT / "configs" / "counter.toml"):
        assert run(["check", str(path)]) == 0
        shown = capsys.readouterr().out
        assert "is valid" in shown
        assert "MiB" in shown
    assert run(["schema"]) == 0
    assert '"$schema"' in capsys.readouterr().out
