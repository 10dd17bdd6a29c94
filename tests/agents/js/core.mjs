// @icp-sdk/core, unmodified, with every verification on.
import { Actor, AnonymousIdentity, CanisterStatus, Cbor, Certificate, HttpAgent, IC_ROOT_KEY, LookupPathStatus, lookupResultToBuffer, polling } from "@icp-sdk/core/agent";
import { IDL } from "@icp-sdk/core/candid";
import { DelegationChain, DelegationIdentity, ECDSAKeyIdentity, Ed25519KeyIdentity } from "@icp-sdk/core/identity";
import { Secp256k1KeyIdentity } from "@icp-sdk/core/identity/secp256k1";
import { Principal } from "@icp-sdk/core/principal";
import { check, expect, hex, ledger, ready, refused } from "./checks.mjs";

const host = ready.url;
const rootKey = hex(ready.root_key);
const canisterId = ready.canisters.ledger;
const options = { host, rootKey, verifyQuerySignatures: true };
const app = ready.subnets.find((one) => one.name === "app");

async function actor(identity, more = {}) {
  const agent = await HttpAgent.create({ ...options, identity, ...more });
  return Actor.createActor(ledger, { agent, canisterId });
}

await check("fetches the root key", async () => {
  const agent = await HttpAgent.create({ host, shouldFetchRootKey: true });
  expect(Buffer.from(agent.rootKey).toString("hex") === ready.root_key, "the status endpoint's root key");
});

const identities = {
  anonymous: new AnonymousIdentity(),
  ed25519: Ed25519KeyIdentity.generate(),
  p256: await ECDSAKeyIdentity.generate(),
  secp256k1: Secp256k1KeyIdentity.generate(),
};
for (const [name, identity] of Object.entries(identities)) {
  await check(`query and call as ${name}`, async () => {
    const one = await actor(identity);
    expect((await one.symbol()) === "GOLD", "the symbol");
    const outcome = await one.transfer(Principal.anonymous(), 5n);
    expect(outcome.err === "insufficient funds: 0", JSON.stringify(outcome));
    return identity.getPrincipal();
  });
}

await check("delegated session with targets", async () => {
  const session = Ed25519KeyIdentity.generate();
  const day = new Date(Date.now() + 86_400_000);
  const chain = await DelegationChain.create(identities.p256, session.getPublicKey(), day, { targets: [Principal.fromText(canisterId)] });
  const one = await actor(DelegationIdentity.fromDelegation(session, chain));
  expect((await one.transfer(Principal.anonymous(), 1n)).err, "an answer");
});

await check("delegation for another canister is refused", async () => {
  const session = Ed25519KeyIdentity.generate();
  const day = new Date(Date.now() + 86_400_000);
  const chain = await DelegationChain.create(identities.p256, session.getPublicKey(), day, { targets: [Principal.fromText(ready.canisters.assets)] });
  return refused(async () => (await actor(DelegationIdentity.fromDelegation(session, chain), { retryTimes: 0 })).symbol(), "delegation targets");
});

await check("expired delegation is refused", async () => {
  const session = Ed25519KeyIdentity.generate();
  const chain = await DelegationChain.create(identities.ed25519, session.getPublicKey(), new Date(Date.now() - 1000));
  return refused(async () => (await actor(DelegationIdentity.fromDelegation(session, chain), { retryTimes: 0 })).transfer(Principal.anonymous(), 1n), "Invalid delegation expiry");
});

await check("asynchronous call and polling", async () => {
  const agent = await HttpAgent.create({ ...options, identity: identities.ed25519 });
  const arg = IDL.encode([IDL.Principal, IDL.Nat], [Principal.anonymous(), 2n]);
  const sent = await agent.call(canisterId, { methodName: "transfer", arg, callSync: false });
  expect(sent.response.status === 202, `status ${sent.response.status}`);
  const { reply } = await polling.pollForResponse(agent, Principal.fromText(canisterId), sent.requestId);
  expect(reply.byteLength > 4, "a reply");
});

await check("rejects carry code and error code", async () => {
  const one = await actor(identities.anonymous, { retryTimes: 0 });
  return refused(() => one.absent(), "IC0536");
});

await check("canister status by certificate", async () => {
  const agent = await HttpAgent.create({ ...options });
  const found = await CanisterStatus.request({ agent, canisterId: Principal.fromText(canisterId), paths: ["controllers", "module_hash", "time", "subnet"] });
  expect(found.get("controllers").length > 0, "controllers");
  expect(found.get("module_hash").length === 64, "module hash");
  expect(Math.abs(found.get("time").getTime() - Date.now()) < 60_000, "the time is now");
  expect(found.get("subnet").nodeKeys.size === app.nodes.length, "every node's key");
  return found.get("subnet").subnetId;
});

await check("subnet status by certificate", async () => {
  const agent = await HttpAgent.create({ ...options });
  const { certificate } = await agent.readSubnetState(Principal.fromText(app.id), { paths: [[new TextEncoder().encode("time")]] });
  expect(certificate.byteLength > 0, "a certificate");
});

await check("creates and installs a canister", async () => {
  const agent = await HttpAgent.create({ ...options, identity: identities.ed25519 });
  const management = Actor.createActor(({ IDL }) => IDL.Service({
    provisional_create_canister_with_cycles: IDL.Func([IDL.Record({ amount: IDL.Opt(IDL.Nat) })], [IDL.Record({ canister_id: IDL.Principal })], []),
    install_code: IDL.Func([IDL.Record({ mode: IDL.Variant({ install: IDL.Null }), canister_id: IDL.Principal, wasm_module: IDL.Vec(IDL.Nat8), arg: IDL.Vec(IDL.Nat8) })], [], []),
  }), {
    agent, canisterId: Principal.managementCanister(),
    callTransform: (method, args) => ({ effectiveCanisterId: method === "install_code" ? args[0].canister_id : Principal.fromText(canisterId) }),
  });
  const { canister_id } = await management.provisional_create_canister_with_cycles({ amount: [1_000_000_000_000n] });
  const { readFileSync } = await import("node:fs");
  const wasm_module = new Uint8Array(readFileSync(process.argv[3]));
  await management.install_code({ mode: { install: null }, canister_id, wasm_module, arg: new Uint8Array() });
  const counter = Actor.createActor(({ IDL }) => IDL.Service({}), { agent, canisterId: canister_id });
  expect(Actor.canisterIdOf(counter).toText() === canister_id.toText(), "its id");
  return canister_id;
});

// --- what has to be refused

const agent = await HttpAgent.create({ ...options });
const path = [new TextEncoder().encode("canister"), Principal.fromText(canisterId).toUint8Array(), new TextEncoder().encode("module_hash")];
const { certificate } = await agent.readState(canisterId, { paths: [path] });
const verify = (raw, key = rootKey, principal = Principal.fromText(canisterId)) => Certificate.create({ certificate: raw, rootKey: key, principal: { canisterId: principal } });

await check("good certificate", async () => {
  const found = (await verify(certificate)).lookup_path(path);
  expect(found.status === LookupPathStatus.Found && found.value.byteLength === 32, "the module hash");
});

await check("a flipped bit in a certificate is refused", async () => {
  const hash = (await verify(certificate)).lookup_path(path).value;
  const at = Buffer.from(certificate).indexOf(Buffer.from(hash));
  const forged = Uint8Array.from(certificate);
  forged[at + 5] ^= 4;
  return refused(() => verify(forged), "Invalid signature");
});

await check("another subnet's signature is refused", async () => {
  const decoded = Cbor.decode(certificate);
  await verify(Cbor.encode(decoded));
  const signature = Cbor.decode(decoded.delegation.certificate).signature;
  return refused(() => verify(Cbor.encode({ ...decoded, signature })), "Invalid signature");
});

await check("another root key is refused", () => refused(() => verify(certificate, hex(IC_ROOT_KEY)), "Invalid signature"));

await check("a canister outside the subnet's ranges is refused", () => refused(() => verify(certificate, rootKey, Principal.fromText(ready.canisters.counter)), "canister_ranges"));
