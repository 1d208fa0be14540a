// The jobs that wait or run: a card each, with progress, the time left, and a button to cancel.

import { follow, remove } from "./api.js";
import { duration, element } from "./texts.js";

const list = () => document.getElementById("jobs");

/** Say something once, for screen readers. */
export function announce(text) {
  const status = document.getElementById("status");
  if (status.textContent !== text) status.textContent = text;
}

/** A card for work that is under way. */
export function card(title, cancel) {
  const stage = element("span", "fine", "");
  const left = element("span", "fine", "");
  const fill = element("span");
  const bar = element("div", "progress", fill);
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-label", title);
  bar.setAttribute("aria-valuemin", 0);
  bar.setAttribute("aria-valuemax", 100);
  const button = element("button", "", "Cancel");
  button.type = "button";
  button.setAttribute("aria-label", `Cancel ${title}`);
  button.addEventListener("click", () => {
    button.disabled = true;
    cancel();
  });
  const shown = element(
    "div", "job",
    element("div", "row", element("strong", "", title), button),
    bar,
    element("div", "row", stage, left),
  );
  list().append(shown);
  list().hidden = false;
  return {
    show(text, share, leftText = "") {
      if (stage.textContent !== text) announce(`${title}: ${text}`);
      stage.textContent = text;
      left.textContent = leftText;
      if (share > 0) {
        bar.setAttribute("aria-valuenow", Math.round(100 * share));
        fill.style.width = `${100 * share}%`;
      } else {
        bar.removeAttribute("aria-valuenow");
        fill.style.width = "";
      }
    },
    close() {
      shown.remove();
      list().hidden = !list().children.length;
    },
  };
}

/** Show a job until it ends, then call `ended` with its last event; `moved` gets the others. */
export function watch(job, title, { moved, ended }) {
  const shown = card(title, () => remove(job.id).catch(() => {}));
  follow(job.id, (now) => {
    if (["done", "failed", "cancelled"].includes(now.state)) {
      shown.close();
      announce(`${title}: ${now.state}`);
      ended(now);
      return;
    }
    moved(now);
    const waits = now.ahead ? `waiting for ${now.ahead} other ${now.ahead === 1 ? "job" : "jobs"}` : "waiting";
    const left = now.left_s > 0 ? `${duration(now.left_s)} left` : "";
    shown.show(now.state === "queued" ? waits : now.stage, now.share, left);
  });
}
