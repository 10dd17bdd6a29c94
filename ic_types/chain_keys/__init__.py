"""Keys that a subnet holds for canisters: their names, derivation, signatures.

Each algorithm is a module: `secp256k1` (ECDSA and BIP340), `ed25519`, `vetkd`. Nodes derive public keys; whoever has the master
secret signs. Nothing here is random: what makes a signature different from the last one is an argument.
"""
