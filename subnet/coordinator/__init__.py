"""The coordinator process: it makes the batches, commits them to the journal, compares the nodes and certifies their answers.

It executes no canister code and holds no canister state. It knows nodes by subnet.protocol, clients by subnet.control_protocol.
"""
