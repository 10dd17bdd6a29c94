"""Processes for lines: opened when a conversation begins, one update sandbox per canister, the least recently used evicted.

Plumbing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from typing import Final

from ic_types import wire
from ic_types.errors import SandboxDied, SandboxFailure
from ic_types.fast_init import fill_in
from ic_types.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
from sandbox.line import Line
from sandbox.pairing import Request
from sandbox.protocol import Answer, Finished, Pages, Paused
from sandbox.requests import Open
from sandbox.sandbox_pool import SandboxPool, SandboxProcess

_ARTEFACTS_KEPT: Final = 32
PAGES_PER_WASM_PAGE: Final = WASM_PAGE_BYTES // OS_PAGE_BYTES


class SandboxHost:
    """Knows which process belongs to which line."""

    def __init__(self, pool: SandboxPool, load: Callable[[str], int], max_sandboxes: int, name: str) -> None:
        self._pool, self._load, self._max_sandboxes, self._name = pool, load, max_sandboxes, name
        self.lines: dict[Hashable, Line] = {}
        """Of all states and canisters that were run lately."""
        self._by_identity: dict[bytes, Line] = {}
        self._artefacts: dict[str, int] = {}
        """Descriptors of native code, least recently used first."""
        self.evicted = self.hits = self.misses = 0
        """The latter two of lines that are gone."""

    def line_of(self, process: SandboxProcess) -> Line | None:
        """The line that this process belongs to."""
        return self._by_identity.get(process.identity)

    def send(self, line: Line, request: Request) -> None:
        """Send a request; for an Open a new process takes the place of the line's old one.

        Raises: SandboxFailure when the process is gone or can't be started, NetworkError when the zygote is gone.
        """
        opens = type(request) is Open
        if opens:
            self._start(line)
        process = line.process
        if process is None:
            raise SandboxDied("its process is gone")
        if opens:
            self._send_descriptors(line, process)
        self._pool.send(process, wire.encode(request))

    def _send_descriptors(self, line: Line, process: SandboxProcess) -> None:
        execution = line.conversation.execution
        memories = [execution.heap.open_reader(), execution.stable.open_reader()]
        try:
            process.send_descriptors([self._artefact(execution.artefact), *memories])
        finally:
            for fd in memories:
                os.close(fd)

    def _start(self, line: Line) -> None:
        canister_id = line.conversation.canister_id
        self.kill(line)
        if not line.query:  # the sandbox of a state that was replaced
            self.remove_canister(canister_id, queries=False)
        while len(self._pool) >= self._max_sandboxes:
            victim = self._pool.least_recently_used(lambda process: self._by_identity[process.identity].idle)
            if victim is None:
                break  # all are at work or paused, which cores and the limit of paused executions bound
            self._evict(self._by_identity[victim.identity])
        words = ("icsim", "query" if line.query else "sandbox", self._name, str(canister_id))
        process = self._pool.spawn(" ".join(word for word in words if word))
        line.process, self._by_identity[process.identity] = process, line
        module, limits = line.conversation.execution.module, line.conversation.environment.limits
        heap = max(module.heap_pages_max, module.heap_pages_initial) * PAGES_PER_WASM_PAGE
        stable = limits.stable_dirty_pages_install
        line.conversation.copy_out = lambda answer: _copy_out(process, answer, heap, stable)

    def _artefact(self, name: str) -> int:
        fd = self._artefacts.pop(name, None)
        if fd is None:
            fd = self._load(name)
            if len(self._artefacts) >= _ARTEFACTS_KEPT:
                os.close(self._artefacts.pop(next(iter(self._artefacts))))
        self._artefacts[name] = fd
        return fd

    # --- ends

    def kill(self, line: Line) -> None:
        """End the line's process, if it has one."""
        if line.process is not None:
            self._pool.end(line.process)
            del self._by_identity[line.process.identity]
            line.process = None
            line.expected.clear()

    def lose(self, line: Line, *, failed: bool) -> None:
        """The process is dead or no good; the conversation starts anew with the next one."""
        self.kill(line)
        line.conversation.forget_sandbox(failed=failed)

    def remove(self, key: Hashable) -> None:
        """Forget a line and end its process."""
        line = self.lines.pop(key, None)
        if line is not None:
            assert not line.tasks, "a line is removed while a message runs on it"
            self.hits += line.conversation.hits
            self.misses += line.conversation.misses
            self.kill(line)

    def remove_canister(self, canister_id: bytes, *, queries: bool) -> None:
        """Forget the idle lines of a canister."""
        for key, line in list(self.lines.items()):
            if line.conversation.canister_id == canister_id and line.idle and (queries or not line.query):
                self.remove(key)

    def _evict(self, line: Line) -> None:
        self.evicted += 1
        if line.conversation.ahead:
            self.lose(line, failed=False)
        else:
            self.remove(next(key for key, other in self.lines.items() if other is line))

    def close(self) -> None:
        """End all processes."""
        self._pool.close()
        for fd in self._artefacts.values():
            os.close(fd)
        self._artefacts.clear()
        self.lines.clear()


def _copy_out(process: SandboxProcess, answer: Answer, heap: int, stable: int) -> Answer:
    """The answer with the content of its pages inline, copied once before anything looks at it; of so many pages at most."""
    if isinstance(answer, Paused):
        return answer
    if answer.heap.buffer_offset is not None:
        fill_in(answer, "heap", _inline(process, answer.heap, heap))
    if type(answer) is Finished and answer.stable.buffer_offset is not None:
        fill_in(answer, "stable", _inline(process, answer.stable, stable))
    return answer


def _inline(process: SandboxProcess, pages: Pages, most: int) -> Pages:
    if pages.content or pages.buffer_offset is None:
        raise SandboxFailure("impossible answer: pages both inline and in the buffer")
    if len(pages.indices) > most:
        raise SandboxFailure(f"impossible answer: {len(pages.indices)} pages written where {most} exist")
    return Pages(pages.indices, process.copy_from_buffer(pages.buffer_offset, len(pages.indices)))
