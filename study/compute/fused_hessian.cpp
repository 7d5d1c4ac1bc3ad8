// Hessians of a stack of small multilayer perceptrons, LANES networks at a time.
//
//   H_b = d^2 / d theta_b^2  sum_i w_bi L(f(x_i; theta_b), y_i),   or its Gauss-Newton part
//
// Layers k = 0 .. DEPTH compute a_k = W_k h_k + b_k from h_0 = x and h_{k+1} = phi(a_k); delta_k = dL/da_k. With
//   C_ml = d delta_m / d a_l,   R_ml = d h_m / d a_l,
// the block of layers m >= l is  sum_i C_ml (x) h_m h_l' + delta_m (x) R_ml (x) h_l,  and both matrices follow from those of
// the layer above:  C_m,l-1 = C_m,l W_l diag phi'(a_{l-1}).  See `Mlp.hessian`, which a test holds it against.
//
// A chunk of examples stays in the second-level cache while all blocks take it up.
#include "lanes.h"

#include <vector>

constexpr int CHUNK = 32;
constexpr int STRIP = 8;  // examples whose sums are in registers
constexpr int INSIDE = largest(DEPTH ? WIDTH : 1, OUTPUTS);  // most outputs of a layer

typedef vec column[CHUNK];        // one number per example
typedef column square[INSIDE][INSIDE];

template <int I, int O> struct size { static constexpr int in = I, out = O; };
template <class F> static inline void on_layer(int k, F f) {
  if (k == DEPTH) f(size<DEPTH ? WIDTH : INPUTS, OUTPUTS>());
  else if (k == 0) f(size<INPUTS, FIRST>());
  else f(size<WIDTH, WIDTH>());
}
static inline int inputs(int k) { return k == 0 ? INPUTS : WIDTH; }
static inline int outputs(int k) { return k == DEPTH ? OUTPUTS : WIDTH; }

struct Work {
  column h[DEPTH + 1][UNITS], slope[DEPTH + 1][UNITS], bend[DEPTH + 1][UNITS];  // of the hidden layer k: h[k + 1], slope[k]
  column delta[DEPTH + 1][UNITS], back[DEPTH + 1][UNITS];                       // back[k] = W_{k+1}' delta_{k+1}
  square within, across, pulled;
  column reach[DEPTH ? WIDTH : 1][INSIDE];
};

// to[r] = (from[r] W) * slope, for `tall` rows of I numbers from rows of O
template <int I, int O, class From, class To>
static inline void descend(const vec* W, const From& from, To& to, const column* slope, int tall) {
  for (int r = 0; r < tall; ++r)
    for (int q = 0; q < I; ++q)
      for (int t = 0; t < CHUNK; t += STRIP) {
        vec sum[STRIP];
        for (int s = 0; s < STRIP; ++s) sum[s] = splat(0);
        for (int p = 0; p < O; ++p)
          for (int s = 0; s < STRIP; ++s) sum[s] += from[r][p][t + s] * W[p * I + q];
        for (int s = 0; s < STRIP; ++s) to[r][q][t + s] = sum[s] * slope[q][t + s];
      }
}

// H[m, l] += sum over the chunk
template <class High, class Low>
static inline void block(const Work& work, vec* H, int m, int l, int row, int col, High, Low) {
  constexpr int IH = High::in, OH = High::out, IL = Low::in, OL = Low::out, GROUP = 8;
  for (int o = 0; o < OH; ++o)
    for (int p = 0; p < OL; ++p)
      for (int a = 0; a < IH + BIAS; ++a) {
        column factor;
        if (a == IH) for (int t = 0; t < CHUNK; ++t) factor[t] = work.across[o][p][t];
        else if (l == m) for (int t = 0; t < CHUNK; ++t) factor[t] = work.across[o][p][t] * work.h[m][a][t];
        else for (int t = 0; t < CHUNK; ++t)
          factor[t] = work.across[o][p][t] * work.h[m][a][t] + work.delta[m][o][t] * work.reach[a][p][t];
        vec* into = H + long(row + (a == IH ? OH * IH + o : o * IH + a)) * PARAMETERS + col;
        int b = 0;
        for (; b + GROUP <= IL; b += GROUP) {
          vec sum[GROUP];
          for (int g = 0; g < GROUP; ++g) sum[g] = splat(0);
          for (int t = 0; t < CHUNK; ++t)
            for (int g = 0; g < GROUP; ++g) sum[g] += factor[t] * work.h[l][b + g][t];
          for (int g = 0; g < GROUP; ++g) into[p * IL + b + g] += sum[g];
        }
        constexpr int REST = IL % GROUP;
        vec sum[REST + 1];  // the last is the bias
        for (int g = 0; g <= REST; ++g) sum[g] = splat(0);
        for (int t = 0; t < CHUNK; ++t) {
          for (int g = 0; g < REST; ++g) sum[g] += factor[t] * work.h[l][b + g][t];
          sum[REST] += factor[t];
        }
        for (int g = 0; g < REST; ++g) into[p * IL + b + g] += sum[g];
        if (BIAS) into[OL * IL + p] += sum[REST];
      }
}

static void forward(Work& work, const vec* W) {
  for (int k = 0; k <= DEPTH; ++k) {
    const int I = inputs(k), O = outputs(k);
    column* to = k == DEPTH ? work.delta[DEPTH] : work.h[k + 1];
    for (int o = 0; o < O; ++o) {
      for (int t = 0; t < CHUNK; ++t) to[o][t] = BIAS ? W[O * I + o] : splat(0);
      for (int i = 0; i < I; ++i) for (int t = 0; t < CHUNK; ++t) to[o][t] += W[o * I + i] * work.h[k][i][t];
      if (k < DEPTH)
        for (int t = 0; t < CHUNK; ++t) {
          const vec z = to[o][t];
          activation(z, to[o][t], work.slope[k][o][t]);
          work.bend[k][o][t] = bend(z, to[o][t], work.slope[k][o][t]);
        }
    }
    W += O * (I + BIAS);
  }
}

// delta of the last layer, w dL/dz, in place of z, and within = w d^2L/dz^2
static void loss(Work& work, const column* target, const column& weight) {
  column* z = work.delta[DEPTH];
  for (int t = 0; t < CHUNK; ++t) {
#if LOSS == 0  // cross-entropy, y one-hot
    vec top = z[0][t], sum = splat(0), e[OUTPUTS];
    for (int c = 1; c < OUTPUTS; ++c) top = z[c][t] > top ? z[c][t] : top;
    for (int c = 0; c < OUTPUTS; ++c) { e[c] = vexp(z[c][t] - top); sum += e[c]; }
    for (int c = 0; c < OUTPUTS; ++c) e[c] /= sum;
    for (int c = 0; c < OUTPUTS; ++c) {
      z[c][t] = weight[t] * (e[c] - target[c][t]);
      for (int d = 0; d < OUTPUTS; ++d) work.within[c][d][t] = weight[t] * ((c == d ? e[c] : splat(0)) - e[c] * e[d]);
    }
#else  // squared error / 2
    for (int c = 0; c < OUTPUTS; ++c) {
      z[c][t] = weight[t] * (z[c][t] - target[c][t]);
      for (int d = 0; d < OUTPUTS; ++d) work.within[c][d][t] = c == d ? weight[t] : splat(0);
    }
#endif
  }
}

static void backward(Work& work, const vec* W) {  // W: of the last layer
  for (int k = DEPTH; k > 0; --k) {
    const int I = inputs(k), O = outputs(k);
    for (int i = 0; i < I; ++i) {
      for (int t = 0; t < CHUNK; ++t) work.back[k - 1][i][t] = splat(0);
      for (int o = 0; o < O; ++o)
        for (int t = 0; t < CHUNK; ++t) work.back[k - 1][i][t] += W[o * I + i] * work.delta[k][o][t];
      for (int t = 0; t < CHUNK; ++t) work.delta[k - 1][i][t] = work.back[k - 1][i][t] * work.slope[k - 1][i][t];
    }
    W -= outputs(k - 1) * (inputs(k - 1) + BIAS);
  }
}

static void blocks(Work& work, const vec* theta, const int* start, vec* H) {
  for (int m = DEPTH; m >= 0; --m) {
    on_layer(m, [&](auto high) {
      constexpr int IH = decltype(high)::in, OH = decltype(high)::out;
      for (int o = 0; o < OH; ++o)
        for (int p = 0; p < OH; ++p)
          for (int t = 0; t < CHUNK; ++t) work.across[o][p][t] = work.within[o][p][t];
      for (int l = m; l >= 0; --l) {
        on_layer(l, [&](auto low) { block(work, H, m, l, start[m], start[l], high, low); });
        if (l == 0) break;
        on_layer(l, [&](auto low) {
          constexpr int IL = decltype(low)::in, OL = decltype(low)::out;
          const vec* W = theta + start[l];
          descend<IL, OL>(W, work.across, work.pulled, work.slope[l - 1], OH);
          for (int o = 0; o < OH; ++o)
            for (int q = 0; q < IL; ++q) for (int t = 0; t < CHUNK; ++t) work.across[o][q][t] = work.pulled[o][q][t];
          if (l == m) {
            for (int a = 0; a < IL; ++a)
              for (int q = 0; q < IL; ++q)
                for (int t = 0; t < CHUNK; ++t) work.reach[a][q][t] = a == q ? work.slope[l - 1][q][t] : splat(0);
          } else {
            descend<IL, OL>(W, work.reach, work.pulled, work.slope[l - 1], IH);
            for (int a = 0; a < IH; ++a)
              for (int q = 0; q < IL; ++q) for (int t = 0; t < CHUNK; ++t) work.reach[a][q][t] = work.pulled[a][q][t];
          }
        });
      }
      if (m > 0) {  // within of the layer below: (slope W' within W slope) + diag(bend * back)
        const vec* W = theta + start[m];
        descend<IH, OH>(W, work.within, work.pulled, work.slope[m - 1], OH);
        for (int q = 0; q < IH; ++q)
          for (int r = 0; r < IH; ++r)
            for (int t = 0; t < CHUNK; ++t) {
              vec sum = splat(0);
              for (int o = 0; o < OH; ++o) sum += W[o * IH + q] * work.pulled[o][r][t];
              sum *= work.slope[m - 1][q][t];
              work.within[q][r][t] = q == r ? sum + work.bend[m - 1][q][t] * work.back[m - 1][q][t] : sum;
            }
      }
    });
  }
}

// theta [networks, PARAMETERS]; w [networks, rows]; hessian [networks, PARAMETERS, PARAMETERS]; x and y as in fused.cpp.
// Gauss-Newton where not `full`: the derivatives of the outputs themselves count as constant.
extern "C" void stacked_hessian(long networks, long rows, int shared, int full, const SCALAR* x, const SCALAR* y,
                                const SCALAR* w, const SCALAR* theta, SCALAR* hessian) {
  static thread_local std::vector<vec> matrix, parameters;
  alignas(64) static thread_local Work work;
  matrix.resize(long(PARAMETERS) * PARAMETERS);
  parameters.resize(PARAMETERS);
  int start[DEPTH + 1];
  for (int k = 0, at = 0; k <= DEPTH; ++k) { start[k] = at; at += outputs(k) * (inputs(k) + BIAS); }
  for (long first = 0; first < networks; first += LANES) {
    long who[LANES];  // the last block repeats its last network
    for (int l = 0; l < LANES; ++l) who[l] = first + l < networks ? first + l : networks - 1;
    for (int p = 0; p < PARAMETERS; ++p) for (int l = 0; l < LANES; ++l) parameters[p][l] = theta[who[l] * PARAMETERS + p];
    for (vec& entry : matrix) entry = splat(0);
    for (long row = 0; row < rows; row += CHUNK) {
      column weight, target[OUTPUTS];
      for (int t = 0; t < CHUNK; ++t) {
        const bool inside = row + t < rows;
        const long r = inside ? row + t : rows - 1;
        for (int l = 0; l < LANES; ++l) {
          const long example = shared ? r : who[l] * rows + r;
          weight[t][l] = inside ? w[who[l] * rows + r] : 0;
          for (int i = 0; i < INPUTS; ++i) work.h[0][i][t][l] = x[example * INPUTS + i];
          for (int c = 0; c < OUTPUTS; ++c) target[c][t][l] = y[example * OUTPUTS + c];
        }
      }
      forward(work, parameters.data());
      loss(work, target, weight);
      if (!full) for (int c = 0; c < OUTPUTS; ++c) for (int t = 0; t < CHUNK; ++t) work.delta[DEPTH][c][t] = splat(0);
      backward(work, parameters.data() + start[DEPTH]);
      blocks(work, parameters.data(), start, matrix.data());
    }
    for (int l = 0; l < LANES && first + l < networks; ++l) {
      SCALAR* out = hessian + (first + l) * PARAMETERS * PARAMETERS;
      for (long i = 0; i < PARAMETERS; ++i)
        for (long j = 0; j <= i; ++j) out[i * PARAMETERS + j] = out[j * PARAMETERS + i] = matrix[i * PARAMETERS + j][l];
    }
  }
}
