// Makes HTTPS outcalls with transform functions of several kinds, and has hashes signed.
// Built by: node examples/canisters/motoko/compile.js tests/canisters/motoko_outcalls.mo tests/canisters/motoko_outcalls.wasm
import Blob "mo:core/Blob";
import Error "mo:core/Error";
import Principal "mo:core/Principal";
import Runtime "mo:core/Runtime";
import Text "mo:core/Text";

persistent actor {
  type Header = { name : Text; value : Text };
  type Response = { status : Nat; headers : [Header]; body : Blob };
  type Raw = { response : Response; context : Blob };
  type Transform = { function : shared query Raw -> async Response; context : Blob };
  type KeyId = { curve : { #secp256k1 }; name : Text };

  transient let ic : actor {
    http_request : {
      url : Text;
      max_response_bytes : ?Nat64;
      method : { #get; #head; #post; #put; #delete; #patch };
      headers : [Header];
      body : ?Blob;
      transform : ?Transform;
      is_replicated : ?Bool;
    } -> async Response;
    ecdsa_public_key : { canister_id : ?Principal; derivation_path : [Blob]; key_id : KeyId } -> async { public_key : Blob; chain_code : Blob };
    sign_with_ecdsa : { message_hash : Blob; derivation_path : [Blob]; key_id : KeyId } -> async { signature : Blob };
  } = actor "aaaaa-aa";

  transient let key : KeyId = { curve = #secp256k1; name = "key_1" };
  var seen : Nat = 0;

  // Keeps what all nodes have in common, and tells who called.
  public query ({ caller }) func clean({ response; context } : Raw) : async Response {
    seen += 1; // a query changes nothing
    { response with headers = [{ name = "caller"; value = Principal.toText(caller) }, { name = "context"; value = debug_show (context) }] };
  };
  public query func constant(_ : Raw) : async Response { { status = 203; headers = []; body = "always" } };
  public query func boom(_ : Raw) : async Response { Runtime.trap("in the transform function") };
  public query func refuse(_ : Raw) : async Response { throw Error.reject("not this one") };
  public query func swell({ response } : Raw) : async Response {
    var text = "0123456789";
    while (text.size() <= 5_000) text #= text;
    { response with body = Text.encodeUtf8(text) };
  };
  public query func count() : async Nat { seen };

  func transform(what : Text) : ?Transform {
    let function = switch what {
      case "clean" clean;
      case "constant" constant;
      case "boom" boom;
      case "refuse" refuse;
      case "swell" swell;
      case _ return null;
    };
    ?{ function; context = "\01\02" };
  };

  public func fetch(url : Text, what : Text) : async { #ok : Response; #err : Text } {
    try {
      #ok(await (with cycles = 100_000_000_000) ic.http_request({
        url;
        max_response_bytes = ?(5_000 : Nat64);
        method = #get;
        headers = [];
        body = null;
        transform = transform what;
        is_replicated = null;
      }));
    } catch (e) { #err(debug_show (Error.code(e)) # " " # Error.message(e)) };
  };

  public func sign(hash : Blob) : async (Blob, Blob) {
    let { public_key } = await ic.ecdsa_public_key({ canister_id = null; derivation_path = ["a"]; key_id = key });
    let { signature } = await (with cycles = 30_000_000_000) ic.sign_with_ecdsa({ message_hash = hash; derivation_path = ["a"]; key_id = key });
    (public_key, signature);
  };
};
