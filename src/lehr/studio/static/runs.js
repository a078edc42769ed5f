// Runs to fit, the fit in the background, and which fit and law are in use.

import { follow, get, post, remove, upload } from "./api.js";
import { at, guarded, make, onClick, options, short } from "./dom.js";
import { changed, showMeasured } from "./predict.js";
import { remember, state } from "./state.js";

let running = null;
const fits = [];

export async function begin(told) {
  showRuns(told.runs, told.ticked);
  fits.push(...told.fits);
  if (!fits.includes(state.fit)) state.fit = fits[0] ?? null;
  showFits();
  onClick("fit", () => fit(told));
  onClick("cancel", () => remove(`fits/${encodeURIComponent(running)}`));
  at("upload").addEventListener("change", () => guarded(() => add(told)));
  at("fits").addEventListener("change", () => guarded(() => use(at("fits").value)));
  at("law").addEventListener("change", () => { state.law = at("law").value; changed(); });
  if (state.fit) await use(state.fit);
}

function showRuns(runs, ticked) {
  state.runs = (state.runs ?? runs.map((_, i) => i).filter((i) => ticked.includes(runs[i].name))).filter((i) => i >= 0 && i < runs.length);
  const heads = ["fit", "run", "updates", "peak LR", "schedule", "points", "final loss"];
  const head = make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text))));
  const rows = runs.map((run, i) => {
    const box = make("input", { type: "checkbox", "aria-label": `Fit run ${run.name}`, id: `run${i}` });
    box.checked = state.runs.includes(i);
    box.addEventListener("change", () => {
      state.runs = runs.map((_, k) => k).filter((k) => at(`run${k}`).checked);
      remember();
      guarded(() => showMeasured(runs));
    });
    const cells = [run.live ? `${run.name} (live)` : run.name, String(run.steps), short(run.peak_lr), run.schedule ?? "-", String(run.points), short(run.final_loss)];
    return make("tr", {}, make("td", {}, box), ...cells.map((text, k) => make("td", { class: [0, 3].includes(k) ? "name" : "number" }, text)));
  });
  at("runs").replaceChildren(head, make("tbody", {}, ...rows));
}

function showFits() {
  options(at("fits"), fits.length ? fits : [["", "none yet"]], state.fit ?? "");
  at("fits").disabled = !fits.length;
}

async function add(told) {
  const [file] = at("upload").files;
  at("upload").value = "";
  if (!file) return;
  const added = (await upload(file)).runs.map((run) => run.name);
  told.runs = (await get("runs")).runs;
  const chosen = told.runs.filter((run, i) => state.runs.includes(i) || added.includes(run.name)).map((run) => run.name);
  state.runs = null;
  showRuns(told.runs, chosen);
  at("fit-status").textContent = `Added: ${added.join(", ")}.`;
  remember();
}

async function fit(told) {
  if (!state.runs.length) throw new Error("No run is chosen: tick at least one run of the table.");
  const names = state.runs.map((i) => told.runs[i].name);
  const { id } = await post("fits", { runs: names, laws: "all", draws: Number(at("draws").value) });
  running = id;
  at("fit").disabled = true;
  at("cancel").hidden = at("fit-progress").hidden = false;
  try {
    const seen = await follow(`fits/${encodeURIComponent(id)}`, progress);
    if (seen.status === "failed") throw new Error(seen.error);
    at("fit-status").textContent = seen.status === "cancelled" ? "The fit was cancelled." : "";
    if (seen.status === "done") {
      fits.push(id);
      await use(id);
    }
  } finally {
    at("fit").disabled = false;
    at("cancel").hidden = at("fit-progress").hidden = true;
    running = null;
  }
}

function progress(seen) {
  at("fit-progress").max = seen.total || 1;
  at("fit-progress").value = seen.done;
  at("fit-status").textContent = `${seen.done} of ${seen.total}: ${seen.now ?? ""}`;
}

async function use(id) {
  const seen = await get(`fits/${encodeURIComponent(id)}`);
  state.fit = id;
  showFits();
  const laws = Object.keys(seen.laws).filter((law) => ["fitted", "done"].includes(seen.laws[law].status));
  if (!laws.includes(state.law)) state.law = seen.chosen ?? laws[0];
  options(at("law"), laws.map((law) => {
    const error = seen.laws[law].held_out_error;
    const share = error === null || error === undefined ? "" : ` (${(100 * error).toPrecision(2)} % on hidden losses)`;
    return [law, `${law}${share}`];
  }), state.law);
  at("fit-status").textContent = [`${laws.length} laws fitted; chosen: ${seen.chosen}.`, ...(seen.warnings ?? [])].join(" ");
  changed();
}
