//! A canister that computes for long: counts primes below n by trial division, so that a call of a few ten thousand spans
//! many slices. Written without any crate; arguments and replies are raw little-endian u64.
#![no_std]
#![allow(non_snake_case)]

#[link(wasm_import_module = "ic0")]
extern "C" {
    fn msg_arg_data_size() -> u32;
    fn msg_arg_data_copy(dst: *mut u8, offset: u32, size: u32);
    fn msg_reply_data_append(src: *const u8, size: u32);
    fn msg_reply();
    fn performance_counter(kind: u32) -> u64;
    fn trap(src: *const u8, size: u32) -> !;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    let text = b"compute panicked";
    unsafe { trap(text.as_ptr(), text.len() as u32) }
}

static mut CALLS: u64 = 0;
static mut SIEVE: [u8; 1 << 20] = [0; 1 << 20];

fn argument() -> u64 {
    let mut raw = [0u8; 8];
    unsafe {
        if msg_arg_data_size() != 8 {
            let text = b"compute: the argument is a little-endian u64";
            trap(text.as_ptr(), text.len() as u32);
        }
        msg_arg_data_copy(raw.as_mut_ptr(), 0, 8);
    }
    u64::from_le_bytes(raw)
}

fn reply(value: u64) {
    let raw = value.to_le_bytes();
    unsafe {
        msg_reply_data_append(raw.as_ptr(), 8);
        msg_reply();
    }
}

/// How many primes there are below the argument.
#[export_name = "canister_update primes"]
pub extern "C" fn primes() {
    let (n, mut found) = (argument(), 0u64);
    for candidate in 2..n {
        let mut divisor = 2;
        let mut prime = true;
        while divisor * divisor <= candidate {
            if candidate % divisor == 0 {
                prime = false;
                break;
            }
            divisor += 1;
        }
        found += prime as u64;
    }
    unsafe { CALLS += 1 };
    reply(found);
}

/// The same by a sieve over a megabyte of memory: many dirty pages.
#[export_name = "canister_update sieve"]
pub extern "C" fn sieve() {
    let n = (argument() as usize).min(1 << 20);
    let (marks, mut found) = (unsafe { &mut *core::ptr::addr_of_mut!(SIEVE) }, 0u64);
    for mark in marks[..n].iter_mut() {
        *mark = 1;
    }
    for candidate in 2..n {
        if marks[candidate] == 1 {
            found += 1;
            let mut multiple = candidate * 2;
            while multiple < n {
                marks[multiple] = 0;
                multiple += candidate;
            }
        }
    }
    unsafe { CALLS += 1 };
    reply(found);
}

/// Calls so far.
#[export_name = "canister_query calls"]
pub extern "C" fn calls() {
    reply(unsafe { CALLS });
}

/// Instructions that counting to the argument takes.
#[export_name = "canister_query cost"]
pub extern "C" fn cost() {
    let n = argument();
    let mut x = 1u64;
    for k in 0..n {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(k);
    }
    unsafe { core::ptr::write_volatile(core::ptr::addr_of_mut!(CALLS), CALLS + (x & 0)) };
    reply(unsafe { performance_counter(0) });
}
