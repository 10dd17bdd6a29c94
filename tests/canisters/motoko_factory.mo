// Manages other canisters through `ic:aaaaa-aa`, and actors of a class by what the language has for them.
// Built by: node examples/canisters/motoko/compile.js tests/canisters/motoko_factory.mo tests/canisters/motoko_factory.wasm
// with the specification's ic.did (github.com/dfinity/developer-docs, public/references) beside it
import Blob "mo:core/Blob";
import Cycles "mo:core/Cycles";
import Error "mo:core/Error";
import Principal "mo:core/Principal";
import IC "ic:aaaaa-aa";
import Worker "motoko_worker";

persistent actor Factory {
  type Mode = { #install; #reinstall; #upgrade };

  public func create(cycles : Nat) : async Principal {
    (await (with cycles) IC.create_canister({ settings = null; sender_canister_version = null })).canister_id;
  };
  public func install(id : Principal, mode : Mode, wasm_module : Blob, arg : Blob) : async () {
    let how = switch mode { case (#upgrade) #upgrade(null); case (#install) #install; case (#reinstall) #reinstall };
    await IC.install_code({ canister_id = id; mode = how; wasm_module; arg; sender_canister_version = null });
  };
  public func top_up(id : Principal, cycles : Nat) : async Nat {
    await (with cycles) IC.deposit_cycles({ canister_id = id });
    Cycles.refunded();
  };
  public func name(id : Principal, who : Principal) : async () {
    let settings = {
      controllers = ?[who, Principal.fromActor(Factory)];
      freezing_threshold = ?7;
      log_visibility = ?#public_;
      compute_allocation = null; memory_allocation = null; reserved_cycles_limit = null; minimum_incoming_canister_call_cycles = null;
      snapshot_visibility = null; status_visibility = null; wasm_memory_limit = null; wasm_memory_threshold = null;
      environment_variables = null;
    };
    await IC.update_settings({ canister_id = id; settings; sender_canister_version = null });
  };
  public func stop(id : Principal) : async () { await IC.stop_canister({ canister_id = id }) };
  public func start(id : Principal) : async () { await IC.start_canister({ canister_id = id }) };
  public func uninstall(id : Principal) : async () { await IC.uninstall_code({ canister_id = id; sender_canister_version = null }) };
  public func delete(id : Principal) : async Text {
    try { await IC.delete_canister({ canister_id = id }); "gone" } catch e { debug_show (Error.code(e)) # " " # Error.message(e) };
  };
  public func status(id : Principal) : async (Text, Nat, Bool, [Principal]) {
    let found = await IC.canister_status({ canister_id = id });
    (debug_show (found.status), found.cycles, found.module_hash != null, found.settings.controllers);
  };
  public func changes(id : Principal) : async Nat64 {
    (await IC.canister_info({ canister_id = id; num_requested_changes = ?20 })).total_num_changes;
  };
  public func random() : async Blob { await IC.raw_rand() };

  // Actor classes.
  var worker : ?Worker.Worker = null;
  func mine() : Worker.Worker { switch worker { case (?one) one; case null loop {} } };

  public func hire(name : Text) : async Principal {
    let made = await (with cycles = 3_000_000_000_000) Worker.Worker(name);
    worker := ?made;
    Principal.fromActor(made);
  };
  public func rename(name : Text, keep : Bool) : async () {
    worker := ?(if keep await (system Worker.Worker)(#upgrade(mine()))(name) else await (system Worker.Worker)(#reinstall(mine()))(name));
  };
  public func place(id : Principal, name : Text) : async () { worker := ?(await (system Worker.Worker)(#install id)(name)) };
  public func work(n : Nat) : async (Nat, Text) { let total = await mine().work(n); (total, (await mine().about()).0) };
};
