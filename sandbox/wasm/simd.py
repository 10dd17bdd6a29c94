"""Operators behind the prefix 0xFD: their immediates and costs.

Rule module. Costs are the replica's `instruction_to_cost`; their complexity is 1 throughout.
"""

from __future__ import annotations

MEMORY = range(0x00, 0x0C)
LANE_MEMORY = range(0x54, 0x5C)
ZERO_LOADS = (0x5C, 0x5D)
CONST, SHUFFLE = 0x0C, 0x0D
LANES = range(0x15, 0x23)
LAST = 0xFF
"""Operators beyond are relaxed SIMD, which is off."""

_COSTS = {
    2: (
        # lt_u, gt_u of i8x16, i16x8, i32x4
        *(0x26, 0x28, 0x30, 0x32, 0x3A, 0x3C),
        # i8x16.shr_u, shifts of i16x8 and i32x4, i64x2.shl, i64x2.shr_u
        *(0x6D, 0x8B, 0x8C, 0x8D, 0xAB, 0xAC, 0xAD, 0xCB, 0xCD),
        # i32x4.mul, i16x8.extadd_pairwise_u, i16x8.extmul_high_s/u, i32x4.extmul
        *(0xB5, 0x7D, 0x9D, 0x9F, 0xBC, 0xBD, 0xBE, 0xBF),
        # ceil floor trunc nearest of f32x4 and f64x2
        *(0x67, 0x68, 0x69, 0x6A, 0x74, 0x75, 0x7A, 0x94),
        # abs neg add sub mul of f32x4 and f64x2
        *(0xE0, 0xE1, 0xE4, 0xE5, 0xE6, 0xEC, 0xED, 0xF0, 0xF1, 0xF2),
        # i32x4.trunc_sat_f32x4_s, i32x4.trunc_sat_f64x2_s_zero
        *(0xF8, 0xFC),
    ),
    # shuffle, i8x16.popcnt, i8x16.shl, i8x16.shr_s, i64x2.shr_s, i32x4.extadd_pairwise_u, trunc_sat_f64x2_u_zero
    3: (0x0D, 0x62, 0x6B, 0x6C, 0xCC, 0x7F, 0xFD),
    # i64x2.mul, f32x4.min/max, f64x2.min, i32x4.trunc_sat_f32x4_u, f32x4.convert_i32x4_u
    4: (0xD5, 0xE8, 0xE9, 0xF4, 0xF9, 0xFB),
    # f64x2.max, f32x4.sqrt
    5: (0xF5, 0xE3),
    10: (0xE7,),  # f32x4.div
    12: (0xF3,),  # f64x2.div
    14: (0xEF,),  # f64x2.sqrt
}


def cost_table(wasm64: bool) -> list[int]:
    """Cost by number; loads and stores cost 2 with a 64-bit main memory."""
    table = [1] * (LAST + 1)
    for cost, numbers in _COSTS.items():
        for number in numbers:
            table[number] = cost
    if wasm64:
        for number in (*MEMORY, *LANE_MEMORY, *ZERO_LOADS):
            table[number] = 2
    return table


def immediates(sub: int) -> tuple[int, int]:
    """(LEB128 integers, then fixed bytes) that follow the operator's number."""
    if sub in MEMORY or sub in ZERO_LOADS:
        return 2, 0
    if sub in LANE_MEMORY:
        return 2, 1
    if sub in (CONST, SHUFFLE):
        return 0, 16
    return 0, 1 if sub in LANES else 0
