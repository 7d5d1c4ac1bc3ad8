// Data loss and gradient of a stack of small multilayer perceptrons, LANES networks at a time.
//
//   loss_b = sum_i w_bi L(f(x_i; theta_b), y_i),   gradient_b = d loss_b / d theta_b
//
// One network per vector lane: a network's arithmetic never depends on its neighbours, on its position or on how many
// there are. A tile of examples goes forward and backward while it is in the first-level cache. The sizes, the scalar
// type, the activation and the loss are compile-time constants (-D...); see fused.py. It differs from autograd on the
// objective by rounding only, which a test checks.
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

constexpr int LANES = 64 / sizeof(SCALAR);
constexpr int TILE = 4;
constexpr int FIRST = DEPTH ? WIDTH : OUTPUTS;  // units of the first layer
constexpr int PARAMETERS = DEPTH ? WIDTH * (INPUTS + BIAS) + (DEPTH - 1) * WIDTH * (WIDTH + BIAS) + OUTPUTS * (WIDTH + BIAS)
                                 : OUTPUTS * (INPUTS + BIAS);
constexpr int largest(int a, int b) { return a > b ? a : b; }
constexpr int UNITS = largest(largest(INPUTS, OUTPUTS), DEPTH ? WIDTH : 1);

typedef SCALAR vec __attribute__((vector_size(64)));
typedef vec units[UNITS][TILE];

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

// z[o] = sum_i W[o,i] h[i] + b[o]
template <int I, int O> static inline void forward(const vec* W, const units& h, units& z) {
  for (int o = 0; o < O; ++o) {
    vec sum[TILE];
    for (int t = 0; t < TILE; ++t) sum[t] = BIAS ? W[O * I + o] : splat(0);
    for (int i = 0; i < I; ++i)
      for (int t = 0; t < TILE; ++t) sum[t] += W[o * I + i] * h[i][t];
    for (int t = 0; t < TILE; ++t) z[o][t] = sum[t];
  }
}

// gradient of the layer's parameters, and of its inputs before their activation's slope
template <int I, int O, bool DOWN> static inline void backward(const vec* W, vec* g, const units& h, const units& delta, units& down) {
  for (int o = 0; o < O; ++o) {
    for (int i = 0; i < I; ++i) {
      vec sum = g[o * I + i];
      for (int t = 0; t < TILE; ++t) sum += delta[o][t] * h[i][t];
      g[o * I + i] = sum;
    }
    if (BIAS) for (int t = 0; t < TILE; ++t) g[O * I + o] += delta[o][t];
  }
  if (DOWN)
    for (int i = 0; i < I; ++i) {
      vec sum[TILE];
      for (int t = 0; t < TILE; ++t) sum[t] = splat(0);
      for (int o = 0; o < O; ++o)
        for (int t = 0; t < TILE; ++t) sum[t] += W[o * I + i] * delta[o][t];
      for (int t = 0; t < TILE; ++t) down[i][t] = sum[t];
    }
}

// delta = w dL/dz in place of z; returns w L
static inline vec output(vec z[][TILE], int t, const vec* y, vec w) {
#if LOSS == 0  // cross-entropy, y one-hot
  vec top = z[0][t], sum = splat(0), chosen = splat(0), e[OUTPUTS];
  for (int c = 1; c < OUTPUTS; ++c) top = z[c][t] > top ? z[c][t] : top;
  for (int c = 0; c < OUTPUTS; ++c) { e[c] = vexp(z[c][t] - top); sum += e[c]; chosen += y[c] * (z[c][t] - top); }
  for (int c = 0; c < OUTPUTS; ++c) z[c][t] = w * (e[c] / sum - y[c]);
  return w * (vlog(sum) - chosen);
#else  // squared error / 2
  vec loss = splat(0);
  for (int c = 0; c < OUTPUTS; ++c) { z[c][t] = z[c][t] - y[c]; loss += z[c][t] * z[c][t]; z[c][t] *= w; }
  return SCALAR(0.5) * w * loss;
#endif
}

// theta, gradient [networks, PARAMETERS]; w [networks, rows]; loss [networks]; x [rows, INPUTS] and y [rows, OUTPUTS], one
// set for all networks when `shared`, else [networks, rows, .].
extern "C" void stacked_gradient(long networks, long rows, int shared, const SCALAR* x, const SCALAR* y, const SCALAR* w,
                                 const SCALAR* theta, SCALAR* loss, SCALAR* gradient) {
  constexpr int HIDDEN = WIDTH * (WIDTH + BIAS), OPENING = FIRST * (INPUTS + BIAS);
  alignas(64) static thread_local vec W[PARAMETERS], g[PARAMETERS];
  alignas(64) static thread_local units h[DEPTH + 1], slope[DEPTH + 1], z, delta, spare;
  for (long start = 0; start < networks; start += LANES) {
    long who[LANES];  // the last block repeats its last network
    for (int l = 0; l < LANES; ++l) who[l] = start + l < networks ? start + l : networks - 1;
    for (int p = 0; p < PARAMETERS; ++p) {
      for (int l = 0; l < LANES; ++l) W[p][l] = theta[who[l] * PARAMETERS + p];
      g[p] = splat(0);
    }
    vec total = splat(0);
    for (long row = 0; row < rows; row += TILE) {
      vec weight[TILE], target[TILE][OUTPUTS];
      for (int t = 0; t < TILE; ++t) {
        const bool inside = row + t < rows;
        const long r = inside ? row + t : rows - 1;
        if (inside) for (int l = 0; l < LANES; ++l) weight[t][l] = w[who[l] * rows + r];
        else weight[t] = splat(0);
        if (shared) {
          for (int i = 0; i < INPUTS; ++i) h[0][i][t] = splat(x[r * INPUTS + i]);
          for (int c = 0; c < OUTPUTS; ++c) target[t][c] = splat(y[r * OUTPUTS + c]);
        } else {
          for (int i = 0; i < INPUTS; ++i) for (int l = 0; l < LANES; ++l) h[0][i][t][l] = x[(who[l] * rows + r) * INPUTS + i];
          for (int c = 0; c < OUTPUTS; ++c) for (int l = 0; l < LANES; ++l) target[t][c][l] = y[(who[l] * rows + r) * OUTPUTS + c];
        }
      }
      const vec* layer = W;
      for (int k = 0; k < DEPTH; ++k) {
        if (k == 0) { forward<INPUTS, FIRST>(layer, h[0], z); layer += OPENING; }
        else { forward<WIDTH, WIDTH>(layer, h[k], z); layer += HIDDEN; }
        for (int o = 0; o < WIDTH; ++o) for (int t = 0; t < TILE; ++t) activation(z[o][t], h[k + 1][o][t], slope[k + 1][o][t]);
      }
      forward<DEPTH ? WIDTH : INPUTS, OUTPUTS>(layer, h[DEPTH], delta);
      for (int t = 0; t < TILE; ++t) total += output(delta, t, target[t], weight[t]);
      backward<DEPTH ? WIDTH : INPUTS, OUTPUTS, (DEPTH > 0)>(layer, g + (layer - W), h[DEPTH], delta, spare);
      for (int k = DEPTH; k > 0; --k) {
        for (int o = 0; o < WIDTH; ++o) for (int t = 0; t < TILE; ++t) delta[o][t] = spare[o][t] * slope[k][o][t];
        layer -= k == 1 ? OPENING : HIDDEN;
        if (k == 1) backward<INPUTS, FIRST, false>(layer, g + (layer - W), h[0], delta, spare);
        else backward<WIDTH, WIDTH, true>(layer, g + (layer - W), h[k - 1], delta, spare);
      }
    }
    for (int l = 0; l < LANES && start + l < networks; ++l) {
      loss[start + l] = total[l];
      for (int p = 0; p < PARAMETERS; ++p) gradient[(start + l) * PARAMETERS + p] = g[p][l];
    }
  }
}
