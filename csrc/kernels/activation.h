// Activations and their derivatives on vectors. Identity and relu are inlined by template; the
// others share one out-of-line switch per vector, so that the kernels stay few.
#pragma once

#include "kernels.h"
#include "vec.h"

namespace bn::BN_ISA {

// ---- elementary functions
// ------------------------------------------------------------------------ float: polynomials
// fitted at Chebyshev nodes (relative errors in the comments, in float arithmetic). double: the C
// library, lane by lane.

// Each of these maps NaN to NaN.
BN_INLINE Vec<float> exponential(Vec<float> x) {
  const Int32Vec vanishes = x < -87.0f;  // to 0 itself: infinity times it must not be a number
  x = vanishes ? splat(-87.0f) : x;
  x = x > 88.0f ? splat(88.0f) : x;
  const Vec<float> shifter = splat(0x1.8p23f);  // adding it rounds to the nearest integer
  Vec<float> n = (x * 1.44269504f + shifter) - shifter;
  Vec<float> r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  Vec<float> q = ((0.0013933668f * r + 0.00836319282f) * r + 0.0416664648f) * r + 0.166665769f;
  q = q * r + 0.5f;
  Vec<float> e = 1.0f + (r + r * r * q);  // 7e-8
  Int32Vec exponent = (__builtin_convertvector(n, Int32Vec) + 127) << 23;
  return vanishes ? Vec<float>{} : e * (Vec<float>)exponent;
}

BN_INLINE Vec<double> exponential(Vec<double> x) {
  Vec<double> y;
  for (int i = 0; i < kLanes<double>; ++i) y[i] = __builtin_exp(x[i]);
  return y;
}

template <class A>
BN_INLINE Vec<A> magnitude(Vec<A> x) {
  return x < A(0) ? -x : x;
}

// 1 / (1 + exp(-x)), by exp(-|x|), which cannot overflow.
template <class A>
BN_INLINE Vec<A> logistic(Vec<A> x) {
  Vec<A> e = exponential(-magnitude<A>(x));
  Vec<A> numerator = x < A(0) ? e : splat(A(1));
  return numerator / (A(1) + e);
}

BN_INLINE Vec<float> hyperbolic_tangent(Vec<float> x) {
  Vec<float> z = x * x;
  Vec<float> p = (0.00221836302f * z - 0.0082761261f) * z + 0.0217475505f;
  p = ((p * z - 0.0539565565f) * z + 0.133332919f) * z - 0.333333331f;
  Vec<float> near_zero = x + x * z * p;  // |x| < 0.65: 7e-8
  Vec<float> e = exponential(-2.0f * magnitude<float>(x));
  Vec<float> far = (1.0f - e) / (1.0f + e);
  far = x < 0.0f ? -far : far;
  return magnitude<float>(x) < 0.65f ? near_zero : far;
}

BN_INLINE Vec<double> hyperbolic_tangent(Vec<double> x) {
  Vec<double> y;
  for (int i = 0; i < kLanes<double>; ++i) y[i] = __builtin_tanh(x[i]);
  return y;
}

// Phi(x), the normal distribution function: erfc(-x / sqrt 2) / 2.
BN_INLINE Vec<float> normal_cdf(Vec<float> x) {
  Vec<float> u = x * 0.707106781f;
  Vec<float> a = magnitude<float>(u), z = u * u;
  Vec<float> p = (-9.67359025e-06f * z + 0.000112682537f) * z - 0.000848439652f;
  p = ((p * z + 0.00522105341f) * z - 0.0268654383f) * z + 0.112837826f;
  p = (p * z - 0.376126385f) * z + 1.12837917f;
  Vec<float> near_zero = 0.5f + 0.5f * (u * p);  // |u| < 1: 2e-7
  Vec<float> t = 1.0f / (1.0f + 0.4f * a);
  Vec<float> q = (-0.095205253f * t + 0.167330025f) * t + 0.124899945f;
  q = ((q * t + 0.115486595f) * t + 0.246987819f) * t + 0.212623155f;
  q = (q * t + 0.227873579f) * t - 0.000151468079f;
  Vec<float> tail = 0.5f * q * exponential(-z);  // |u| >= 1: 3e-7
  Vec<float> far = u < 0.0f ? tail : 1.0f - tail;
  return a < 1.0f ? near_zero : far;
}

BN_INLINE Vec<double> normal_cdf(Vec<double> x) {
  Vec<double> y;
  for (int i = 0; i < kLanes<double>; ++i) y[i] = 0.5 * __builtin_erfc(-x[i] * 0.70710678118654752);
  return y;
}

// ---- activations
// -----------------------------------------------------------------------------------

constexpr double kGeluTanhScale = 0.79788456080286536;  // sqrt(2 / pi)
constexpr double kGeluTanhCubic = 0.044715;

template <class A>
__attribute__((noinline)) Vec<A> activate_any(int activation, A slope, Vec<A> x) {
  const Vec<A> zero = {};
  switch (activation) {
    case kRelu:
      return x < zero ? zero : x;
    case kRelu6:
      x = x < zero ? zero : x;
      return x > A(6) ? splat(A(6)) : x;
    case kLeakyRelu:
      return x > zero ? x : x * slope;
    case kSilu:
      return x * logistic<A>(x);
    case kGelu:
      return x * normal_cdf(x);
    case kGeluTanh: {
      Vec<A> u = A(kGeluTanhScale) * (x + A(kGeluTanhCubic) * x * x * x);
      return x * logistic<A>(A(2) * u);  // (1 + tanh u) / 2 = logistic(2u)
    }
    case kHardswish: {
      Vec<A> gate = x + A(3);
      gate = gate < zero ? zero : gate;
      gate = gate > A(6) ? splat(A(6)) : gate;
      return x * gate / A(6);
    }
    case kElu:
      return x > zero ? x : slope * (exponential(x) - A(1));
    case kSigmoid:
      return logistic<A>(x);
    case kTanh:
      return hyperbolic_tangent(x);
    default:
      return x;
  }
}

// dy * activation'(x).
template <class A>
__attribute__((noinline)) Vec<A> activation_grad_any(int activation, A slope, Vec<A> x, Vec<A> dy) {
  const Vec<A> zero = {};
  switch (activation) {
    case kRelu:
      return x <= zero ? zero : dy;
    case kRelu6: {
      Vec<A> g = x <= zero ? zero : dy;
      return x >= A(6) ? zero : g;
    }
    case kLeakyRelu:
      return x > zero ? dy : dy * slope;
    case kSilu: {
      Vec<A> s = logistic<A>(x);
      return dy * (s * (A(1) + x * (A(1) - s)));
    }
    case kGelu: {
      Vec<A> density = A(0.39894228040143268) * exponential(A(-0.5) * x * x);
      return dy * (normal_cdf(x) + x * density);
    }
    case kGeluTanh: {
      Vec<A> u = A(kGeluTanhScale) * (x + A(kGeluTanhCubic) * x * x * x);
      Vec<A> du = A(kGeluTanhScale) * (A(1) + A(3 * kGeluTanhCubic) * x * x);
      Vec<A> s = logistic<A>(A(2) * u);
      return dy * (s + A(2) * x * s * (A(1) - s) * du);
    }
    case kHardswish: {
      Vec<A> inner = dy * (x / A(3) + A(0.5));
      inner = x <= A(-3) ? zero : inner;
      return x >= A(3) ? dy : inner;
    }
    case kElu:
      return x > zero ? dy : dy * (slope * exponential(x));
    case kSigmoid: {
      Vec<A> s = logistic<A>(x);
      return dy * (s * (A(1) - s));
    }
    case kTanh: {
      Vec<A> t = hyperbolic_tangent(x);
      return dy * (A(1) - t * t);
    }
    default:
      return dy;
  }
}

// kAny stands for every activation that is not inlined.
constexpr int kAny = -1;

template <int kAct, class A>
BN_INLINE Vec<A> activate(int activation, A slope, Vec<A> x) {
  if constexpr (kAct == kIdentity) return x;
  const Vec<A> zero = {};
  if constexpr (kAct == kRelu) return x < zero ? zero : x;
  return activate_any<A>(activation, slope, x);
}

template <int kAct, class A>
BN_INLINE Vec<A> activation_grad(int activation, A slope, Vec<A> x, Vec<A> dy) {
  if constexpr (kAct == kIdentity) return dy;
  const Vec<A> zero = {};
  if constexpr (kAct == kRelu) return x <= zero ? zero : dy;
  return activation_grad_any<A>(activation, slope, x, dy);
}

}  // namespace bn::BN_ISA
