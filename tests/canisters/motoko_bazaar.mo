// Stalls that ask and pay one another: futures awaited side by side, shared functions kept and called, timers that call, a lock.
// Built by: node examples/canisters/motoko/compile.js tests/canisters/motoko_bazaar.mo tests/canisters/motoko_bazaar.wasm
import Array "mo:core/Array";
import Cycles "mo:core/Cycles";
import Error "mo:core/Error";
import List "mo:core/List";
import Map "mo:core/Map";
import Principal "mo:core/Principal";
import Runtime "mo:core/Runtime";
import Text "mo:core/Text";
import Timer "mo:core/Timer";

persistent actor Bazaar {
  type Listener = shared Text -> ();
  type Stall = actor {
    price : query Text -> async Nat;
    buy : Text -> async Text;
    subscribe : Listener -> async ();
    step : Nat -> async Nat;
  };

  let prices = Map.empty<Text, Nat>();
  let listeners = List.empty<Listener>();
  let news = List.empty<Text>();
  var earned : Nat = 0;
  var asked : Nat = 0;
  var busy = false;
  var watching : ?Nat = null;

  func stall(id : Principal) : Stall = actor (Principal.toText(id));

  public func offer(item : Text, price : Nat) : async () { Map.add(prices, Text.compare, item, price) };

  public query func price(item : Text) : async Nat {
    asked += 1; // lost after a query, however it was called
    switch (Map.get(prices, Text.compare, item)) { case (?n) n; case null throw Error.reject("no " # item # " here") };
  };

  public query func told() : async { earned : Nat; asked : Nat; news : Text; busy : Bool } {
    { earned; asked; news = Text.join(List.values(news), " "); busy };
  };

  // Calls of queries from an update, all under way before the first is awaited.
  func quotes(stalls : [Principal], item : Text) : async* [?Nat] {
    let open = List.empty<async Nat>();
    for (id in stalls.values()) List.add(open, stall(id).price(item));
    let found = List.empty<?Nat>();
    for (one in List.values(open)) List.add(found, try { ?(await one) } catch _ null);
    List.toArray(found);
  };

  public func ask(stalls : [Principal], item : Text) : async [?Nat] { await* quotes(stalls, item) };

  public func buy(item : Text) : async Text {
    let ?wanted = Map.get(prices, Text.compare, item) else throw Error.reject("sold out");
    if (Cycles.available() < wanted) Runtime.trap("too little for " # item);
    earned += Cycles.accept<system>(wanted);
    Map.remove(prices, Text.compare, item);
    item # " sold";
  };

  public func cheapest(stalls : [Principal], item : Text, budget : Nat) : async Text {
    let offers = await* quotes(stalls, item);
    var best : ?(Nat, Nat) = null;
    for ((k, offer) in Array.enumerate(offers)) switch (offer, best) {
      case (?n, null) best := ?(k, n);
      case (?n, ?(_, m)) if (n < m) best := ?(k, n);
      case _ {};
    };
    let ?(k, _) = best else throw Error.reject("nobody has " # item);
    try {
      let answer = await (with cycles = budget) stall(stalls[k]).buy(item);
      answer # ", back " # debug_show (Cycles.refunded());
    } catch (e) { debug_show (Error.code(e)) };
  };

  // Publishers keep functions of others and call them without waiting.
  public func subscribe(listener : Listener) : async () { List.add(listeners, listener) };
  public func announce(text : Text) : async Nat { for (one in List.values(listeners)) one(text); List.size(listeners) };
  public func hear(text : Text) : () { List.add(news, text) };
  public func follow(publisher : Principal) : async () { await stall(publisher).subscribe(hear) };

  // Two at once: the second is told; whatever happens, the lock is given back.
  public func exclusive(other : Principal, steps : Nat, fails : Bool) : async Nat {
    if busy throw Error.reject("busy");
    busy := true;
    try {
      var sum = 0;
      var k = 0;
      while (k < steps) { sum += await stall(other).step(k); k += 1 };
      if fails Runtime.trap("in the middle");
      sum;
    } finally { busy := false };
  };
  public func step(k : Nat) : async Nat { k + 1 };
  public func factorial(n : Nat) : async Nat { if (n == 0) 1 else n * (await factorial(n - 1 : Nat)) };

  // A recurring timer that calls another canister until it is cancelled; one-shot timers start and end it.
  public func watch(other : Principal, item : Text, rounds : Nat) : async () {
    ignore Timer.setTimer<system>(#seconds 1, func() : async () { List.add(news, "open") });
    watching := ?Timer.recurringTimer<system>(
      #seconds 2,
      func() : async () {
        List.add(news, try { debug_show (await stall(other).price(item)) } catch (e) { Error.message(e) });
      },
    );
    ignore Timer.setTimer<system>(
      #seconds(2 * rounds + 1),
      func() : async () {
        switch watching { case (?id) Timer.cancelTimer(id); case null {} };
        watching := null;
        List.add(news, "closed");
      },
    );
  };
};
