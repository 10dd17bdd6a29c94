// An actor class: the factory makes, upgrades and reinstalls actors of it.
persistent actor class Worker(name : Text) = this {
  var done : Nat = 0;
  transient let hello = "I am " # name;

  public func work(n : Nat) : async Nat { done += n; done };
  public query func about() : async (Text, Nat) { (hello, done) };
};
