"""Streams of messages between two subnets: their signals, certified slices and garbage collection.

A slice of a stream with its witness and the sender's certification is the only thing that crosses from subnet to subnet.
Knows nothing of canisters, sandboxes or how messages get into queues.
"""
