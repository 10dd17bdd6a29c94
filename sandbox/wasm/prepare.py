"""The whole way from a submission to an instrumented module: decode, check, instrument.

Rule module. Spec: abstract-behavior, "Canister module format"; order of steps as in the replica.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from functools import cache

import wasmtime

from sandbox.engine_config import make_validation_engine
from sandbox.module_info import ExportedGlobal, GlobalInfo, ModuleInfo
from sandbox.wasm import decoding, segments, validation
from sandbox.wasm import module as modules
from sandbox.wasm.binary import TYPE_NAMES
from sandbox.wasm.instrumentation import START, Instrumented, instrument
from sandbox.wasm.module import Kind, Module, ModuleLimits
from sandbox.wasm.rules import BrokenRule, Rule, undecodable

_OFFSET = re.compile(r"at offset 0x([0-9a-f]+)")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A module ready to be compiled."""

    info: ModuleInfo
    code: bytes
    """The instrumented module."""


def refusal_charge(wasm: bytes, limits: ModuleLimits) -> int:
    """Instructions charged for a submission that is refused."""
    return limits.compile_cost_per_operator * decoding.refusal_size(wasm)


def prepare(wasm: bytes, limits: ModuleLimits, *, profile: bool = False) -> Prepared:
    """Validates and instruments a submitted module (plain or gzipped); `profile` adds what `sandbox.profiling` listens to.

    Raises: InvalidWasm naming the rule that is broken.
    """
    plain = decoding.decode(wasm)
    validation.check_code_size(plain)
    _check_with_engine(plain)
    try:
        module = modules.decode(plain)
        validation.check(module, limits)
        result = instrument(module, limits, profile=profile)
        info = _info(wasm, module, result, limits)
    except (IndexError, ValueError, OverflowError) as error:
        # Valid for the engine, yet not understood here: the same on every node, so a refusal and not a failure.
        raise undecodable("structure that the engine knows and this decoder doesn't") from error
    return Prepared(info, result.code)


@cache
def _validation_engine(process: int) -> wasmtime.Engine:
    return make_validation_engine()


def _check_with_engine(plain: bytes) -> None:
    try:
        wasmtime.Module.validate(_validation_engine(os.getpid()), plain)
    except wasmtime.WasmtimeError as error:
        why = f"Wasmtime failed to validate wasm module wasmtime::Module::validate() failed with {error}"
        raise BrokenRule(Rule.WASMTIME_VALIDATION, why, offset=_offset_in(str(error))) from error


def _offset_in(told: str) -> int | None:
    """The engine ends its errors with `(at offset 0x1f)`."""
    found = _OFFSET.search(told)
    return int(found[1], 16) if found else None


def _shown(module: Module, result: Instrumented) -> tuple[ExportedGlobal, ...]:
    """The globals that a snapshot's metadata list."""
    places = {index: place for place, (_, index) in enumerate(result.global_exports)}
    found = [(module.globals[index], places.get(index, -1)) for index in result.shown_globals]
    return tuple(ExportedGlobal(TYPE_NAMES[one.value_type], place, one.initial) for one, place in found)


def _info(wasm: bytes, module: Module, result: Instrumented, limits: ModuleLimits) -> ModuleInfo:
    """What the node wants to know; the last checks, of custom sections and data segments, happen here."""
    methods: dict[str, list[str]] = {kind: [] for kind in validation.METHOD_KINDS}
    entry_points = [] if module.start is None else [START]
    for one in module.exports:
        prefix, space, method = one.name.partition(" ")
        if one.kind is Kind.FUNCTION and space and prefix in methods:
            methods[prefix].append(method)
        elif one.kind is Kind.FUNCTION and one.name in validation.ENTRY_POINTS:
            entry_points.append(one.name)
    heap, globals_of = result.heap, module.globals
    info = ModuleInfo(
        module_hash=hashlib.sha256(wasm).digest(),
        module_bytes=len(wasm),
        wasm64=module.wasm64,
        updates=tuple(sorted(methods["canister_update"])),
        queries=tuple(sorted(methods["canister_query"])),
        composite_queries=tuple(sorted(methods["canister_composite_query"])),
        entry_points=tuple(sorted(entry_points)),
        custom_sections=validation.custom_sections(module),
        compile_instructions=limits.compile_cost_per_operator * result.operators,
        heap_pages_initial=heap.minimum if heap else 0,
        heap_pages_max=(heap.maximum or 0) if heap else 0,
        globals=tuple(
            GlobalInfo(name, TYPE_NAMES[globals_of[index].value_type], globals_of[index].initial)
            for name, index in result.global_exports
        ),
        exported_globals=_shown(module, result),
        initial_pages=segments.initial_pages(module),
        has_memory=heap is not None,
        reuse_safe=not result.drops_data,
    )
    segments.check_tables(module)
    return info
