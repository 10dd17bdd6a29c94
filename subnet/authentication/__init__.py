"""Who signed a request: all signature schemes, delegations, expiry, and what they allow.

Rules only, the same for every way in: the gateway checks queries and reads of the state, the coordinator checks calls.
"""
