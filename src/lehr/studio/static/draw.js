// The schedule drawn by points: by mouse in the LR chart, by arrows on a point, or as a list of numbers.

import { svg } from "./chart.js";
import { at, make } from "./dom.js";
import { show as showControls } from "./controls.js";
import { changed, lrChart, onAnswer } from "./predict.js";
import { startPoints, tidy } from "./schedule.js";
import { state } from "./state.js";

const SHARE = 0.02; // of the chart's span, that an arrow moves a point
let dragged = null, focused = null;

export function begin() {
  at("drawing").checked = state.points !== null;
  at("draw-panel").hidden = state.points === null;
  at("drawing").addEventListener("change", () => {
    state.points = at("drawing").checked ? tidy(startPoints(), state.steps) : null;
    at("draw-panel").hidden = state.points === null;
    update();
  });
  at("drawing").addEventListener("optimized", () => {
    at("draw-panel").hidden = false;
    update();
  });
  at("add-point").addEventListener("click", () => {
    const last = state.points.length - 1, [a, b] = [state.points[last - 1], state.points[last]];
    put([...state.points, [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2]]);
  });
  lrChart.root.addEventListener("pointerdown", press);
  lrChart.root.addEventListener("pointermove", (event) => { if (dragged !== null) move(dragged, lrChart.under(event)); });
  for (const name of ["pointerup", "pointercancel"]) lrChart.root.addEventListener(name, () => { dragged = null; showList(); });
  onAnswer(handles);
  if (state.points) showList();
}

function press(event) {
  if (state.points === null) return;
  const index = event.target.dataset?.point;
  if (index === undefined) put([...state.points, lrChart.under(event)]);
  else { dragged = Number(index); lrChart.root.setPointerCapture(event.pointerId); }
  event.preventDefault();
}

// Ends stay at the ends; a point stays between its neighbours.
function move(index, [step, lr]) {
  const points = state.points, last = points.length - 1;
  const low = index === 0 ? 0 : index === last ? state.steps : points[index - 1][0] + 1;
  const high = index === 0 ? 0 : index === last ? state.steps : points[index + 1][0] - 1;
  points[index] = tidy([[Math.min(Math.max(step, low), high), lr]], state.steps)[0];
  changed();
}

function put(points) {
  state.points = tidy(points, state.steps);
  update();
}

function update() {
  showControls();
  showList();
  changed();
}

function remove(index) {
  if (state.points.length > 2 && index > 0 && index < state.points.length - 1) put(state.points.filter((_, i) => i !== index));
}

function handles() {
  lrChart.over.replaceChildren();
  lrChart.root.setAttribute("role", state.points ? "group" : "img");
  if (state.points === null) return;
  if (state.points[state.points.length - 1][0] !== state.steps) { // the length was changed: stretch the drawing
    const share = state.steps / state.points[state.points.length - 1][0];
    state.points = tidy(state.points.map(([step, lr]) => [step * share, lr]), state.steps);
    showList();
    changed();
  }
  state.points.forEach(([step, lr], index) => {
    const handle = svg("circle", {
      class: "handle", cx: lrChart.px(step), cy: lrChart.py(lr), r: 7, tabindex: "0", role: "button", "data-point": index,
      "aria-label": `Point ${index + 1}: update ${step}, LR ${lr}; arrows move it`,
    });
    handle.addEventListener("keydown", (event) => key(event, index));
    handle.addEventListener("focus", () => { focused = index; });
    handle.addEventListener("blur", () => { if (handle.isConnected) focused = null; });
    lrChart.over.append(handle);
  });
  if (focused !== null) lrChart.over.children[focused]?.focus();
}

function key(event, index) {
  const { x0, x1, y1 } = lrChart.span, [step, lr] = state.points[index];
  const across = Math.max(1, (x1 - x0) * SHARE), up = y1 * SHARE;
  const to = { ArrowLeft: [step - across, lr], ArrowRight: [step + across, lr], ArrowUp: [step, lr + up], ArrowDown: [step, lr - up] }[event.key];
  if (to) { move(index, to); showList(); } else if (event.key === "Delete") remove(index); else return;
  event.preventDefault();
}

function showList() {
  if (state.points === null) return;
  at("points").replaceChildren(...state.points.map(([step, lr], i) => {
    const end = i === 0 || i === state.points.length - 1;
    const first = make("input", { type: "number", min: "0", step: "1", value: String(step), disabled: end, "aria-label": `Update of point ${i + 1}` });
    const second = make("input", { type: "number", min: "0", step: "any", value: String(lr), "aria-label": `LR of point ${i + 1}` });
    for (const input of [first, second]) {
      input.addEventListener("change", () => { move(i, [Number(first.value), Number(second.value)]); showList(); });
    }
    const away = make("button", { type: "button", disabled: end, "aria-label": `Remove point ${i + 1}` }, "Remove");
    away.addEventListener("click", () => remove(i));
    return make("li", {}, "update ", first, " LR ", second, " ", away);
  }));
}
