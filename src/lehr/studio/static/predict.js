// The predicted curve, its headline and the table of laws: the answer to each move of a control.

import { get, newest, post } from "./api.js";
import { Chart } from "./chart.js";
import { at, clearAlert, fail, fill, list, loss } from "./dom.js";
import { wsdText } from "./schedule.js";
import { remember, sizes, state } from "./state.js";

const POINTS = 60;
const REST = 150; // milliseconds without a move, after which exact bands are asked for
let moves = 0, rest = null;
const curve = new Chart(at("curve-chart"), { title: "Predicted loss", x: "updates", y: "loss (nats per token)" });
export const lrChart = new Chart(at("lr-chart"), { title: "Learning rate", x: "updates", y: "LR", height: 190, zero: true });

export const latest = { answer: null, spec: null };
const measured = new Map(); // curves of chosen runs, by their place
const listeners = [];
export const onAnswer = (act) => listeners.push(act);

export async function spec() {
  if (state.points === null) return wsdText();
  return (await post("schedule", { points: state.points, steps: state.steps })).schedule;
}

export function question(text, laws, band = "exact") {
  return { fit: state.fit, laws, schedule: text, points: POINTS, level: 0.9, band, ...sizes() };
}

async function ask() {
  if (!state.fit) return;
  clearTimeout(rest);
  moves += 1;
  const text = await spec();
  const answer = await post("predict", question(text, null, "quick"));
  latest.answer = answer;
  latest.spec = answer.spec;
  clearAlert();
  show(answer);
  remember();
  for (const act of listeners) act(answer);
  const move = moves;
  rest = setTimeout(() => settle(move, text).catch(fail), REST);
}

// At rest the approximate bands give way to exact ones, the headline's first, until a control moves again.
async function settle(move, text) {
  const { answer } = latest, fit = state.fit;
  for (const law of ordered(answer.laws)) {
    if (moves !== move) return;
    const exact = await post("predict", question(text, [law]));
    if (moves !== move || latest.answer !== answer || state.fit !== fit) return;
    Object.assign(answer.laws, exact.laws);
    show(answer);
  }
  for (const act of listeners) act(answer);
}

export const changed = newest(ask, (error) => {
  at("summary").textContent = "No prediction for this schedule.";
  fail(error);
});

// Law names in one order for all of the page, so that a colour means one law.
export function ordered(laws) {
  return [...Object.keys(laws)].sort((a, b) => (b === state.law) - (a === state.law));
}

export function headline({ final, band }) {
  const about = band === "quick" ? "about " : "";
  const where = state.points === null ? `, at ratio ${state.ratio.toFixed(2).replace(/^0/, "")}` : ", for the drawn schedule";
  return `Final loss ${loss(final.loss)}, 90 % band ${about}${loss(final.low)} to ${loss(final.high)}${where}.`;
}

function show(answer) {
  const main = answer.laws[state.law];
  // text first: it is what a reader looks at
  at("summary").textContent = main && !main.error ? headline(main) : main?.error ?? "The chosen law is not fitted.";
  at("spec").textContent = answer.spec;
  list(at("warnings"), main?.warnings ?? []);
  const names = ordered(answer.laws);
  fill(at("finals"), ["law", "final loss", "90 % band"], names.map((name) => {
    const law = answer.laws[name];
    return law.error ? [name, "-", law.error] : [name, loss(law.final.loss), `${law.band === "quick" ? "about " : ""}${loss(law.final.low)} to ${loss(law.final.high)}`];
  }));
  const all = Object.keys(answer.laws);
  const lines = names.filter((name) => !answer.laws[name].error).map((name) => line(name, answer.laws[name], all.indexOf(name)));
  lines.reverse(); // the headline's law lies on top
  for (const [index, run] of measured) {
    if (state.runs?.includes(index)) lines.unshift({ name: `${run.name} (measured)`, x: run.steps, y: run.loss, colour: index, dots: true });
  }
  if (lines.length) curve.draw(lines);
  lrChart.draw([{ name: "LR", x: answer.lr.steps, y: answer.lr.lr, colour: 0, main: true }]);
}

function line(name, law, colour) {
  const main = name === state.law;
  return { name: main ? `${name} (headline)` : name, x: law.steps, y: law.loss, colour, main, low: main ? law.low : null, high: main ? law.high : null };
}

// Measured losses of at most two chosen runs lie under the predictions.
export async function showMeasured(runs) {
  measured.clear();
  if (state.runs && state.runs.length <= 2) {
    for (const index of state.runs) {
      const found = await get(`runs/${index}/curve?points=60`);
      measured.set(index, { name: runs[index].name, ...found });
    }
  }
  if (latest.answer) show(latest.answer);
}
