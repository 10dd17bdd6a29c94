"""ic-py 1.0.1, unmodified: versions 2 of all endpoints, untagged envelopes with nulls."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ic.agent import Agent
from ic.candid import Types, encode
from ic.client import Client
from ic.identity import Identity

ready = json.loads(Path(sys.argv[1]).read_text())
ledger = ready["canisters"]["ledger"]
for name, identity in (
    ("anonymous", Identity(anonymous=True)),
    ("ed25519", Identity()),
    ("secp256k1", Identity(type="secp256k1")),
):
    agent = Agent(identity, Client(url=ready["url"]))
    symbol = agent.query_raw(ledger, "symbol", encode([]))
    arg = encode([{"type": Types.Principal, "value": "aaaaa-aa"}, {"type": Types.Nat, "value": 3}])
    outcome = agent.update_raw(ledger, "transfer", arg)
    ok = symbol[0]["value"] == "GOLD" and "insufficient funds: 0" in str(outcome)
    print(json.dumps({"name": f"query and call as {name}", "ok": ok, "value": f"{symbol} {outcome}"}))
time = agent.read_state_raw(ledger, [[b"time"]])
print(json.dumps({"name": "reads the state", "ok": bool(time), "value": str(time)[:80]}))
