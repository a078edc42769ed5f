// The planned schedule as the text that lehr reads.

import { state } from "./state.js";

// Number of decaying updates: what the ratio asks, within what the warm-up leaves.
export function decaySteps() {
  return Math.max(0, Math.min(Math.round(state.ratio * state.steps), state.steps - state.warmup));
}

export function wsdText() {
  const final = Number((state.final * state.peak).toPrecision(12));
  return `wsd(steps=${state.steps}, peak=${state.peak}, warmup=${state.warmup}, decay=${decaySteps()}, `
    + `shape=${state.shape}, final=${final})`;
}

// Points that a drawing begins with: the corners of the planned WSD schedule.
export function startPoints() {
  const { steps, peak, warmup, final } = state;
  const first = warmup > 0 ? [[0, 0], [warmup, peak]] : [[0, peak]];
  const corner = steps - decaySteps();
  const hold = corner > warmup && corner < steps ? [[corner, peak]] : [];
  return [...first, ...hold, [steps, final * peak]];
}

// Points in order, whole steps within training, LRs not below 0.
export function tidy(points, steps) {
  return points.map(([step, lr]) => [Math.round(Math.min(Math.max(step, 0), steps)), Number(Math.max(lr, 0).toPrecision(5))])
    .sort((a, b) => a[0] - b[0])
    .filter((point, i, all) => i === 0 || point[0] > all[i - 1][0]);
}
