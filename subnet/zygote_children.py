"""A child of the zygote, from the fork to its last breath; and how children are named.

Plumbing.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ic_types import wire
from ic_types.errors import WireError
from subnet.process_tools import die_with_parent, flush_output, set_title
from subnet.protocol import NodeConfig

COORDINATOR_KINDS = ("node", "compiler", "gateway")
"""Kinds whose end the coordinator is told of; nodes see by their sockets that a sandbox ended."""
SANDBOX_KINDS = ("sandbox", "query")


@dataclass(frozen=True, slots=True)
class Child:
    """A running child."""

    kind: str
    name: str
    owner_pid: int
    """The node of a sandbox; 0 for others."""


def node_name(config: NodeConfig) -> str:
    """`app-1/2`."""
    return f"{config.subnet_name}/{config.node_index}"


def title_of(kind: str, name: str) -> str:
    """What `ps` shows."""
    return f"icsim {kind} {name}" if name else f"icsim {kind}"


def parse_sandbox_title(title: str) -> tuple[str, str]:
    """Kind and name in a title that a node chose.

    Raises: WireError when it isn't the title of a sandbox.
    """
    program, _, rest = title.partition(" ")
    kind, _, name = rest.partition(" ")
    if program != "icsim" or kind not in SANDBOX_KINDS:
        raise WireError(f"{title!r} is not the title of a sandbox")
    return kind, name


def find_entry(name: str) -> Callable[..., Any]:
    """The function that `module:function` names."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def live_and_die(title: str, parent_pid: int, close_inherited: Callable[[], None], run: Callable[[], Any]) -> NoReturn:
    """In a forked child: become `title`, run and leave; what `run` returns is the exit code if it is a number."""
    code = 1
    try:
        die_with_parent(parent_pid)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        close_inherited()
        set_title(title)
        result = run()
        code = result if isinstance(result, int) else 0
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    except BaseException:
        print(f"{title} ({os.getpid()}) failed:", file=sys.stderr)
        traceback.print_exc()
    finally:
        flush_output()
        os._exit(code)


def exec_node(entry: str, config: NodeConfig, folder: Path, hash_seed: int, parent_pid: int) -> NoReturn:
    """Turn this process into a node in a fresh interpreter with its own hash seed."""
    path = folder / f"node-{os.getpid()}.cfg"
    path.touch(mode=0o600)
    path.write_bytes(wire.encode(config))
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    arguments = [sys.executable, "-P", "-m", "subnet.zygote", "--node", entry, str(path), str(parent_pid)]
    os.execve(sys.executable, arguments, environment)


def run_exec_node(entry: str, path: Path, parent_pid: int) -> int:
    """The life of a node in an interpreter of its own."""
    die_with_parent(parent_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    config = wire.decode(path.read_bytes(), NodeConfig)
    path.unlink()
    set_title(title_of("node", node_name(config)))
    result = find_entry(entry)(config)
    return result if isinstance(result, int) else 0
