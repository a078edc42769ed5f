// The schedule in a framework's own terms, to copy or to keep; and the link to this state.

import { post } from "./api.js";
import { at, make, onClick, options } from "./dom.js";
import { latest } from "./predict.js";
import { toFragment } from "./state.js";

let found = null;

export function begin(told) {
  options(at("framework"), told.frameworks);
  onClick("export", async () => {
    if (latest.spec === null) throw new Error("There is no schedule to export: fit laws first.");
    found = await post("export", { schedule: latest.spec, to: at("framework").value });
    at("code").textContent = found.text;
    at("code").hidden = false;
    at("copy").disabled = at("download").disabled = false;
  });
  onClick("copy", () => copy(found.text, "Copied."));
  onClick("download", () => {
    const url = URL.createObjectURL(new Blob([found.text], { type: "text/plain" }));
    make("a", { href: url, download: found.filename }).click();
    URL.revokeObjectURL(url);
  });
  onClick("share", () => {
    const url = new URL(location.href);
    url.hash = toFragment();
    history.replaceState(null, "", url);
    return copy(url.href, "Link copied; it holds the schedule, not the runs.");
  });
}

async function copy(text, words) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    throw new Error("The browser allows no copying here: mark the text (or the address) and copy it by hand.");
  }
  at("copied").textContent = words;
}
