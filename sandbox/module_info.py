"""What is known of a module once it is compiled, and the requests to the compiler process.

Rule module. Spec: canister module format. Travels between compiler, node and sandbox as `sandbox.protocol` does.
"""

from __future__ import annotations

from dataclasses import dataclass

from ic_types import wire
from sandbox.protocol import Pages


@wire.message
@dataclass(frozen=True, slots=True)
class GlobalInfo:
    """A mutable global, exported by instrumentation under `export`."""

    export: str
    kind: str
    """i32, i64, f32, f64 or v128."""
    initial: int
    """Bits after instantiation."""


@wire.message
@dataclass(frozen=True, slots=True)
class ExportedGlobal:
    """A global that the module exports, or that is mutable: one of those that a snapshot's metadata list."""

    kind: str
    place: int
    """Where its value stands among `ModuleInfo.globals`; -1: it is immutable."""
    initial: int
    """Bits after instantiation."""


@wire.message
@dataclass(frozen=True, slots=True)
class CustomSection:
    """An `icp:public` or `icp:private` section."""

    name: str
    public: bool
    content: bytes


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleInfo:
    """What the node knows of a module after validation and instrumentation."""

    module_hash: bytes
    """SHA-256 of the bytes as submitted (possibly gzipped)."""
    wasm64: bool
    module_bytes: int = 0
    """Size as submitted; billed as memory."""
    updates: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()
    composite_queries: tuple[str, ...] = ()
    entry_points: tuple[str, ...] = ()
    """Exported `canister_init`, `canister_heartbeat`, ...; `canister_start` when the module has a start function."""
    custom_sections: tuple[CustomSection, ...] = ()
    compile_instructions: int = 0
    """Charged to an install: 6000 per operator after instrumentation, 2 operators per global."""
    heap_pages_initial: int = 0
    """Wasm pages."""
    heap_pages_max: int = 0
    globals: tuple[GlobalInfo, ...] = ()
    exported_globals: tuple[ExportedGlobal, ...] = ()
    """In the order of the exports."""
    initial_pages: Pages = Pages()
    """Active data segments, laid out as OS pages."""
    has_memory: bool = True
    reuse_safe: bool = True
    """No data segment is ever dropped: a used instance with memory and globals restored is as good as a new one."""


# --- compiler


@wire.message
@dataclass(frozen=True, slots=True)
class CompileRequest:
    """Validate, instrument and compile this module (or find it in the cache)."""

    cookie: int
    wasm: bytes
    max_stable_memory: int
    max_wasm32_heap: int
    max_wasm64_heap: int
    dirty_page_overhead: int = 1000
    compile_cost_per_operator: int = 6000


@wire.message
@dataclass(frozen=True, slots=True)
class CompileDone:
    """The artefact lies in the cache under this name, authenticated; `sandbox.artefacts.load` reads it."""

    cookie: int
    info: ModuleInfo
    artefact: str


@wire.message
@dataclass(frozen=True, slots=True)
class CompileRefused:
    """The module breaks a rule (IC0505)."""

    cookie: int
    reason: str
    charged_instructions: int
    """6000 x decoded size in bytes."""


@wire.message
@dataclass(frozen=True, slots=True)
class CompileFailed:
    """The compiler could not do its work (killed, out of memory, disk full): local, never a state change."""

    cookie: int
    reason: str
