"""Function types and import lists straight from wasmtime's C interface.

Plumbing. wasmtime-py wraps each in several objects; a sandbox that starts pays for every one of them in time, and in pages of
the interpreter's memory that it no longer shares with its siblings.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, byref, c_char, c_size_t, c_uint8, c_void_p
from typing import Any, Final

import wasmtime
from wasmtime import _ffi

_KINDS: Final = {"i32": 0, "i64": 1}
_NO_FINALIZER = ctypes.CFUNCTYPE(None, c_void_p)(0)


def direct(name: str, result: Any, *arguments: Any) -> Any:
    """A function of wasmtime's library that keeps the interpreter lock, which nobody else in a sandbox wants."""
    return ctypes.PYFUNCTYPE(result, *arguments)((name, _ffi.dll))


class _Pointers(Structure):
    _fields_ = [("size", c_size_t), ("data", POINTER(c_void_p))]


class _Name(Structure):
    _fields_ = [("size", c_size_t), ("data", POINTER(c_char))]


_module_imports = direct("wasmtime_module_imports", None, c_void_p, POINTER(_Pointers))
_import_module = direct("wasm_importtype_module", POINTER(_Name), c_void_p)
_import_name = direct("wasm_importtype_name", POINTER(_Name), c_void_p)
_imports_delete = direct("wasm_importtype_vec_delete", None, POINTER(_Pointers))
_value_type = direct("wasm_valtype_new", c_void_p, c_uint8)
_value_types = direct("wasm_valtype_vec_new", None, POINTER(_Pointers), c_size_t, c_void_p)
_function_type = direct("wasm_functype_new", c_void_p, POINTER(_Pointers), POINTER(_Pointers))
_function_type_delete = direct("wasm_functype_delete", None, c_void_p)
_define = direct(
    "wasmtime_linker_define_func_unchecked",
    *(c_void_p, c_void_p, ctypes.c_char_p, c_size_t, ctypes.c_char_p, c_size_t, c_void_p, c_void_p, c_void_p, c_void_p),
)


def imports_of(module: wasmtime.Module) -> set[tuple[str, str]]:
    """(module, name) of every import."""
    found = _Pointers()
    _module_imports(ctypes.cast(module.ptr(), c_void_p), byref(found))
    try:
        each = found.data[: found.size] if found.size else []
        return {(_text(_import_module(one)), _text(_import_name(one))) for one in each}
    finally:
        _imports_delete(byref(found))


def _text(name: Any) -> str:
    content = name.contents
    return ctypes.string_at(content.data, content.size).decode() if content.size else ""


def define(linker: wasmtime.Linker, namespace: str, name: str, types: tuple[list[str], list[str]], callback: Any) -> None:
    """Bind an unchecked host function with these (parameter, result) types.

    Raises: WasmtimeError when the linker has one of this name.
    """
    params, results = (_vector(kinds) for kinds in types)
    kind = _function_type(byref(params), byref(results))  # which takes the vectors over
    space, raw = namespace.encode(), name.encode()
    address = ctypes.cast(callback, c_void_p)
    pointer = ctypes.cast(linker.ptr(), c_void_p)
    error = _define(pointer, space, len(space), raw, len(raw), kind, address, None, ctypes.cast(_NO_FINALIZER, c_void_p))
    _function_type_delete(kind)
    if error:
        raise wasmtime.WasmtimeError._from_ptr(ctypes.cast(error, POINTER(_ffi.wasmtime_error_t)))


def _vector(kinds: list[str]) -> _Pointers:
    made = _Pointers()
    values = (c_void_p * len(kinds))(*[_value_type(_KINDS[kind]) for kind in kinds])
    _value_types(byref(made), len(kinds), values)
    return made
