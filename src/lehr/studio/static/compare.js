// Schedules pinned as A, B, C, ... beside the current one, with the differences of their final losses.

import { post } from "./api.js";
import { at, fill, loss, make, onClick } from "./dom.js";
import { latest, onAnswer, question } from "./predict.js";
import { MOST_PINS, remember, sizes, state } from "./state.js";

const told = () => JSON.stringify(sizes());

export async function begin() {
  onClick("pin", () => {
    if (latest.spec === null) throw new Error("There is no prediction to pin: fit laws first.");
    if (state.pins.length >= MOST_PINS) throw new Error(`At most ${MOST_PINS} schedules are pinned: remove one first.`);
    const exact = Object.values(latest.answer.laws).every((law) => law.band !== "quick");
    state.pins.push({ spec: latest.spec, laws: latest.answer.laws, fit: exact ? state.fit : null, sizes: told() });
    show();
    remember();
    if (!exact) renew();
  });
  onClick("unpin", () => {
    state.pins = [];
    show();
    remember();
  });
  onAnswer(() => renew());
  show();
}

// Predictions of pins that came by a link, or that another fit made.
async function renew() {
  for (const pin of state.pins.filter((one) => one.fit !== state.fit || one.sizes !== told())) {
    Object.assign(pin, { fit: state.fit, sizes: told() });
    try {
      pin.laws = (await post("predict", question(pin.spec, null))).laws;
    } catch (error) {
      pin.laws = { [state.law]: { error: error.message } };
    }
  }
  show();
}

function show() {
  const now = latest.answer?.laws[state.law]?.final;
  const rows = state.pins.map((pin, i) => {
    const found = pin.laws?.[state.law], name = String.fromCharCode(65 + i);
    const away = make("button", { type: "button", "aria-label": `Remove ${name}` }, "Remove");
    away.addEventListener("click", () => { state.pins.splice(i, 1); show(); remember(); });
    if (!found?.final) return [name, brief(pin.spec), "-", found?.error ?? "-", "-", away];
    const apart = now ? signed(found.final.loss - now.loss) : "-";
    return [name, brief(pin.spec), loss(found.final.loss), `${loss(found.final.low)} to ${loss(found.final.high)}`, apart, away];
  });
  if (now) rows.unshift(["now", brief(latest.spec), loss(now.loss), `${loss(now.low)} to ${loss(now.high)}`, "0.0000", ""]);
  fill(at("pins"), ["pin", "schedule", "final loss", "90 % band", "minus now", "remove"], rows);
}

const brief = (text) => (text.length > 120 ? `${text.slice(0, 117)}...` : text); // a drawing may be long
const signed = (value) => (value >= 0 ? "+" : "-") + loss(Math.abs(value));
