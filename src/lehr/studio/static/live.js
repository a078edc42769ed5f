// A run in progress: decay now, or wait?

import { get, post } from "./api.js";
import { Chart } from "./chart.js";
import { at, fill, guarded, loss, onSubmit, optional, options } from "./dom.js";
import { state } from "./state.js";

const EVERY = 30_000; // milliseconds between two looks
const chart = new Chart(at("live-chart"), { title: "Measured loss of the live run", x: "updates", y: "loss", height: 220 });
let timer = null;

export function begin(told) {
  at("live-chart").hidden = true;
  const live = told.runs.map((run, i) => [i, run]).filter(([, run]) => run.live);
  const offered = live.length ? live : told.runs.map((run, i) => [i, run]);
  options(at("live-run"), offered.map(([i, run]) => [i, run.name]));
  onSubmit("live-form", () => ask(told.runs));
  at("follow").addEventListener("change", () => {
    clearInterval(timer);
    if (at("follow").checked) timer = setInterval(() => guarded(() => look(told)), EVERY);
  });
}

async function look(told) {
  const { runs } = await get("runs?fresh=1");
  told.runs = runs;
  await ask(runs);
}

async function ask(runs) {
  if (!state.fit) throw new Error("There is no fit: fit laws to other runs first.");
  const index = Number(at("live-run").value), run = runs[index];
  const asked = { fit: state.fit, law: state.law, run: run.name };
  if (optional("live-target") !== undefined) asked.target_loss = optional("live-target");
  if (optional("live-deadline") !== undefined) asked.deadline_steps = optional("live-deadline");
  const seen = await get(`runs/${index}/curve?points=200`);
  at("live-chart").hidden = false;
  chart.draw([{ name: run.name, x: seen.steps, y: seen.loss, colour: 0, main: true }]);
  const found = await post("branch", asked);
  at("live-text").textContent = answer(found);
  fill(at("live-table"), ["decay starts at", "decay, updates", "ends at", "shape", "final loss", "90 % band"], (found.options ?? []).map((one) => [
    String(one.start), String(one.decay_steps), String(one.steps), one.shape, loss(one.final_loss), `${loss(one.final_loss_low)} to ${loss(one.final_loss_high)}`,
  ]));
}

function answer(found) {
  const { best } = found;
  const when = best.start <= found.steps_done ? "Decay now" : `Decay later, at update ${best.start}`;
  const missed = found.target_loss !== null && found.target_loss !== undefined && !found.reached ? " The target is not reached." : "";
  return `${when}, over ${best.decay_steps} updates (${best.shape}): final loss ${loss(best.final_loss)}, `
    + `90 % band ${loss(best.final_loss_low)} to ${loss(best.final_loss_high)}.${missed} ${(found.warnings ?? []).join(" ")}`;
}
