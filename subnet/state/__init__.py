"""The replicated state of one subnet: what it consists of, what the state hash covers, and what must always hold.

`replicated_state` joins the records of the rooms below, `state_hash` digests them incrementally, `world` is how scheduler and
management canister see them in one round, `audit` counts every cycle.
"""
