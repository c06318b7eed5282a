// What Verilator's runtime does slowly, again; included in front of every generated file of the fast build.
//
// Signed helpers are pairs of shifts here: compilers turn these into one instruction, or vectors of them, and the original's masks and
// negations into four. Same values for the same (clean) operands.

#pragma once

#include "verilated.h"

static inline IData signed_i(int bits, IData x) { return static_cast<IData>(static_cast<int32_t>(x << (32 - bits)) >> (32 - bits)); }
static inline QData signed_q(int bits, QData x) { return static_cast<QData>(static_cast<int64_t>(x << (64 - bits)) >> (64 - bits)); }
static inline IData product_i(int bits, IData a, IData b) { return signed_i(bits, a) * signed_i(bits, b); }
static inline QData product_q(int bits, QData a, QData b) { return signed_q(bits, a) * signed_q(bits, b); }
static inline int32_t top_i(int bits, IData x) { return static_cast<int32_t>(x << (32 - bits)); }
static inline int64_t top_q(int bits, QData x) { return static_cast<int64_t>(x << (64 - bits)); }
static inline QData right_q(int bits, QData x, IData by) {
    return static_cast<QData>(static_cast<int64_t>(signed_q(bits, x)) >> (by > 63 ? 63 : by));
}

#define VL_EXTENDS_II(obits, bits, x) signed_i(bits, x)
#define VL_EXTENDS_QI(obits, bits, x) signed_q(bits, x)
#define VL_EXTENDS_QQ(obits, bits, x) signed_q(bits, x)
#define VL_MULS_III(bits, a, b) product_i(bits, a, b)
#define VL_MULS_QQQ(bits, a, b) product_q(bits, a, b)
#define VL_SHIFTRS_QQI(obits, bits, rbits, x, by) right_q(bits, x, by)
#define VL_GTS_III(bits, a, b) (top_i(bits, a) > top_i(bits, b))
#define VL_LTS_III(bits, a, b) (top_i(bits, a) < top_i(bits, b))
#define VL_LTES_III(bits, a, b) (top_i(bits, a) <= top_i(bits, b))
#define VL_GTS_IQQ(bits, a, b) (top_q(bits, a) > top_q(bits, b))
#define VL_LTS_IQQ(bits, a, b) (top_q(bits, a) < top_q(bits, b))

// Assertions are always on: the original asks so in a function call before each one.
#define assertOnGet(type, directive) calcUnusedSigs() || true
