"""The shared nouns of the house: principals, units, messages, reject codes, hash trees, BLS, Candid.

Everything above speaks in these types; they know nothing of subnets, sandboxes or processes.
`wire` is the one codec between processes, `canonical` the one encoding for hashing.
"""
