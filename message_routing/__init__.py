"""Moves messages into a subnet's canisters and out of them: queues, induction, routing, ingress history, streams, timeouts.

Works on canisters only through the Protocols in `receivers`; knows nothing of how a canister executes. Builds on `xnet` for
what a stream is, and gives the scheduler queues whose order is fixed by what was put in.
"""
