// A token ledger: mint, transfer, approve, transfer_from. Balances always add up to the supply.
import Map "mo:core/Map";
import Nat "mo:core/Nat";
import Principal "mo:core/Principal";

persistent actor class Ledger(init : { symbol : Text; minter : Principal }) {
  public type Outcome = { #ok : Nat; #err : Text };

  let balances = Map.empty<Principal, Nat>();
  let allowances = Map.empty<Principal, Map.Map<Principal, Nat>>();
  var supply : Nat = 0;
  var transactions : Nat = 0;

  func balance(who : Principal) : Nat {
    switch (Map.get(balances, Principal.compare, who)) { case (?n) n; case null 0 };
  };

  func move(from : Principal, to : Principal, amount : Nat) : Outcome {
    let have = balance(from);
    if (have < amount) return #err("insufficient funds: " # Nat.toText(have));
    Map.add(balances, Principal.compare, from, have - amount : Nat);
    Map.add(balances, Principal.compare, to, balance(to) + amount);
    transactions += 1;
    #ok(transactions);
  };

  public shared ({ caller }) func mint(to : Principal, amount : Nat) : async Outcome {
    if (caller != init.minter) return #err("only the minter may mint");
    Map.add(balances, Principal.compare, to, balance(to) + amount);
    supply += amount;
    transactions += 1;
    #ok(transactions);
  };

  public shared ({ caller }) func transfer(to : Principal, amount : Nat) : async Outcome {
    move(caller, to, amount);
  };

  public shared ({ caller }) func approve(spender : Principal, amount : Nat) : async Outcome {
    let mine = switch (Map.get(allowances, Principal.compare, caller)) {
      case (?m) m;
      case null {
        let fresh = Map.empty<Principal, Nat>();
        Map.add(allowances, Principal.compare, caller, fresh);
        fresh;
      };
    };
    Map.add(mine, Principal.compare, spender, amount);
    #ok(amount);
  };

  public shared ({ caller }) func transfer_from(owner : Principal, to : Principal, amount : Nat) : async Outcome {
    let ?granted = Map.get(allowances, Principal.compare, owner) else return #err("nothing approved");
    let ?left = Map.get(granted, Principal.compare, caller) else return #err("nothing approved");
    if (left < amount) return #err("allowance is " # Nat.toText(left));
    let outcome = move(owner, to, amount);
    switch outcome {
      case (#ok _) Map.add(granted, Principal.compare, caller, left - amount : Nat);
      case (#err _) {};
    };
    outcome;
  };

  public query func balance_of(who : Principal) : async Nat { balance(who) };
  public query func total_supply() : async Nat { supply };
  public query func symbol() : async Text { init.symbol };

  // What the demo's invariant reads: the supply and the sum of all balances.
  public query func audit() : async { supply : Nat; sum : Nat; transactions : Nat; holders : Nat } {
    var sum = 0;
    for (n in Map.values(balances)) sum += n;
    { supply; sum; transactions; holders = Map.size(balances) };
  };
};
