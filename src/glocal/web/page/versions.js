// The results of a photograph: what they are called, what they show, their cards.

import { pictureUrl, remove, resultUrl } from "./api.js";
import { wayName } from "./options.js";
import { tiledSource } from "./pictures.js";
import { bytes, duration, element } from "./texts.js";

/** The name of a job's result: what was chosen. */
export function titleOf(job) {
  if (job.kind === "shift") return "Shift of statistics";
  const { way, window, overlap, strength = 1, ensemble } = job.options;
  const taken = job.outcome?.way;
  let title = wayName(way ?? "");
  if (!way && taken && taken !== "auto") title += ` (${wayName(taken).toLowerCase()})`;
  if (window) title += ` ${window}`;
  if (overlap) title += ` ${100 * overlap} %`;
  if (strength < 1) title += `, strength ${Math.round(100 * strength)} %`;
  if (ensemble === 8) title += ", all turns";
  return title;
}

/** A source for compare.js of a result. */
export const resultSource = (job) =>
  tiledSource(pictureUrl(job.id, "result"), job.outcome.width, job.outcome.height, titleOf(job));

/** A source for compare.js of the photograph of a job that is done. */
export const photoSource = (job) =>
  tiledSource(pictureUrl(job.id, "photo"), job.photo.width, job.photo.height, "Photograph");

/** A card of a result; `show` puts it into the view, `gone` is called after it was deleted. */
export function versionCard(job, { show, gone }) {
  const { outcome } = job;
  const facts = [outcome.network, duration(outcome.seconds), `${outcome.bits} bits`, bytes(outcome.nbytes)];
  const download = element("a", "button", "Download");
  download.href = resultUrl(job.id);
  download.download = "";
  download.setAttribute("aria-label", `Download ${titleOf(job)}`);
  const look = element("button", "", "Show");
  look.type = "button";
  look.setAttribute("aria-label", `Show ${titleOf(job)}`);
  look.addEventListener("click", show);
  const drop = element("button", "quiet", "Delete");
  drop.type = "button";
  drop.setAttribute("aria-label", `Delete ${titleOf(job)}`);
  drop.addEventListener("click", async () => {
    drop.disabled = true;
    await remove(job.id).catch(() => {});
    gone();
  });
  const card = element(
    "li", "version",
    element("div", "", element("h3", "", titleOf(job)), element("p", "fine", facts.join(", "))),
    element("div", "row", download, look, drop),
  );
  if (outcome.notes.length) {
    const notes = element("ul", "", ...outcome.notes.map((note) => element("li", "", note)));
    const count = `${outcome.notes.length} ${outcome.notes.length === 1 ? "note" : "notes"}`;
    card.append(element("details", "", element("summary", "", count), notes));
  }
  return card;
}
