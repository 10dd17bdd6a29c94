// An exchange between two ledgers, which may live on other subnets: takes one token, gives the other, one to one.
import Error "mo:core/Error";
import Principal "mo:core/Principal";

persistent actor class Exchange(init : { base : Principal; quote : Principal }) = self {
  public type Outcome = { #ok : Nat; #err : Text };
  type Ledger = actor {
    transfer : (Principal, Nat) -> async Outcome;
    transfer_from : (Principal, Principal, Nat) -> async Outcome;
    balance_of : query (Principal) -> async Nat;
  };

  transient let base = actor (Principal.toText(init.base)) : Ledger;
  transient let quote = actor (Principal.toText(init.quote)) : Ledger;
  var swaps : Nat = 0;
  var failed : Nat = 0;
  var returned : Nat = 0;

  func trade(who : Principal, take : Ledger, give : Ledger, amount : Nat) : async* Outcome {
    try {
      switch (await take.transfer_from(who, Principal.fromActor(self), amount)) {
        case (#err why) { failed += 1; return #err("take: " # why) };
        case (#ok _) {};
      };
    } catch e { failed += 1; return #err("take: " # Error.message(e)) };
    let given = try { await give.transfer(who, amount) } catch e { #err(Error.message(e)) };
    switch given {
      case (#ok _) { swaps += 1; #ok(swaps) };
      case (#err why) {
        // Give back what was taken: the trade is whole or not at all.
        ignore await take.transfer(who, amount);
        returned += 1;
        #err("give: " # why);
      };
    };
  };

  public shared ({ caller }) func swap(amount : Nat) : async Outcome {
    await* trade(caller, base, quote, amount);
  };

  public shared ({ caller }) func swap_back(amount : Nat) : async Outcome {
    await* trade(caller, quote, base, amount);
  };

  public query func statistics() : async { swaps : Nat; failed : Nat; returned : Nat } {
    { swaps; failed; returned };
  };
};
