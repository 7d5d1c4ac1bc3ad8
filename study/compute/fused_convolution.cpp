// Data loss and gradient of a stack of convolutional networks, one network at a time: here the lanes are rows of its data, so
// that a network alone costs what it costs in a stack, and has the same bits there.
//
//   loss_b = sum_i w_bi L(f(x_i; theta_b), y_i),   gradient_b = d loss_b / d theta_b
//
// The network is a chain of layers, given as -DCHAIN=...; LANES rows go forward and backward while they are in the second-level
// cache. Between layers numbers stand by pixel, then by channel. It differs from autograd on the objective by rounding only,
// which a test checks.
#include "lanes.h"

// the largest divisor of n that is at most `most`: accumulators that fit the registers
constexpr int divisor(int n, int most) { return n % (most < n ? most : n) == 0 ? (most < n ? most : n) : divisor(n, most - 1); }
constexpr int least(int a, int b) { return a < b ? a : b; }

// K x K filters from I to O channels of H x W pixels, every S pixels; parameters in the order [ky][kx][i][o], then the biases
template <int I, int O, int K, int S, int H, int W> struct Conv {
  static constexpr int TALL = (H - K) / S + 1, WIDE = (W - K) / S + 1;
  static constexpr int IN = I * H * W, OUT = O * TALL * WIDE, WEIGHTS = K * K * I * O, SIZE = WEIGHTS + O;
  static constexpr int X = least(WIDE, 3), OB = divisor(O, 12 / X), IB = divisor(I, 12 / X), GI = divisor(I, 3), GO = divisor(O, 12 / GI);

  // where parameter p of torch's order [o][i][ky][kx] stands
  static int place(int p) {
    if (p >= WEIGHTS) return p;
    const int kx = p % K, ky = p / K % K, i = p / (K * K) % I, o = p / (K * K * I);
    return ((ky * K + kx) * I + i) * O + o;
  }

  template <int XB> static inline void out_of(const SCALAR* w, const vec* in, vec* out, int y, int x, int o) {
    vec sum[XB][OB];
    for (int a = 0; a < XB; ++a) for (int b = 0; b < OB; ++b) sum[a][b] = splat(w[WEIGHTS + o + b]);
    for (int ky = 0; ky < K; ++ky)
      for (int kx = 0; kx < K; ++kx) {
        const vec* from = in + ((y * S + ky) * W + x * S + kx) * I;
        const SCALAR* own = w + (ky * K + kx) * I * O + o;
        for (int i = 0; i < I; ++i)
          for (int b = 0; b < OB; ++b)
            for (int a = 0; a < XB; ++a) sum[a][b] += from[a * S * I + i] * own[i * O + b];
      }
    for (int a = 0; a < XB; ++a) for (int b = 0; b < OB; ++b) out[(y * WIDE + x + a) * O + o + b] = sum[a][b];
  }

  static void forward(const SCALAR* w, const vec* in, vec* out) {
    for (int y = 0; y < TALL; ++y)
      for (int o = 0; o < O; o += OB) {
        int x = 0;
        for (; x + X <= WIDE; x += X) out_of<X>(w, in, out, y, x, o);
        for (; x < WIDE; ++x) out_of<1>(w, in, out, y, x, o);
      }
  }

  // the gradient of GI x GO parameters, over one line of pixels
  static inline void line(vec* g, const vec* in, const vec* delta) {
    vec sum[GI][GO];
    for (int a = 0; a < GI; ++a) for (int b = 0; b < GO; ++b) sum[a][b] = g[a * O + b];
    for (int x = 0; x < WIDE; ++x)
      for (int a = 0; a < GI; ++a)
        for (int b = 0; b < GO; ++b) sum[a][b] += in[x * S * I + a] * delta[x * O + b];
    for (int a = 0; a < GI; ++a) for (int b = 0; b < GO; ++b) g[a * O + b] = sum[a][b];
  }

  template <int XB> static inline void back_to(const SCALAR* own, const vec* delta, vec* down) {
    vec sum[XB][IB];
    for (int a = 0; a < XB; ++a) for (int b = 0; b < IB; ++b) sum[a][b] = down[a * S * I + b];
    for (int o = 0; o < O; ++o)
      for (int b = 0; b < IB; ++b)
        for (int a = 0; a < XB; ++a) sum[a][b] += delta[a * O + o] * own[b * O + o];
    for (int a = 0; a < XB; ++a) for (int b = 0; b < IB; ++b) down[a * S * I + b] = sum[a][b];
  }

  template <bool DOWN> static void backward(const SCALAR* w, vec* g, const vec* in, const vec*, const vec* delta, vec* down) {
    if (DOWN) for (int p = 0; p < IN; ++p) down[p] = splat(0);
    for (int y = 0; y < TALL; ++y) {
      const vec* own = delta + y * WIDE * O;
      for (int x = 0; x < WIDE; ++x) for (int o = 0; o < O; ++o) g[WEIGHTS + o] += own[x * O + o];
      for (int ky = 0; ky < K; ++ky)
        for (int kx = 0; kx < K; ++kx) {
          const int there = ((y * S + ky) * W + kx) * I, first = (ky * K + kx) * I * O;
          for (int i = 0; i < I; i += GI) for (int o = 0; o < O; o += GO) line(g + first + i * O + o, in + there + i, own + o);
          if (!DOWN) continue;
          for (int i = 0; i < I; i += IB) {
            int x = 0;
            for (; x + X <= WIDE; x += X) back_to<X>(w + first + i * O, own + x * O, down + there + x * S * I + i);
            for (; x < WIDE; ++x) back_to<1>(w + first + i * O, own + x * O, down + there + x * S * I + i);
          }
        }
    }
  }
};

// no parameters: what the other layers share
template <int FROM, int TO> struct Plain {
  static constexpr int IN = FROM, OUT = TO, SIZE = 0;
  static int place(int p) { return p; }
};

template <int N> struct Activation : Plain<N, N> {  // tanh or relu, whose slopes follow from their values
  static void forward(const SCALAR*, const vec* in, vec* out) {
    vec slope;
    for (int p = 0; p < N; ++p) activation(in[p], out[p], slope);
  }
  template <bool> static void backward(const SCALAR*, vec*, const vec*, const vec* out, const vec* delta, vec* down) {
    for (int p = 0; p < N; ++p) {
#if ACTIVATION == 0
      down[p] = delta[p] * (splat(1) - out[p] * out[p]);
#else
      down[p] = out[p] > 0 ? delta[p] : splat(0);
#endif
    }
  }
};

template <int C, int H, int W, int M> struct Margin : Plain<C * H * W, C * (H + 2 * M) * (W + 2 * M)> {  // of M pixels of 0
  static constexpr int AROUND = W + 2 * M;
  static void forward(const SCALAR*, const vec* in, vec* out) {
    for (int p = 0; p < C * (H + 2 * M) * AROUND; ++p) out[p] = splat(0);
    for (int y = 0; y < H; ++y)
      for (int p = 0; p < W * C; ++p) out[((y + M) * AROUND + M) * C + p] = in[y * W * C + p];
  }
  template <bool DOWN> static void backward(const SCALAR*, vec*, const vec*, const vec*, const vec* delta, vec* down) {
    if (DOWN)
      for (int y = 0; y < H; ++y)
        for (int p = 0; p < W * C; ++p) down[y * W * C + p] = delta[((y + M) * AROUND + M) * C + p];
  }
};

template <int C, int H, int W, int TALL, int WIDE> struct Mean : Plain<C * H * W, C * (H / TALL) * (W / WIDE)> {  // of blocks
  template <typename Visit> static inline void each(Visit visit) {
    for (int y = 0; y < H / TALL * TALL; ++y)
      for (int x = 0; x < W / WIDE * WIDE; ++x)
        for (int c = 0; c < C; ++c) visit((y * W + x) * C + c, (y / TALL * (W / WIDE) + x / WIDE) * C + c);
  }
  static void forward(const SCALAR*, const vec* in, vec* out) {
    for (int p = 0; p < C * (H / TALL) * (W / WIDE); ++p) out[p] = splat(0);
    each([&](int from, int to) { out[to] += in[from] * (SCALAR(1) / (TALL * WIDE)); });
  }
  template <bool> static void backward(const SCALAR*, vec*, const vec*, const vec*, const vec* delta, vec* down) {
    for (int p = 0; p < C * H * W; ++p) down[p] = splat(0);
    each([&](int from, int to) { down[from] = delta[to] * (SCALAR(1) / (TALL * WIDE)); });
  }
};

// h and delta: room for all layers' outputs and their gradients, that of the layer's own inputs being `down`; g: null for the
// loss alone
template <typename... Layers> struct Chain {
  static constexpr int SIZE = 0, NUMBERS = 0;
  static int place(int p) { return p; }
  static const vec* outputs(const SCALAR*, const vec* z, vec*) { return z; }
  template <bool> static vec run(const SCALAR*, vec*, const vec* z, vec*, vec*, vec* down, const vec* y, vec w) {
#if LOSS == 0  // cross-entropy
    vec top = z[0], sum = splat(0), chosen = splat(0), e[OUTPUTS];
    for (int c = 1; c < OUTPUTS; ++c) top = z[c] > top ? z[c] : top;
    for (int c = 0; c < OUTPUTS; ++c) { e[c] = vexp(z[c] - top); sum += e[c]; chosen += y[c] * (z[c] - top); }
    for (int c = 0; c < OUTPUTS; ++c) down[c] = w * (e[c] / sum - y[c]);
    return w * (vlog(sum) - chosen);
#else  // squared error / 2
    vec loss = splat(0);
    for (int c = 0; c < OUTPUTS; ++c) { down[c] = w * (z[c] - y[c]); loss += (z[c] - y[c]) * (z[c] - y[c]); }
    return SCALAR(0.5) * w * loss;
#endif
  }
};

template <typename First, typename... Rest> struct Chain<First, Rest...> {
  typedef Chain<Rest...> Above;
  static constexpr int SIZE = First::SIZE + Above::SIZE, NUMBERS = First::OUT + Above::NUMBERS;
  static int place(int p) { return p < First::SIZE ? First::place(p) : First::SIZE + Above::place(p - First::SIZE); }
  static const vec* outputs(const SCALAR* w, const vec* in, vec* h) {
    First::forward(w, in, h);
    return Above::outputs(w + First::SIZE, h, h + First::OUT);
  }
  template <bool DOWN>
  static vec run(const SCALAR* w, vec* g, const vec* in, vec* h, vec* delta, vec* down, const vec* y, vec weight) {
    First::forward(w, in, h);
    const vec loss = Above::template run<true>(w + First::SIZE, g ? g + First::SIZE : g, h, h + First::OUT, delta + First::OUT, delta, y, weight);
    if (g) First::template backward<DOWN>(w, g, in, h, delta, down);
    return loss;
  }
};

typedef Chain<CHAIN> Network;
alignas(64) static thread_local SCALAR own[Network::SIZE];  // a network's parameters in the layers' order
alignas(64) static thread_local vec in[INPUTS], h[Network::NUMBERS];

// LANES rows from `row` on, by pixel, then by channel; beyond the last row, it again
static void load(const SCALAR* images, long rows, long row) {
  constexpr int PIXELS = INPUTS / CHANNELS;
  for (int l = 0; l < LANES; ++l) {
    const SCALAR* image = images + (row + l < rows ? row + l : rows - 1) * INPUTS;
    for (int c = 0; c < CHANNELS; ++c)
      for (int p = 0; p < PIXELS; ++p) in[p * CHANNELS + c][l] = image[c * PIXELS + p];
  }
}

// f(x_i; theta_b) [networks, rows, OUTPUTS]; everything else as below
extern "C" void stacked_outputs(long networks, long rows, int shared, const SCALAR* x, const SCALAR* theta, SCALAR* found) {
  for (long b = 0; b < networks; ++b) {
    for (int p = 0; p < Network::SIZE; ++p) own[Network::place(p)] = theta[b * Network::SIZE + p];
    for (long row = 0; row < rows; row += LANES) {
      load(shared ? x : x + b * rows * INPUTS, rows, row);
      const vec* z = Network::outputs(own, in, h);
      for (int l = 0; l < LANES && row + l < rows; ++l)
        for (int c = 0; c < OUTPUTS; ++c) found[(b * rows + row + l) * OUTPUTS + c] = z[c][l];
    }
  }
}

// theta, gradient [networks, SIZE]; w [networks, rows]; loss [networks]; x [rows, INPUTS], by channel, then by pixel, and
// y [rows, OUTPUTS], one set for all networks when `shared`, else [networks, rows, .]. gradient: null for the loss alone.
extern "C" void stacked_gradient(long networks, long rows, int shared, const SCALAR* x, const SCALAR* y, const SCALAR* w,
                                 const SCALAR* theta, SCALAR* loss, SCALAR* gradient) {
  alignas(64) static thread_local vec g[Network::SIZE], target[OUTPUTS], delta[Network::NUMBERS];
  for (long b = 0; b < networks; ++b) {
    for (int p = 0; p < Network::SIZE; ++p) { own[Network::place(p)] = theta[b * Network::SIZE + p]; g[p] = splat(0); }
    const SCALAR *images = shared ? x : x + b * rows * INPUTS, *wanted = shared ? y : y + b * rows * OUTPUTS;
    vec total = splat(0);
    for (long row = 0; row < rows; row += LANES) {
      vec weight;
      load(images, rows, row);
      for (int l = 0; l < LANES; ++l) {  // the last block repeats the last row, with weight 0
        const long r = row + l < rows ? row + l : rows - 1;
        weight[l] = row + l < rows ? w[b * rows + r] : SCALAR(0);
        for (int c = 0; c < OUTPUTS; ++c) target[c][l] = wanted[r * OUTPUTS + c];
      }
      total += Network::run<false>(own, gradient ? g : nullptr, in, h, delta, nullptr, target, weight);
    }
    SCALAR sum = 0;
    for (int l = 0; l < LANES; ++l) sum += total[l];
    loss[b] = sum;
    for (int p = 0; gradient && p < Network::SIZE; ++p) {
      const vec& parts = g[Network::place(p)];
      SCALAR whole = 0;
      for (int l = 0; l < LANES; ++l) whole += parts[l];
      gradient[b * Network::SIZE + p] = whole;
    }
  }
}
