// Data loss and gradient of a stack of small multilayer perceptrons, LANES networks at a time.
//
//   loss_b = sum_i w_bi L(f(x_i; theta_b), y_i),   gradient_b = d loss_b / d theta_b
//
// A tile of examples goes forward and backward while it is in the first-level cache. It differs from autograd on the
// objective by rounding only, which a test checks.
#include "lanes.h"

constexpr int TILE = VECTOR_BYTES == 64 ? 4 : 8;  // as many bytes of each unit, whatever the vectors
typedef vec units[UNITS][TILE];

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
