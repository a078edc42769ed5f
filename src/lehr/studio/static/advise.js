// The valley over annealing ratios, the recommended ratio, and the schedule of the lowest predicted loss.

import { follow, post, remove } from "./api.js";
import { Chart } from "./chart.js";
import { at, loss, onClick, short } from "./dom.js";
import { show as showControls } from "./controls.js";
import { changed, onAnswer } from "./predict.js";
import { tidy } from "./schedule.js";
import { sizes, state } from "./state.js";

const chart = new Chart(at("valley-chart"), { title: "Predicted final loss by annealing ratio", x: "annealing ratio", y: "final loss" });
let found = null, job = null;

export function begin() {
  at("valley-chart").hidden = true;
  onClick("valley", ask);
  onClick("recommend", async () => {
    await ask();
    state.points = null;
    at("drawing").checked = false;
    at("draw-panel").hidden = true;
    state.ratio = Number(found.ratio.toPrecision(4));
    showControls();
    changed();
  });
  onClick("optimize", optimize);
  onClick("stop-optimize", () => remove(`optimize/${encodeURIComponent(job)}`));
  chart.root.addEventListener("pointermove", (event) => { if (found) draw(chart.under(event)[0]); });
  chart.root.addEventListener("pointerleave", () => { if (found) draw(null); });
  onAnswer(() => { if (found) draw(null); });
}

function plan() {
  if (!state.fit) throw new Error("There is no fit: fit laws first.");
  const { fit, law, steps, peak, warmup, final } = state;
  return { fit, law, steps, peak, warmup, final: final * peak, ...sizes() };
}

async function ask() {
  found = await post("ratio", { ...plan(), shape: state.shape });
  at("valley-chart").hidden = false;
  at("valley-text").textContent = `Recommended ratio ${found.ratio.toFixed(3)} (${found.ratio_low.toFixed(3)} to `
    + `${found.ratio_high.toFixed(3)}): ${found.decay_steps} updates of decay, final loss ${loss(found.final_loss)}, `
    + `90 % band ${loss(found.final_loss_low)} to ${loss(found.final_loss_high)}. ${(found.warnings ?? []).join(" ")}`;
  draw(null);
}

function draw(cursor) {
  const { ratio, loss: y, low, high } = found.valley;
  const marks = [{ x: found.ratio, text: `best ${found.ratio.toFixed(2)}` }];
  if (state.points === null) marks.push({ x: state.ratio, text: "" });
  if (cursor !== null && cursor >= ratio[0] && cursor <= ratio[ratio.length - 1]) {
    const near = ratio.reduce((best, r, i) => (Math.abs(r - cursor) < Math.abs(ratio[best] - cursor) ? i : best), 0);
    marks.push({ x: ratio[near], text: `${short(ratio[near])}: ${loss(y[near])}` });
    if (Math.abs(ratio[near] - found.ratio) < 0.2) marks[0].text = "";
  }
  const edges = [...low, ...high], room = (Math.max(...edges) - Math.min(...edges)) * 0.05 || 0.01;
  chart.draw([{ name: `${state.law}, 90 % band`, x: ratio, y, low, high, colour: 0, main: true }], {
    marks, range: [Math.min(...edges) - room, Math.max(...edges) + room],
  });
}

async function optimize() {
  const { id } = await post("optimize", { ...plan(), final: 0 });
  job = id;
  at("optimize").disabled = true;
  at("stop-optimize").hidden = false;
  try {
    const seen = await follow(`optimize/${encodeURIComponent(id)}`, () => { at("optimize-text").textContent = "Optimising ..."; });
    if (seen.status === "failed") throw new Error(seen.error);
    if (seen.status === "cancelled") { at("optimize-text").textContent = "Stopped."; return; }
    const { final_loss: best, final_loss_low: low, final_loss_high: high, gain, lr } = seen.result;
    at("optimize-text").textContent = `Lowest predicted final loss ${loss(best)}, 90 % band ${loss(low)} to ${loss(high)}, `
      + `${loss(gain)} below the best WSD schedule. It is drawn above, thinned to points.`;
    state.points = tidy(lr.steps.map((step, i) => [step, lr.lr[i]]), state.steps);
    at("drawing").checked = true;
    at("drawing").dispatchEvent(new Event("optimized"));
  } finally {
    at("optimize").disabled = false;
    at("stop-optimize").hidden = true;
  }
}
