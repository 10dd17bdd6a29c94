// The System API as clang imports it (wasm32). Interface spec, "System imports".
#pragma once
#include <stdint.h>
#define IC0(name) __attribute__((import_module("ic0"), import_name(#name))) extern
#define EXPORT(name) __attribute__((export_name(name), used))
typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t i64;

#define SIZED(thing)                             \
  IC0(thing##_size) u32 thing##_size(void);      \
  IC0(thing##_copy) void thing##_copy(u8 *, u32, u32);
SIZED(msg_arg_data)
SIZED(msg_caller)
SIZED(msg_reject_msg)
SIZED(msg_method_name)
SIZED(canister_self)
SIZED(subnet_self)
SIZED(root_key)
SIZED(data_certificate)
IC0(msg_reject_code) u32 msg_reject_code(void);
IC0(msg_reply_data_append) void msg_reply_data_append(const u8 *, u32);
IC0(msg_reply) void msg_reply(void);
IC0(msg_reject) void msg_reject(const u8 *, u32);
IC0(msg_deadline) u64 msg_deadline(void);
IC0(msg_cycles_available128) void msg_cycles_available128(u64 *);
IC0(msg_cycles_refunded128) void msg_cycles_refunded128(u64 *);
IC0(msg_cycles_accept128) void msg_cycles_accept128(u64, u64, u64 *);
IC0(cycles_burn128) void cycles_burn128(u64, u64, u64 *);
IC0(canister_cycle_balance128) void canister_cycle_balance128(u64 *);
IC0(canister_liquid_cycle_balance128) void canister_liquid_cycle_balance128(u64 *);
IC0(canister_status) u32 canister_status(void);
IC0(canister_version) u64 canister_version(void);
IC0(call_new)
void call_new(const u8 *, u32, const u8 *, u32, void (*)(u32), u32, void (*)(u32), u32);
IC0(call_on_cleanup) void call_on_cleanup(void (*)(u32), u32);
IC0(call_data_append) void call_data_append(const u8 *, u32);
IC0(call_cycles_add128) void call_cycles_add128(u64, u64);
IC0(call_with_best_effort_response) void call_with_best_effort_response(u32);
IC0(call_perform) u32 call_perform(void);
IC0(stable64_size) u64 stable64_size(void);
IC0(stable64_grow) u64 stable64_grow(u64);
IC0(stable64_read) void stable64_read(u64, u64, u64);
IC0(stable64_write) void stable64_write(u64, u64, u64);
IC0(certified_data_set) void certified_data_set(const u8 *, u32);
IC0(data_certificate_present) u32 data_certificate_present(void);
IC0(time) u64 ic_time(void);
IC0(global_timer_set) u64 global_timer_set(u64);
IC0(performance_counter) u64 performance_counter(u32);
IC0(is_controller) u32 is_controller(const u8 *, u32);
IC0(in_replicated_execution) u32 in_replicated_execution(void);
IC0(accept_message) void accept_message(void);
IC0(debug_print) void debug_print(const u8 *, u32);
IC0(trap) __attribute__((noreturn)) void trap(const u8 *, u32);
IC0(cost_call) void cost_call(u64, u64, u64 *);
IC0(cost_create_canister) void cost_create_canister(u64 *);
IC0(env_var_count) u32 env_var_count(void);
IC0(env_var_name_size) u32 env_var_name_size(u32);
IC0(env_var_name_copy) void env_var_name_copy(u32, u8 *, u32, u32);
IC0(env_var_name_exists) u32 env_var_name_exists(const u8 *, u32);
IC0(env_var_value_size) u32 env_var_value_size(const u8 *, u32);
IC0(env_var_value_copy) void env_var_value_copy(const u8 *, u32, u8 *, u32, u32);
