// Native vectors, loads and stores of every dtype. Compiled once per instruction set, in a
// namespace of its own and free of library templates, so that no wide instruction leaks into
// baseline code.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#ifndef BN_ISA
#define BN_ISA baseline
#endif

namespace bn::BN_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

#define BN_INLINE inline __attribute__((always_inline))

struct bfloat16 {
  uint16_t bits;
};
struct float16 {
  uint16_t bits;
};

// Arithmetic happens in Acc<T>: double for double, float for everything else.
template <class T>
struct AccOf {
  using type = float;
};
template <>
struct AccOf<double> {
  using type = double;
};
template <class T>
using Acc = typename AccOf<T>::type;

template <class A>
struct VecOf {
  typedef A type __attribute__((vector_size(kVectorBytes)));
};
template <class A>
using Vec = typename VecOf<A>::type;
template <class A>
constexpr int kLanes = kVectorBytes / int(sizeof(A));

typedef int32_t Int32Vec __attribute__((vector_size(kVectorBytes)));
typedef int64_t Int64Vec __attribute__((vector_size(kVectorBytes)));
typedef uint32_t UInt32Vec __attribute__((vector_size(kVectorBytes)));
typedef uint16_t UInt16HalfVec __attribute__((vector_size(kVectorBytes / 2)));

template <class A>
struct IntVecOf {
  using type = Int32Vec;
};
template <>
struct IntVecOf<double> {
  using type = Int64Vec;
};
template <class A>
using IntVec = typename IntVecOf<A>::type;

template <class A>
BN_INLINE Vec<A> splat(A value) {
  return Vec<A>{} + value;
}

template <class A>
BN_INLINE IntVec<A> lane_index() {
  IntVec<A> index;
  for (int i = 0; i < kLanes<A>; ++i) index[i] = i;
  return index;
}

BN_INLINE int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}
BN_INLINE int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}
BN_INLINE int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// ---- loads -------------------------------------------------------------------------------------

BN_INLINE Vec<float> load(const float* p) {
  Vec<float> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

BN_INLINE Vec<double> load(const double* p) {
  Vec<double> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

BN_INLINE Vec<float> load(const bfloat16* p) {
  UInt16HalfVec half;
  __builtin_memcpy(&half, p, sizeof half);
  return (Vec<float>)(__builtin_convertvector(half, UInt32Vec) << 16);
}

BN_INLINE Vec<float> load(const float16* p) {
#if defined(__AVX512F__)
  return (Vec<float>)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
#elif defined(__AVX2__)
  return (Vec<float>)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
#else
  // Exponent and mantissa shifted into place read as a value 2^112 too small; infinities and NaNs
  // then only lack the upper exponent bits.
  UInt16HalfVec half;
  __builtin_memcpy(&half, p, sizeof half);
  UInt32Vec bits = __builtin_convertvector(half, UInt32Vec);
  UInt32Vec magnitude = (bits & 0x7fffu) << 13;
  UInt32Vec value = (UInt32Vec)((Vec<float>)magnitude * 0x1p112f);
  value = magnitude >= 0x0f800000u ? value | 0x7f800000u : value;
  return (Vec<float>)(value | ((bits & 0x8000u) << 16));
#endif
}

// ---- stores ------------------------------------------------------------------------------------

BN_INLINE void store(float* p, Vec<float> v) {
  __builtin_memcpy(p, &v, sizeof v);
}
BN_INLINE void store(double* p, Vec<double> v) {
  __builtin_memcpy(p, &v, sizeof v);
}

// Round to nearest even. Quiet NaNs of arithmetic survive without a test of their own.
BN_INLINE void store(bfloat16* p, Vec<float> v) {
#if defined(__AVX512BF16__)  // also flushes results below 1e-38 to zero
  const __m256bh half = _mm512_cvtneps_pbh((__m512)v);
  __builtin_memcpy(p, &half, sizeof half);
#else
  UInt32Vec bits = (UInt32Vec)v;
  bits += 0x7fffu + ((bits >> 16) & 1u);
  UInt16HalfVec half = __builtin_convertvector(bits >> 16, UInt16HalfVec);
  __builtin_memcpy(p, &half, sizeof half);
#endif
}

#if !defined(__AVX2__)
BN_INLINE uint16_t to_half_bits(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  uint32_t sign = (bits >> 16) & 0x8000u;
  uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return uint16_t(sign | 0x7e00u);   // NaN
  if (magnitude >= 0x477ff000u) return uint16_t(sign | 0x7c00u);  // rounds to infinity
  if (magnitude < 0x38800000u) {                                  // subnormal: let the FPU round
    float shifted;
    __builtin_memcpy(&shifted, &magnitude, 4);
    shifted += 0.5f;
    uint32_t rounded;
    __builtin_memcpy(&rounded, &shifted, 4);
    return uint16_t(sign | (rounded - 0x3f000000u));
  }
  magnitude += 0xc8000fffu + ((magnitude >> 13) & 1u);  // rebias the exponent, round to even
  return uint16_t(sign | (magnitude >> 13));
}
#endif

BN_INLINE void store(float16* p, Vec<float> v) {
#if defined(__AVX512F__)
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__AVX2__)
  _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
#else
  for (int i = 0; i < kLanes<float>; ++i) p[i].bits = to_half_bits(v[i]);
#endif
}

// ---- the last, partial vector of a run
// -----------------------------------------------------------

template <class T>
BN_INLINE Vec<Acc<T>> load_partial(const T* p, int64_t n) {
  T buffer[kLanes<Acc<T>>] = {};
  for (int64_t i = 0; i < n; ++i) buffer[i] = p[i];
  return load(buffer);
}

template <class T>
BN_INLINE void store_partial(T* p, Vec<Acc<T>> v, int64_t n) {
  T buffer[kLanes<Acc<T>>];
  store(buffer, v);
  for (int64_t i = 0; i < n; ++i) p[i] = buffer[i];
}

#if defined(__AVX512F__)
template <>
BN_INLINE Vec<float> load_partial<float>(const float* p, int64_t n) {
  return (Vec<float>)_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p);
}
template <>
BN_INLINE void store_partial<float>(float* p, Vec<float> v, int64_t n) {
  _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), (__m512)v);
}
template <>
BN_INLINE Vec<float> load_partial<bfloat16>(const bfloat16* p, int64_t n) {
  __m256i half = _mm256_maskz_loadu_epi16(__mmask16((1u << n) - 1), p);
  return (Vec<float>)_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
}
template <>
BN_INLINE void store_partial<bfloat16>(bfloat16* p, Vec<float> v, int64_t n) {
  bfloat16 buffer[16];
  store(buffer, v);
  __m256i half = _mm256_loadu_si256((const __m256i*)buffer);
  _mm256_mask_storeu_epi16(p, __mmask16((1u << n) - 1), half);
}
#endif

template <bool kPartial, class T>
BN_INLINE Vec<Acc<T>> load_lanes(const T* p, int64_t n) {
  if constexpr (kPartial) return load_partial(p, n);
  return load(p);
}

template <bool kPartial, class T>
BN_INLINE void store_lanes(T* p, Vec<Acc<T>> v, int64_t n) {
  if constexpr (kPartial)
    store_partial(p, v, n);
  else
    store(p, v);
}

// All-ones in the first n lanes.
template <class A>
BN_INLINE IntVec<A> first_lanes(int64_t n) {
  using Int = decltype(IntVec<A>{}[0] + 0);
  return lane_index<A>() < (IntVec<A>{} + Int(n));
}

// All-ones where mask[i] is set.
template <class A, bool kPartial>
BN_INLINE IntVec<A> mask_lanes(const uint8_t* mask, int64_t n) {
  IntVec<A> lanes = {};
  for (int i = 0; i < kLanes<A>; ++i) lanes[i] = (!kPartial || i < n) && mask[i] ? -1 : 0;
  return lanes;
}

// totals[i] += v[i], in double.
template <class A>
BN_INLINE void add_lanes(double* totals, Vec<A> v) {
  A lanes[kLanes<A>];
  __builtin_memcpy(lanes, &v, sizeof v);
  for (int i = 0; i < kLanes<A>; ++i) totals[i] += double(lanes[i]);
}

}  // namespace bn::BN_ISA
