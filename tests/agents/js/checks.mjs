// Each check is told on a line of its own as JSON, so that the test sees which of them ran and what they found.
import { readFileSync } from "node:fs";

export const ready = JSON.parse(readFileSync(process.argv[2]));

export async function check(name, run) {
  try {
    const value = await run();
    console.log(JSON.stringify({ name, ok: true, value: String(value) }));
  } catch (error) {
    console.log(JSON.stringify({ name, ok: false, value: String(error?.stack ?? error).slice(0, 1500) }));
  }
}

export function expect(condition, what) {
  if (!condition) throw new Error(`not so: ${what}`);
}

export async function refused(run, words = "") {
  try {
    await run();
  } catch (error) {
    const text = `${error?.message ?? error} ${error?.cause ?? ""}`;
    expect(text.includes(words), `"${words}" in "${text.slice(0, 400)}"`);
    return text.slice(0, 200);
  }
  throw new Error("it was not refused");
}

export function hex(text) {
  return Uint8Array.from(text.match(/../g), (pair) => parseInt(pair, 16));
}

export const ledger = ({ IDL }) =>
  IDL.Service({
    symbol: IDL.Func([], [IDL.Text], ["query"]),
    balance_of: IDL.Func([IDL.Principal], [IDL.Nat], ["query"]),
    mint: IDL.Func([IDL.Principal, IDL.Nat], [IDL.Variant({ ok: IDL.Nat, err: IDL.Text })], []),
    transfer: IDL.Func([IDL.Principal, IDL.Nat], [IDL.Variant({ ok: IDL.Nat, err: IDL.Text })], []),
    absent: IDL.Func([], [], []),
  });
