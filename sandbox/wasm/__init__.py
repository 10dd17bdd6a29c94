"""Wasm modules as bytes: decoding, validation by the real system's rules, and metering instrumentation."""
