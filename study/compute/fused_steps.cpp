// Many steps of full-batch first-order training in one call: gradient, penalty, update and plateau schedule, network by network.
//
// The gradient of the data is fused.cpp's, given as a function. The rest is the arithmetic of objective.py and optimizers.py,
// operation by operation in the same order: + - x / and square roots alone, compiled without contraction (fused.py), so that
// every bit is that of the loop in torch.
#include <cmath>

typedef void (*Gradient)(long networks, long rows, int shared, const SCALAR* x, const SCALAR* y, const SCALAR* w,
                         const SCALAR* theta, SCALAR* loss, SCALAR* gradient);

constexpr long BLOCK = 64 / sizeof(SCALAR);  // networks that take all their steps together: a multiple of the gradient's lanes

// of a stack; what is optional may be null
struct Stack {
  long networks, parameters, rows, inputs, outputs;
  int shared;  // one set of rows for all
  const SCALAR *x, *y, *w;     // as the gradient takes them
  const SCALAR *decay, *centre;  // [networks, parameters]; centre optional
  const unsigned char* fixed;  // [parameters], optional: 1 where a parameter does not move
  SCALAR *theta, *first, *second;  // [networks, parameters]: parameters, and the optimiser's state (second: Adam's only)
  SCALAR *rates, *best, *waited;   // [networks]: learning rates, and the state of a plateau schedule (optional)
};

// of the optimiser and the schedule
struct Rule {
  int adam;
  double momentum;                      // of gradient descent
  double keep_first, keep_second, floor;  // of Adam: beta_1, beta_2, epsilon
  double factor, patience, better, smallest;  // of a plateau: see optimizers.Plateau
  const double *scales, *corrections, *roots;  // [steps]: of the rates; 1 - beta_1^t and sqrt(1 - beta_2^t)
};

static void update(const Stack& s, const Rule& r, long step, long b, const SCALAR* data_gradient) {
  const SCALAR rate = s.rates[b] * SCALAR(r.scales[step]);
  SCALAR *theta = s.theta + b * s.parameters, *first = s.first + b * s.parameters;
  const SCALAR* decay = s.decay + b * s.parameters;
  const SCALAR* centre = s.centre ? s.centre + b * s.parameters : nullptr;
  if (r.adam) {
    SCALAR* second = s.second + b * s.parameters;
    const SCALAR scaled = rate / SCALAR(r.corrections[step]), root = SCALAR(r.roots[step]), floor = SCALAR(r.floor);
    const SCALAR new_first = SCALAR(1 - r.keep_first), keep = SCALAR(r.keep_second), new_second = SCALAR(1 - r.keep_second);
    for (long p = 0; p < s.parameters; ++p) {
      const SCALAR moved = centre ? theta[p] - centre[p] : theta[p];
      SCALAR g = data_gradient[p] + decay[p] * moved;
      if (s.fixed && s.fixed[p]) g = 0;
      first[p] = first[p] + (g - first[p]) * new_first;
      second[p] = second[p] * keep + (g * g) * new_second;
      theta[p] = theta[p] - first[p] / (std::sqrt(second[p]) / root + floor) * scaled;
    }
  } else {
    const SCALAR momentum = SCALAR(r.momentum);
    for (long p = 0; p < s.parameters; ++p) {
      const SCALAR moved = centre ? theta[p] - centre[p] : theta[p];
      SCALAR g = data_gradient[p] + decay[p] * moved;
      if (s.fixed && s.fixed[p]) g = 0;
      first[p] = first[p] * momentum + g;
      theta[p] = theta[p] - first[p] * rate;
    }
  }
}

static void observe(const Stack& s, const Rule& r, long b, SCALAR loss) {
  const bool better = loss < s.best[b] * SCALAR(r.better);
  if (better) s.best[b] = loss;
  s.waited[b] = better ? SCALAR(0) : s.waited[b] + SCALAR(1);
  const bool due = s.waited[b] > SCALAR(r.patience);
  const SCALAR lower = s.rates[b] * SCALAR(r.factor);
  if (due && s.rates[b] - lower > SCALAR(r.smallest)) s.rates[b] = lower;
  if (due) s.waited[b] = 0;
}

// work: [BLOCK, parameters + 1]
extern "C" void stacked_steps(Gradient gradient, const Stack* stack, const Rule* rule, long steps, SCALAR* work) {
  const Stack& s = *stack;
  SCALAR *loss = work, *found = work + BLOCK;
  for (long start = 0; start < s.networks; start += BLOCK) {
    const long count = start + BLOCK < s.networks ? BLOCK : s.networks - start;
    const long own = s.shared ? 0 : start * s.rows;
    for (long step = 0; step < steps; ++step) {
      gradient(count, s.rows, s.shared, s.x + own * s.inputs, s.y + own * s.outputs, s.w + start * s.rows,
               s.theta + start * s.parameters, loss, found);
      for (long b = 0; b < count; ++b) {
        update(s, *rule, step, start + b, found + b * s.parameters);
        if (s.best) observe(s, *rule, start + b, loss[b]);
      }
    }
  }
}
