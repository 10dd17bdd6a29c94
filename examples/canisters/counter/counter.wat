;; A counter: `inc` adds the little-endian i64 argument and replies with the sum, `read` replies with it.
(module
  (import "ic0" "msg_arg_data_size" (func $size (result i32)))
  (import "ic0" "msg_arg_data_copy" (func $copy (param i32 i32 i32)))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "trap" (func $trap (param i32 i32)))
  (memory (export "memory") 4)
  (data (i32.const 0) "counter: the argument is a little-endian i64")
  (func (export "canister_update inc")
    (if (i32.ne (call $size) (i32.const 8)) (then (call $trap (i32.const 0) (i32.const 44))))
    (call $copy (i32.const 64) (i32.const 0) (i32.const 8))
    (i64.store (i32.const 8192) (i64.add (i64.load (i32.const 8192)) (i64.load (i32.const 64))))
    (i64.store (i32.const 64) (i64.const 0)) ;; the argument leaves no trace
    (call $append (i32.const 8192) (i32.const 8))
    (call $reply))
  (func (export "canister_query read")
    (call $append (i32.const 8192) (i32.const 8))
    (call $reply)))
