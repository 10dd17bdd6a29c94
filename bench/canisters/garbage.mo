// Builds and drops lists and arrays, so that the incremental garbage collector is at work all the time.
persistent actor {
  type Chain = ?(Nat, Chain);
  var kept : Chain = null;

  public func run() : async Nat {
    var sum = 0;
    var round = 0;
    while (round < 40) {
      var chain : Chain = null;
      var i = 0;
      while (i < 20_000) { chain := ?(i * 3, chain); i += 1 };
      let big = [var 0, 1, 2, 3];
      var rest = chain;
      label walk loop {
        switch rest {
          case null { break walk };
          case (?(number, next)) { big[number % 4] += number; sum += number; rest := next };
        };
      };
      kept := chain;
      round += 1;
    };
    sum
  };
};
