// Keeps numbers, asks other shards for theirs in composite queries, and lets in what `inspect` accepts.
// Built by: node examples/canisters/motoko/compile.js tests/canisters/motoko_shards.mo tests/canisters/motoko_shards.wasm
import Error "mo:core/Error";
import Principal "mo:core/Principal";
import Runtime "mo:core/Runtime";

persistent actor {
  type Shard = actor { get : query Nat -> async Nat; sum : composite query ([Principal], Nat) -> async Nat; bad : query () -> async () };

  var offset : Nat = 0;
  var asked : Nat = 0;

  func shard(id : Principal) : Shard { actor (Principal.toText(id)) };

  public func put(n : Nat) : async () { offset := n };
  public shared ({ caller }) func only_named() : async Principal { caller };

  public query func get(n : Nat) : async Nat { asked += 1; offset + n };
  public query func bad() : async () { Runtime.trap("a bad shard") };
  public query ({ caller }) func who() : async Principal { caller };
  public query func count() : async Nat { asked };

  // A variable that callbacks change, and that is as it was after the query.
  public composite query func sum(shards : [Principal], n : Nat) : async Nat {
    var total = 0;
    for (id in shards.values()) { asked += 1; total += await shard(id).get(n) };
    total + asked * 1_000_000;
  };

  // All calls are made before the first is awaited.
  public composite query func together(a : Principal, b : Principal) : async (Nat, Nat) {
    let first = shard(a).get(1);
    let second = shard(b).get(2);
    (await first, await second);
  };

  public composite query func nested(shards : [Principal]) : async Nat { await shard(shards[0]).sum(shards, 0) };

  public composite query func careful(other : Principal) : async Text {
    try { await shard(other).bad(); "fine" } catch (e) { debug_show (Error.code(e)) # " " # Error.message(e) } finally { asked += 1 };
  };

  public composite query func falls(other : Principal) : async Nat {
    let found = await shard(other).get(1);
    if (found > 0) Runtime.trap("after await");
    found;
  };

  system func inspect({ caller : Principal; msg : { #put : () -> Nat; #only_named : () -> (); #get : () -> Nat; #bad : () -> (); #who : () -> (); #count : () -> () } }) : Bool {
    switch msg { case (#only_named _) not Principal.isAnonymous(caller); case (#put n) n() <= 1000; case _ true };
  };
};
