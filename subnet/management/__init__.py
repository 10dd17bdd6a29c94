"""The management canister: creating, installing, controlling and deleting canisters, cycles and randomness.

`methods` lists what can be called, by whom and with which Candid types; `dispatch` runs one call; each other module has the
rules of one family. Works on the replicated state through `context.SubnetContext` alone.
"""
