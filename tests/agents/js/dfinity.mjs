// @dfinity/agent, the package before @icp-sdk/core.
import { Actor, HttpAgent } from "@dfinity/agent";
import { Ed25519KeyIdentity } from "@dfinity/identity";
import { Principal } from "@dfinity/principal";
import { check, expect, hex, ledger, ready } from "./checks.mjs";

await check("query and call", async () => {
  const agent = await HttpAgent.create({ host: ready.url, rootKey: hex(ready.root_key), identity: Ed25519KeyIdentity.generate() });
  const one = Actor.createActor(ledger, { agent, canisterId: ready.canisters.ledger });
  expect((await one.symbol()) === "GOLD", "the symbol");
  expect((await one.transfer(Principal.anonymous(), 5n)).err, "an answer");
});
