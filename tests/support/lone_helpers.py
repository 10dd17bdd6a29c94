"""A launcher of sandboxes and a compiler in processes of their own, for tests without a zygote; ends when stdin does."""

from __future__ import annotations

import os
import signal
import socket
import sys

from ic_types import wire
from sandbox import compiler
from sandbox.launch_protocol import LAUNCH_SOCKET, MAX_PACKET_BYTES, Spawned, SpawnSandbox
from sandbox.main import run_sandbox


def main(folder: str, cache_dir: str) -> None:
    """Serve until killed or stdin ends."""
    os.makedirs(cache_dir, exist_ok=True)
    wire.prepare()
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
            serve(connection)
            os._exit(0)
        connection.close()


def serve(connection: socket.socket) -> None:
    """Fork sandboxes for one node."""
    while True:
        packet, fds, _flags, _address = socket.recv_fds(connection, MAX_PACKET_BYTES, 1)
        if not packet:
            return
        request = wire.decode(packet, SpawnSandbox)
        pid = os.fork()
        if pid == 0:
            connection.close()
            run_sandbox(request.endpoint, request.identity, socket.socket(fileno=fds[0]), request.title)
            os._exit(0)
        os.close(fds[0])
        connection.send(wire.encode(Spawned(pid=pid)))


def die_with_parent() -> None:
    """End with the process that forked this one."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
