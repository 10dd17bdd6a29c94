;; The loop that can't be shorter: a counter, a comparison, a branch.
(module
  (memory 1)
  (func (export "canister_update run") (local $i i64)
    (local.set $i (i64.const 50000000))
    (loop $again
      (br_if $again (i64.ne (i64.const 0) (local.tee $i (i64.sub (local.get $i) (i64.const 1))))))))
