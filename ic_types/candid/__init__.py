"""Candid, the interface language of canisters: types, binary codec, text form and service files.

The binary format follows the public Candid specification, subtyping included, and is bounded against hostile
input. Values are plain Python objects (see `values`); every error is a CandidError naming what and where.
"""
