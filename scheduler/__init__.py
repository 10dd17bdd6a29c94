"""Canisters, their call contexts and what a round does with them, on the node's side.

Chooses which message runs where and when, runs it through effects that the node's plumbing carries out, applies outcomes,
accounts cycles, slices long executions. Knows nothing of the coordinator, HTTP or how subnets exchange messages.
"""
