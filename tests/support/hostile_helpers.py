"""A launcher whose sandboxes misbehave as their titles say, for tests of the node; ends when stdin does.

A title `icsim sandbox BEHAVIOUR*COUNT CANISTER` makes the first COUNT sandboxes of a connection hostile and later ones honest.
"""

from __future__ import annotations

import itertools
import mmap
import os
import re
import signal
import socket
import sys

from ic_types import wire
from sandbox import compiler
from sandbox.launch_protocol import LAUNCH_SOCKET, MAX_PACKET_BYTES, Spawned, SpawnSandbox
from sandbox.main import run_sandbox
from tests.support.hostile_acts import Hostile, corrupt, tell
from tests.support.lone_helpers import die_with_parent

REPORT_BYTES = 1 << 16


def main(folder: str, cache_dir: str, always: str = "") -> None:
    """Serve until killed or stdin ends. `always`: BEHAVIOUR*COUNT for titles that name none."""
    os.makedirs(cache_dir, exist_ok=True)
    with open(f"{folder}/report", "w+b") as file:
        file.truncate(REPORT_BYTES)
        Hostile.report = memoryview(mmap.mmap(file.fileno(), REPORT_BYTES))
    Hostile.folder = folder
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"{folder}/{LAUNCH_SOCKET}")
    listener.listen(64)
    if os.fork() == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        die_with_parent()
        listener.close()
        compiler.run(f"ipc://{folder}/compiler", cache_dir)
        os._exit(0)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            die_with_parent()
            listener.close()
            serve(connection, always)
            os._exit(0)
        connection.close()


def serve(connection: socket.socket, always: str) -> None:
    """Fork sandboxes for one node."""
    Hostile.node = int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder)
    Hostile.parent = os.getpid()
    for number in itertools.count():
        packet, fds, _flags, _address = socket.recv_fds(connection, MAX_PACKET_BYTES, 1)
        if not packet:
            return
        request = wire.decode(packet, SpawnSandbox)
        named = re.search(r"(\w+)\*(\d+)", request.title) or re.search(r"(\w+)\*(\d+)", always)
        pid = os.fork()
        if pid == 0:
            connection.close()
            Hostile.unix = fds[0]
            try:
                if named and number < int(named[2]):
                    corrupt(named[1])
                run_sandbox(request.endpoint, request.identity, socket.socket(fileno=fds[0]), request.title)
            except BaseException as error:
                tell(f"ended by {type(error).__name__}: {error}")
            finally:
                os._exit(0)
        Hostile.victim = pid
        os.close(fds[0])
        connection.send(wire.encode(Spawned(pid=pid)))


if __name__ == "__main__":
    main(*sys.argv[1:])
