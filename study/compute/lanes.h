// What the fused kernels share: LANES networks at a time, one per vector lane, so that a network's arithmetic never depends
// on its neighbours, on its position or on how many there are. The sizes, the scalar type, the activation and the loss
// are compile-time constants (-D...); see fused.py.
#pragma once
#include <cmath>
#include <cstring>

#ifdef VECTOR_MATH  // glibc >= 2.35 on x86-64 has vector variants of these: tell the compiler
#define SIMD __attribute__((simd("notinbranch"), const))
extern "C" {
SIMD float expf(float) noexcept; SIMD float logf(float) noexcept; SIMD float tanhf(float) noexcept;
SIMD float erff(float) noexcept; SIMD float log1pf(float) noexcept;  SIMD float expm1f(float) noexcept;
SIMD double exp(double) noexcept; SIMD double log(double) noexcept; SIMD double tanh(double) noexcept;
SIMD double erf(double) noexcept; SIMD double log1p(double) noexcept; SIMD double expm1(double) noexcept;
}
#endif

#if defined(__AVX512F__)  // the processor's own vectors: wider ones are taken apart in memory, two to three times as slow
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
constexpr int LANES = VECTOR_BYTES / sizeof(SCALAR);
constexpr int FIRST = DEPTH ? WIDTH : OUTPUTS;  // units of the first layer
constexpr int PARAMETERS = DEPTH ? WIDTH * (INPUTS + BIAS) + (DEPTH - 1) * WIDTH * (WIDTH + BIAS) + OUTPUTS * (WIDTH + BIAS)
                                 : OUTPUTS * (INPUTS + BIAS);
constexpr int largest(int a, int b) { return a > b ? a : b; }
constexpr int UNITS = largest(largest(INPUTS, OUTPUTS), DEPTH ? WIDTH : 1);

typedef SCALAR vec __attribute__((vector_size(VECTOR_BYTES)));

static inline vec splat(SCALAR s) { vec v; for (int l = 0; l < LANES; ++l) v[l] = s; return v; }
#define LANEWISE(name, f32, f64)                                                        \
  static inline vec name(vec a) {                                                       \
    vec r;                                                                              \
    SCALAR in[LANES], out[LANES];                                                       \
    std::memcpy(in, &a, sizeof a);                                                      \
    for (int l = 0; l < LANES; ++l) out[l] = sizeof(SCALAR) == 4 ? f32(in[l]) : f64(in[l]); \
    std::memcpy(&r, out, sizeof r);                                                     \
    return r;                                                                           \
  }
LANEWISE(vexp, expf, exp)
LANEWISE(vlog, logf, log)
LANEWISE(vtanh, tanhf, tanh)
LANEWISE(verf, erff, erf)
LANEWISE(vlog1p, log1pf, log1p)
LANEWISE(vexpm1, expm1f, expm1)

// value h = phi(z) and slope d = phi'(z)
static inline void activation(vec z, vec& h, vec& d) {
  const vec zero = splat(0), one = splat(1);
#if ACTIVATION == 0  // tanh; in double, tanh z = -sign(z) m / (2 + m) with m = expm1(-2|z|) is as accurate and faster
  if (sizeof(SCALAR) == 4) {
    h = vtanh(z);
  } else {
    const vec m = vexpm1(z > 0 ? SCALAR(-2) * z : SCALAR(2) * z), t = m / (SCALAR(2) + m);
    h = z > 0 ? -t : t;
  }
  d = one - h * h;
#elif ACTIVATION == 1  // relu
  h = z > 0 ? z : zero; d = z > 0 ? one : zero;
#elif ACTIVATION == 2  // selu
  const SCALAR scale = 1.0507009873554804934193349852946, alpha = 1.6732632423543772848170429916717;
  const vec e = vexpm1(z > 0 ? zero : z);
  h = scale * (z > 0 ? z : alpha * e); d = z > 0 ? splat(scale) : scale * alpha * (e + one);
#elif ACTIVATION == 3  // gelu
  const vec normal = SCALAR(0.5) * (one + verf(z * SCALAR(0.70710678118654752440)));
  h = z * normal; d = normal + z * SCALAR(0.39894228040143267794) * vexp(SCALAR(-0.5) * z * z);
#else  // softplus
  const vec e = vexp(z > 0 ? -z : z);
  h = (z > 0 ? z : zero) + vlog1p(e); d = (z > 0 ? one : e) / (one + e);
#endif
}

// phi''(z), from z and the value and slope there
static inline vec bend(vec z, vec h, vec d) {
  const vec zero = splat(0);
#if ACTIVATION == 0
  return SCALAR(-2) * h * d;
#elif ACTIVATION == 1
  return zero;
#elif ACTIVATION == 2
  return z > 0 ? zero : d;
#elif ACTIVATION == 3
  return (SCALAR(2) - z * z) * SCALAR(0.39894228040143267794) * vexp(SCALAR(-0.5) * z * z);
#else
  return d * (splat(1) - d);
#endif
}
