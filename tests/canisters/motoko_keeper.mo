// Stable variables that upgrades keep, whether they lie on the heap that survives or are written to stable memory and back.
// Built by: node examples/canisters/motoko/compile.js tests/canisters/motoko_keeper.mo tests/canisters/motoko_keeper.wasm
// and with classicOP as motoko_keeper_classic.wasm
import Map "mo:core/Map";
import Text "mo:core/Text";

persistent actor {
  let words = Map.empty<Text, Nat>();
  var upgrades : Nat = 0;
  transient var started : Nat = 0;

  public func put(key : Text, n : Nat) : async () { Map.add(words, Text.compare, key, n); started += 1 };
  public query func get(key : Text) : async ?Nat { Map.get(words, Text.compare, key) };
  public query func counts() : async (Nat, Nat, Nat) { (Map.size(words), upgrades, started) };
  public func fill(n : Nat) : async () { var k = 0; while (k < n) { Map.add(words, Text.compare, debug_show k, k); k += 1 } };

  system func postupgrade() { upgrades += 1 };
};
