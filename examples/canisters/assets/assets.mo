// Serves pages over HTTP: one that is certified, a large one in pieces, a counter that only updates may change, an echo.
import Prim "mo:⛔";

persistent actor {
  type Header = (Text, Text);
  type Request = { method : Text; url : Text; headers : [Header]; body : Blob; certificate_version : ?Nat16 };
  type Token = { name : Text; index : Nat };
  type Piece = { body : Blob; token : ?Token };
  type Strategy = { #Callback : { callback : shared query Token -> async Piece; token : Token } };
  type Response = {
    status_code : Nat16;
    headers : [Header];
    body : Blob;
    upgrade : ?Bool;
    streaming_strategy : ?Strategy;
  };

  let pieces = 5;
  var visits = 0;
  let page = "<!doctype html><title>assets</title><h1 id=\"greeting\">Served by a canister</h1><p id=\"certified\"></p>" #
    "<script>fetch('/count', {method: 'POST'}).then((r) => r.text()).then((t) => document.getElementById('certified').textContent = t)</script>";

  func install() { Prim.setCertifiedData(Prim.encodeUtf8("what this canister has certified")) };
  install();

  system func postupgrade() { install() };

  func answer(status : Nat16, kind : Text, body : Blob) : Response = {
    status_code = status;
    headers = [("Content-Type", kind)];
    body;
    upgrade = null;
    streaming_strategy = null;
  };

  func piece(index : Nat) : Blob = Prim.encodeUtf8("piece " # debug_show index # "\n");

  func certifiedPage() : Response {
    let certificate = switch (Prim.getCertificate()) { case null ""; case (?raw) base64(raw) };
    { answer(200, "text/html", Prim.encodeUtf8 page) with
      headers = [("Content-Type", "text/html"), ("IC-Certificate", "certificate=:" # certificate # ":, tree=:2QH3gwBA:")] };
  };

  func path(url : Text) : Text {
    var found = "";
    label name for (c in url.chars()) { if (c == '?') break name; found #= Prim.charToText c };
    found;
  };

  public query func http_request(request : Request) : async Response {
    switch (path(request.url)) {
      case "/" certifiedPage();
      case "/large" {
        let callback = stream;
        { answer(200, "text/plain", piece 0) with
          streaming_strategy = ?#Callback { callback; token = { name = "large"; index = 1 } } };
      };
      case "/count" { { answer(200, "text/plain", "") with upgrade = ?true } };
      case "/echo" { { answer(201, "application/octet-stream", request.body) with headers = [("X-Url", request.url)] } };
      case _ { answer(404, "text/plain", Prim.encodeUtf8("nothing at " # request.url)) };
    };
  };

  public func http_request_update(request : Request) : async Response {
    visits += 1;
    answer(200, "text/plain", Prim.encodeUtf8("visit " # debug_show visits # " by " # request.method));
  };

  public query func stream(token : Token) : async Piece = async {
    let next = token.index + 1;
    { body = piece(token.index); token = if (next < pieces) ?{ name = token.name; index = next } else null };
  };

  func base64(raw : Blob) : Text {
    let digits = Prim.Array_init<Text>(64, "");
    var n = 0;
    for (c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".chars()) {
      digits[n] := Prim.charToText c;
      n += 1;
    };
    let bytes = Prim.blobToArray raw;
    var text = "";
    var at = 0;
    while (at < bytes.size()) {
      let left : Nat = bytes.size() - at;
      func byte(k : Nat) : Nat = if (k < left) Prim.nat8ToNat(bytes[at + k]) else 0;
      let word = byte 0 * 65536 + byte 1 * 256 + byte 2;
      text #= digits[word / 262144] # digits[word / 4096 % 64];
      text #= if (left > 1) digits[word / 64 % 64] else "=";
      text #= if (left > 2) digits[word % 64] else "=";
      at += 3;
    };
    text;
  };
};
