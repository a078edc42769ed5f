// Calculators: peak LRs of published laws, and hyperparameters carried over to a larger model.

import { post } from "./api.js";
import { at, fill, list, make, onSubmit, optional, options, short } from "./dom.js";

const FIRST = "completep"; // rule that is offered
const SIZES = [["width", "Width", 256, 2048], ["depth", "Layers", 4, 24], ["batch", "Sequences of an update", 64, 256], ["steps", "Updates", 4000, 20000]];
const TUNED = [["lr", "Peak LR", 1e-3], ["init_std", "Initial std", 0.02], ["weight_decay", "Weight decay", 0.1], ["epsilon", "Epsilon", 1e-8]];

export function begin(told) {
  options(at("tr-rule"), told.rules, FIRST);
  const sizes = SIZES.map(([key, words, from, to]) => row(words, input(`from-${key}`, `Tuned: ${words}`, from), input(`to-${key}`, `Target: ${words}`, to)));
  const tuned = TUNED.map(([key, words, from]) => row(words, input(`from-${key}`, `Tuned: ${words}`, from), ""));
  at("transfer-sizes").tBodies[0].replaceChildren(...sizes, ...tuned);
  onSubmit("peak-form", peak);
  onSubmit("transfer-form", transfer);
}

function row(words, first, second) {
  return make("tr", {}, make("th", { scope: "row" }, words), make("td", {}, first), make("td", {}, second));
}

function input(id, words, value) {
  return make("input", { id, type: "number", min: "0", step: "any", value: String(value), "aria-label": words });
}

async function peak() {
  const asked = { params: optional("pl-params"), tokens: optional("pl-tokens"), batch_tokens: optional("pl-batch") };
  const { laws, fitted } = await post("peak-lr", asked);
  fill(at("peak-table"), ["law", "peak LR", "its batch", "outside of its range"], Object.entries(laws).map(([name, law]) => [
    name, short(law.lr), short(law.batch), (law.outside ?? []).join("; ") || "no",
  ]));
  at("peak-fitted").textContent = fitted ? own(fitted) : "";
}

function own(fitted) {
  if (fitted.refused) return `Your sweep: ${fitted.refused}`;
  const batch = fitted.best_batch_tokens ? ` Best batch ${short(fitted.best_batch_tokens)} tokens.` : "";
  const remarks = fitted.remarks.map((each) => ` Note: ${each}.`).join("");
  return `Your sweep (${fitted.law}): peak LR ${short(fitted.lr)} [${short(fitted.lr_low)}, ${short(fitted.lr_high)}] at 90 %.${batch}${remarks}`;
}

async function transfer() {
  const sides = { from: {}, to: {} };
  for (const [key] of SIZES) for (const side of ["from", "to"]) sides[side][key] = optional(`${side}-${key}`);
  for (const [key] of TUNED) sides.from[key] = optional(`from-${key}`);
  const found = await post("transfer", { rule: at("tr-rule").value, ...sides });
  const heads = ["parameters", "initial std", "peak LR", "weight decay", "epsilon"];
  fill(at("transfer-table"), heads, Object.entries(found.groups).map(([group, own]) => [
    group, ...["init_std", "lr", "weight_decay", "epsilon"].map((key) => short(own[key]?.value)),
  ]));
  list(at("transfer-warnings"), found.warnings ?? []);
}
