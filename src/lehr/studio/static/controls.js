// The controls of the planned schedule: a number and a slider each, which follow one another.

import { at, options } from "./dom.js";
import { SIZES, known, state } from "./state.js";

const PAIRS = ["steps", "peak", "warmup", "ratio", "final"];
const LEAST = { steps: 2, peak: 1e-12, warmup: 0, ratio: 0, final: 0 };
const WHOLE = ["steps", "warmup"];
const SLIDES = 1000; // places of a slider on a log scale

// Sliders of LR and of steps are on a log scale about what was fitted.
const scales = { steps: null, peak: null };

export function setScales(runs) {
  const peaks = runs.map((run) => run.peak_lr), lengths = runs.map((run) => run.steps);
  scales.peak = [Math.min(...peaks) / 4, Math.max(...peaks) * 4];
  scales.steps = [Math.max(10, Math.min(...lengths) / 4), Math.max(...lengths) * 10];
}

export function defaults(runs) {
  const longest = runs.reduce((best, run) => (run.steps > best.steps ? run : best), runs[0]);
  state.steps ??= longest.steps;
  state.peak ??= longest.peak_lr;
  state.warmup ??= Math.round(longest.steps * 0.01);
}

export function listen(shapes, changed) {
  known("shape", shapes, shapes[0]);
  options(at("shape"), shapes, state.shape);
  for (const name of PAIRS) {
    at(name).addEventListener("input", () => take(name, Number(at(name).value), at(name).value !== "", changed));
    at(`${name}-slide`).addEventListener("input", () => take(name, fromSlide(name), true, changed));
    at(name).addEventListener("change", () => show());
  }
  at("shape").addEventListener("change", () => { state.shape = at("shape").value; changed(); });
  for (const name of SIZES) {
    at(name).addEventListener("input", () => {
      state[name] = at(name).value === "" ? null : Number(at(name).value);
      changed();
    });
  }
  at("controls").addEventListener("submit", (event) => event.preventDefault());
}

function take(name, value, given, changed) {
  const wrong = !given || !Number.isFinite(value) || value < LEAST[name] || (["ratio", "final"].includes(name) && value > 1);
  at(name).setAttribute("aria-invalid", String(wrong));
  if (wrong) return;
  state[name] = WHOLE.includes(name) ? Math.round(value) : value;
  if (state.warmup > state.steps) state.warmup = state.steps;
  show(name);
  changed();
}

function fromSlide(name) {
  const place = Number(at(`${name}-slide`).value);
  if (!(name in scales)) return place;
  const [low, high] = scales[name], value = low * (high / low) ** (place / SLIDES);
  return name === "steps" ? Math.round(value) : Number(value.toPrecision(3));
}

function place(name) {
  if (!(name in scales)) return state[name];
  const [low, high] = scales[name];
  return Math.round(SLIDES * Math.log(state[name] / low) / Math.log(high / low));
}

// Show the state; the field in which someone types is left alone.
export function show() {
  at("steps-slide").max = at("peak-slide").max = String(SLIDES);
  at("warmup-slide").max = String(Math.max(1, Math.round(state.steps / 2)));
  for (const name of PAIRS) {
    if (document.activeElement !== at(name)) at(name).value = String(state[name]);
    at(`${name}-slide`).value = String(place(name));
    at(`${name}-slide`).setAttribute("aria-valuetext", String(state[name]));
  }
  for (const name of SIZES) {
    if (document.activeElement !== at(name)) at(name).value = state[name] ?? "";
  }
  for (const name of ["warmup", "ratio", "final", "peak"]) at(name).disabled = at(`${name}-slide`).disabled = state.points !== null;
  at("shape").disabled = state.points !== null;
}
