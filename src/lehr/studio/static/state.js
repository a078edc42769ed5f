// What the page shows, as one value, and its text in the address's fragment, which no server sees.

export const state = {
  fit: null, law: null, steps: null, peak: null, warmup: null, ratio: 0.2, final: 0, shape: "linear",
  params: null, params_total: null, runs: null, points: null, pins: [],
};

const NUMBERS = { s: "steps", p: "peak", w: "warmup", r: "ratio", f: "final", n: "params", x: "params_total" };
const NAMES = { h: "shape", l: "law", i: "fit" };
const MOST_POINTS = 200, MOST_PINS = 6;
const SIZES = ["params", "params_total"];

// Sizes of the planned run that were given, as questions name them.
export function sizes() {
  return Object.fromEntries(SIZES.filter((name) => state[name] !== null).map((name) => [name, state[name]]));
}

export function toFragment() {
  const found = new URLSearchParams();
  for (const [key, name] of Object.entries({ ...NUMBERS, ...NAMES })) {
    if (state[name] !== null) found.set(key, state[name]);
  }
  if (state.runs) found.set("u", state.runs.join("."));
  if (state.points) found.set("d", state.points.map(([step, lr]) => `${step}:${lr}`).join("_"));
  for (const pin of state.pins) found.append("c", pin.spec);
  return found.toString();
}

// Take what a fragment says; what is no number is left out, and names are matched by `known` later.
export function fromFragment(text) {
  const found = new URLSearchParams(text);
  for (const [key, name] of Object.entries(NUMBERS)) {
    const value = Number(found.get(key));
    if (found.has(key) && Number.isFinite(value) && value >= 0) state[name] = value;
  }
  for (const [key, name] of Object.entries(NAMES)) {
    if (found.has(key)) state[name] = found.get(key);
  }
  if (found.has("u")) state.runs = found.get("u").split(".").map(Number).filter(Number.isInteger);
  if (found.has("d")) {
    const points = found.get("d").split("_").slice(0, MOST_POINTS).map((pair) => pair.split(":").map(Number));
    if (points.length > 1 && points.every((pair) => pair.length === 2 && pair.every(Number.isFinite))) state.points = points;
  }
  state.pins = found.getAll("c").slice(0, MOST_PINS).map((spec) => ({ spec, laws: null }));
}

// Names from a link count only if they are known here.
export function known(name, allowed, fallback) {
  if (!allowed.includes(state[name])) state[name] = fallback;
}

let due = null;
export function remember() {
  clearTimeout(due); // browsers bound how often the address may change
  due = setTimeout(() => history.replaceState(null, "", `#${toFragment()}`), 250);
}
export { MOST_PINS, SIZES };
