// The studio's page: read the link, ask what there is, and begin each panel.

import { get, takeToken } from "./api.js";
import * as advise from "./advise.js";
import * as calculators from "./calculators.js";
import * as compare from "./compare.js";
import * as controls from "./controls.js";
import { at, guarded } from "./dom.js";
import * as draw from "./draw.js";
import * as exporting from "./export.js";
import * as live from "./live.js";
import { changed } from "./predict.js";
import * as runs from "./runs.js";
import { fromFragment } from "./state.js";

guarded(async () => {
  takeToken();
  fromFragment(location.hash.slice(1));
  const told = await get("state");
  const store = told.store ? `Store ${told.store}` : "Bundled examples";
  at("store").textContent = `${store}, ${told.runs.length} runs; lehr ${told.version}`;
  calculators.begin(told);
  exporting.begin(told);
  if (!told.runs.length) throw new Error("There are no runs: start `lehr studio STORE` on a store with runs.");
  const first = told.runs.filter((run) => told.ticked.includes(run.name));
  controls.setScales(first);
  controls.defaults(first);
  controls.listen(told.shapes, changed);
  controls.show();
  draw.begin();
  advise.begin();
  live.begin(told);
  await compare.begin();
  await runs.begin(told);
  document.documentElement.dataset.ready = "yes"; // the page answers from here on
});
