"""Running one canister's Wasm in a process of its own, and committing what it did on the node's side.

Holds validation and instrumentation of modules, the compiler process, the System API, canister memory, the sandbox process
and its controller. Knows nothing of subnets, queues or routing: inputs come in, checked answers go out.
"""
