// The universal canister: interprets a small program, sent as argument, as System API calls.
//
// A program is a string of one-byte operations over one stack of values (64-bit integers and blobs); the Python
// side of the language is subnet/lab/universal.py, whose table must match `run` below. Programs for callbacks, heartbeat,
// timer, inspect_message and pre_upgrade are stored until they are used. Blobs of a message are freed at its end.
#include "../ic0.h"

#define PAGE 65536
#define MAX_STACK 256

extern u8 __heap_base;
static void copy(void *to, const void *from, u32 size) { __builtin_memcpy(to, from, size); }
static void fail(const char *why) {
  u32 n = 0;
  while (why[n]) n++;
  trap((const u8 *)why, n);
}

// --- a first-fit allocator over the linear memory
typedef struct Block { u32 size; struct Block *next; } Block;
static Block *free_list;
static u32 top;
static void *allocate(u32 size) {
  size = (size + sizeof(Block) + 15) & ~15u;
  for (Block **at = &free_list; *at; at = &(*at)->next)
    if ((*at)->size >= size) {
      Block *found = *at;
      *at = found->next;
      return found + 1;
    }
  if (!top) top = ((u32)&__heap_base + 15) & ~15u;
  u32 end = __builtin_wasm_memory_size(0) * PAGE;
  if (top + size > end || end == 0)
    if (__builtin_wasm_memory_grow(0, (top + size - end + PAGE - 1) / PAGE) == (u32)-1) fail("universal: out of memory");
  Block *block = (Block *)top;
  block->size = size;
  top += size;
  return block + 1;
}
static void release(void *memory) {
  Block *block = (Block *)memory - 1;
  block->next = free_list;
  free_list = block;
}

// --- values
typedef struct { u8 *data; u32 size; } Blob;
typedef struct { int is_blob; i64 number; Blob blob; } Value;
typedef struct Scratch { struct Scratch *next; } Scratch;
static Scratch *scratch;
static Value stack[MAX_STACK];
static u32 depth;
static u8 *fresh(u32 size) {
  Scratch *piece = allocate(sizeof(Scratch) + size);
  piece->next = scratch;
  scratch = piece;
  return (u8 *)(piece + 1);
}
static void free_scratch(void) {
  while (scratch) {
    Scratch *next = scratch->next;
    release(scratch);
    scratch = next;
  }
  depth = 0;
}
static Value *slot(void) {
  if (depth == MAX_STACK) fail("universal: stack overflow");
  return &stack[depth++];
}
static void push(i64 number) { Value *v = slot(); v->is_blob = 0; v->number = number; }
static void push_blob(u8 *data, u32 size) { Value *v = slot(); v->is_blob = 1; v->blob.data = data; v->blob.size = size; }
static i64 pop(void) {
  if (!depth || stack[depth - 1].is_blob) fail("universal: an integer was expected");
  return stack[--depth].number;
}
static Blob pop_blob(void) {
  if (!depth || !stack[depth - 1].is_blob) fail("universal: a blob was expected");
  return stack[--depth].blob;
}
static void push_wide(const u64 *wide) {
  u8 *data = fresh(16);
  copy(data, wide, 16);
  push_blob(data, 16);
}

// --- stored programs and the global blob
static Blob global_blob, heartbeat_program, timer_program, inspect_program, pre_upgrade_program, low_memory_program;
static void keep(Blob *where, Blob value) {
  if (where->data) release(where->data);
  where->data = allocate(value.size);
  where->size = value.size;
  copy(where->data, value.data, value.size);
}
static Blob *callbacks;
static u32 callback_room;
static u32 keep_callback(Blob program) {
  u32 at = 0;
  while (at < callback_room && callbacks[at].data) at++;
  if (at == callback_room) {
    u32 room = callback_room ? callback_room * 2 : 8;
    Blob *bigger = allocate(room * sizeof(Blob));
    __builtin_memset(bigger, 0, room * sizeof(Blob));
    copy(bigger, callbacks, callback_room * sizeof(Blob));
    if (callbacks) release(callbacks);
    callbacks = bigger;
    callback_room = room;
  }
  keep(&callbacks[at], program);
  return at;
}

#define COPY_IN(thing)                 \
  {                                    \
    u32 size = thing##_size();         \
    u8 *data = fresh(size);            \
    thing##_copy(data, 0, size);       \
    push_blob(data, size);             \
    break;                             \
  }

static volatile u8 touched[64 * 4096];
static void on_callback(u32 slot_index);
static i64 open_call[2];  // callback slots of the call being built; freed if it can't be performed

static u32 word(const u8 *code) { u32 n; copy(&n, code, 4); return n; }

static void run(const u8 *code, u32 size) {
  const u8 *end = code + size;
  while (code < end) switch (*code++) {
    case 0: break;
    case 1: if (!depth) fail("universal: drop of nothing"); depth--; break;
    case 2: { i64 n; copy(&n, code, 8); code += 8; push(n); break; }
    case 3: { u32 n = word(code); push_blob((u8 *)code + 4, n); code += 4 + n; break; }
    case 4: { Blob b = pop_blob(); msg_reply_data_append(b.data, b.size); break; }
    case 5: msg_reply(); break;
    case 6: COPY_IN(canister_self)
    case 7: { Blob b = pop_blob(); msg_reject(b.data, b.size); break; }
    case 8: COPY_IN(msg_caller)
    case 9: COPY_IN(msg_reject_msg)
    case 10: push(msg_reject_code()); break;
    case 11: { i64 n = pop(); u8 *d = fresh(8); copy(d, &n, 8); push_blob(d, 8); break; }  // integer -> 8 bytes
    case 12: { Blob b = pop_blob(); i64 n = 0; copy(&n, b.data, b.size < 8 ? b.size : 8); push(n); break; }
    case 13: { Blob b = pop_blob(); debug_print(b.data, b.size); break; }
    case 14: { Blob b = pop_blob(); trap(b.data, b.size); break; }
    case 15: keep(&global_blob, pop_blob()); break;
    case 16: push_blob(global_blob.data, global_blob.size); break;
    case 17: { u32 n = word(code); push_blob((u8 *)0, 0); depth--; code += 4 + n; break; }  // comment
    case 18: push(stable64_size()); break;
    case 19: push(stable64_grow(pop())); break;
    case 20: { i64 n = pop(), at = pop(); u8 *d = fresh(n); stable64_read((u64)(u32)d, at, n); push_blob(d, n); break; }
    case 21: { Blob b = pop_blob(); i64 at = pop(); stable64_write(at, (u64)(u32)b.data, b.size); break; }
    case 22: { i64 b = pop(), a = pop(); push(a + b); break; }
    case 23: { i64 b = pop(), a = pop(); push(a - b); break; }
    case 24: { i64 b = pop(), a = pop(); push(a * b); break; }
    case 25: { i64 b = pop(), a = pop(); push(a == b); break; }
    case 26: { i64 b = pop(), a = pop(); push(a < b); break; }
    case 27: {
      Blob b = pop_blob(), a = pop_blob();
      u8 *d = fresh(a.size + b.size);
      copy(d, a.data, a.size);
      copy(d + a.size, b.data, b.size);
      push_blob(d, a.size + b.size);
      break;
    }
    case 28: push(pop_blob().size); break;
    case 29: { u32 n = word(code); code += 4; if (!pop()) code += n; break; }  // skip n bytes of program if zero
    case 30: { u32 n = word(code); code += 4; code -= n; break; }              // back n bytes
    case 31: { u32 n = word(code); code += 4 + n; break; }                     // forward n bytes
    case 32: COPY_IN(msg_arg_data)
    case 33: {  // callee, method, program on reply, program on reject -> call under construction
      Blob on_reject = pop_blob(), on_reply = pop_blob(), method = pop_blob(), callee = pop_blob();
      u32 reply_slot = keep_callback(on_reply), reject_slot = keep_callback(on_reject);
      open_call[0] = reply_slot;
      open_call[1] = reject_slot;
      u32 both = reply_slot | reject_slot << 16;
      call_new(callee.data, callee.size, method.data, method.size, on_callback, both, on_callback, both | 0x80000000u);
      break;
    }
    case 34: { Blob b = pop_blob(); call_data_append(b.data, b.size); break; }
    case 35: { i64 low = pop(), high = pop(); call_cycles_add128(high, low); break; }
    case 36: call_on_cleanup(on_callback, keep_callback(pop_blob()) | 0x7fff0000u); break;
    case 37: call_with_best_effort_response((u32)pop()); break;
    case 38: {
      u32 code_of_call = call_perform();
      if (code_of_call)
        for (int k = 0; k < 2; k++) {
          release(callbacks[open_call[k]].data);
          callbacks[open_call[k]].data = 0;
        }
      push(code_of_call);
      break;
    }
    case 39: { u64 w[2]; msg_cycles_available128(w); push_wide(w); break; }
    case 40: { u64 w[2]; msg_cycles_refunded128(w); push_wide(w); break; }
    case 41: { u64 w[2]; i64 low = pop(), high = pop(); msg_cycles_accept128(high, low, w); push_wide(w); break; }
    case 42: { u64 w[2]; canister_cycle_balance128(w); push_wide(w); break; }
    case 43: { u64 w[2]; i64 low = pop(), high = pop(); cycles_burn128(high, low, w); push_wide(w); break; }
    case 44: push(ic_time()); break;
    case 45: push(global_timer_set(pop())); break;
    case 46: push(performance_counter((u32)pop())); break;
    case 47: push(canister_version()); break;
    case 48: push(canister_status()); break;
    case 49: { Blob b = pop_blob(); push(is_controller(b.data, b.size)); break; }
    case 50: push(in_replicated_execution()); break;
    case 51: push(msg_deadline()); break;
    case 52: { Blob b = pop_blob(); certified_data_set(b.data, b.size); break; }
    case 53: push(data_certificate_present()); break;
    case 54: COPY_IN(data_certificate)
    case 55: keep(&heartbeat_program, pop_blob()); break;
    case 56: keep(&timer_program, pop_blob()); break;
    case 57: keep(&inspect_program, pop_blob()); break;
    case 58: keep(&pre_upgrade_program, pop_blob()); break;
    case 59: accept_message(); break;
    case 60: COPY_IN(msg_method_name)
    case 61: push((i64)__builtin_wasm_memory_size(0)); break;
    case 62: push((i64)(i64)(int)__builtin_wasm_memory_grow(0, (u32)pop())); break;
    case 63: { u64 n = pop(); u64 x = 1; while (n--) { x = x * 6364136223846793005ull + 1; __asm__ volatile("" : "+r"(x)); } break; }
    case 64: { i64 value = pop(), page = pop(); touched[(page & 63) * 4096] = (u8)value; break; }  // dirty a page
    case 65: push(touched[(pop() & 63) * 4096]); break;
    case 66: { i64 n = pop(), at = pop(); u8 *d = fresh(n); copy(d, (u8 *)(u32)at, n); push_blob(d, n); break; }  // peek
    case 67: { Blob b = pop_blob(); copy((u8 *)(u32)pop(), b.data, b.size); break; }                               // poke
    case 68: debug_print((u8 *)0xfffffff0u, 32); break;  // out of bounds
    case 69: COPY_IN(subnet_self)
    case 70: COPY_IN(root_key)
    case 71: { u64 w[2]; canister_liquid_cycle_balance128(w); push_wide(w); break; }
    case 72: { u64 w[2]; i64 payload = pop(), name = pop(); cost_call(name, payload, w); push_wide(w); break; }
    case 73: { u64 w[2]; cost_create_canister(w); push_wide(w); break; }
    case 74: keep(&low_memory_program, pop_blob()); break;
    case 75: push((i64)(u32)touched); break;
    case 76: { i64 n = pop(), at = pop(); Blob b = pop_blob(); if ((u64)at + (u64)n > b.size) fail("universal: slice"); push_blob(b.data + at, n); break; }
    case 77: { i64 n = pop(); Blob b = pop_blob(); u8 *d = fresh(b.size * n); for (i64 k = 0; k < n; k++) copy(d + k * b.size, b.data, b.size); push_blob(d, b.size * n); break; }
    case 78: push(env_var_count()); break;
    case 79: { u32 k = (u32)pop(), n = env_var_name_size(k); u8 *d = fresh(n); env_var_name_copy(k, d, 0, n); push_blob(d, n); break; }
    case 80: { Blob b = pop_blob(); push(env_var_name_exists(b.data, b.size)); break; }
    case 81: { Blob b = pop_blob(); u32 n = env_var_value_size(b.data, b.size); u8 *d = fresh(n); env_var_value_copy(b.data, b.size, d, 0, n); push_blob(d, n); break; }
    case 82: __builtin_trap();
    case 83: { i64 n = pop(); if (n > (i64)depth || n < 1) fail("universal: pick"); Value v = stack[depth - n]; *slot() = v; break; }
    default: fail("universal: unknown operation");
  }
}

// A copy runs, since the program may replace itself.
static void run_kept(Blob kept) {
  u8 *code = fresh(kept.size);
  copy(code, kept.data, kept.size);
  run(code, kept.size);
  free_scratch();
}
static void run_argument(void) {
  u32 size = msg_arg_data_size();
  u8 *code = fresh(size);
  msg_arg_data_copy(code, 0, size);
  run(code, size);
  free_scratch();
}
static void drop_callback(u32 at) {
  if (at < callback_room && callbacks[at].data) release(callbacks[at].data);
  if (at < callback_room) callbacks[at].data = 0;
}
static void on_callback(u32 env) {
  u32 reply_slot = env & 0xffff, reject_slot = env >> 16 & 0x7fff;
  u32 mine = reject_slot == 0x7fff ? reply_slot : env >> 31 ? reject_slot : reply_slot;
  Blob kept = callbacks[mine];
  u8 *code = fresh(kept.size);
  copy(code, kept.data, kept.size);
  drop_callback(reply_slot);
  drop_callback(reject_slot);
  run(code, kept.size);
  free_scratch();
}

EXPORT("canister_init") void init(void) { run_argument(); }
EXPORT("canister_post_upgrade") void post_upgrade(void) { run_argument(); }
EXPORT("canister_pre_upgrade") void pre_upgrade(void) { run_kept(pre_upgrade_program); }
#ifdef HEARTBEAT  // an exported heartbeat runs (and costs) every round, so it is a build of its own
EXPORT("canister_heartbeat") void heartbeat(void) { run_kept(heartbeat_program); }
#endif
EXPORT("canister_global_timer") void timer(void) { run_kept(timer_program); }
EXPORT("canister_on_low_wasm_memory") void low_memory(void) { run_kept(low_memory_program); }
EXPORT("canister_inspect_message") void inspect(void) {
  if (inspect_program.size) run_kept(inspect_program);
  else accept_message();
}
EXPORT("canister_update update") void update(void) { run_argument(); }
EXPORT("canister_query query") void query(void) { run_argument(); }
EXPORT("canister_composite_query composite_query") void composite(void) { run_argument(); }
