// Asks another probe for things, and tells what came of it; counts in variables that upgrades keep.
// Built by: node examples/canisters/motoko/compile.js tests/canisters/motoko_probe.mo tests/canisters/motoko_probe.wasm
import Cycles "mo:core/Cycles";
import Error "mo:core/Error";
import Principal "mo:core/Principal";
import Runtime "mo:core/Runtime";
import Timer "mo:core/Timer";

persistent actor {
  type Probe = actor { boom : () -> async (); refuse : () -> async (); absent : () -> async (); accept : Nat -> async Nat; wait : Nat -> async (); note : Nat -> () };

  var story : Text = "";
  var count : Nat = 0;

  public func boom() : async () { count += 1000; Runtime.trap("on purpose") };
  public func refuse() : async () { throw Error.reject("not today") };
  public func accept(amount : Nat) : async Nat { Cycles.accept<system>(amount) };
  public func wait(turns : Nat) : async () { var k = 0; while (k < turns) { await async {}; k += 1 } };
  public func note(n : Nat) : () { count += n };
  public query func state() : async (Text, Nat) { (story, count) };

  public func attempt(other : Principal, what : Text) : async Text {
    let probe : Probe = actor (Principal.toText(other));
    try {
      switch what {
        case "boom" await probe.boom();
        case "refuse" await probe.refuse();
        case "absent" await probe.absent();
        case "late" await (with timeout = 3) probe.wait(1_000_000);
        case "cycles" { let n = await (with cycles = 1_000_000_000) probe.accept(300_000_000); return debug_show (n, Cycles.refunded()) };
        case _ probe.note(7);
      };
      "fine";
    } catch (e) { debug_show (Error.code(e)) # " " # Error.message(e) } finally { count += 1 };
  };

  public func trap_after_await(other : Principal) : async () {
    count += 1;
    try { ignore await (actor (Principal.toText(other)) : Probe).accept(0); count += 100; Runtime.trap("after await") } finally { count += 10 };
  };

  func depth(n : Nat) : Nat { if (n == 0) 0 else 1 + depth(n - 1 : Nat) };
  public func deep(n : Nat) : async Nat { depth(n) };

  public func start_timers() : async () {
    ignore Timer.setTimer<system>(#seconds 2, func() : async () { story #= "once " });
    ignore Timer.setTimer<system>(#seconds 2, func() : async () { story #= "never "; Runtime.trap("timer traps") });
    let every = Timer.recurringTimer<system>(#seconds 3, func() : async () { story #= "again " });
    ignore Timer.setTimer<system>(#seconds 10, func() : async () { Timer.cancelTimer(every); story #= "end" });
  };

  system func preupgrade() { story #= " pre" };
  system func postupgrade() { story #= " post" };
};
