// The plan of a conversion, as a table.

import { element } from "./texts.js";

/** Show a plan, or hide the section without one. */
export function showPlan(plan) {
  document.getElementById("plan-section").hidden = !plan;
  if (!plan) return;
  document.getElementById("plan-sum").textContent = [plan.heading, ...plan.closing].join(" · ");
  const head = element("tr");
  for (const column of plan.columns) {
    const cell = element("th", "", column);
    cell.scope = "col";
    head.append(cell);
  }
  const body = element("tbody");
  for (const row of plan.rows) {
    const [first, ...rest] = row;
    const name = element("th", "", first);
    name.scope = "row";
    body.append(element("tr", "", name, ...rest.map((text) => element("td", "text", text))));
  }
  const box = element("div", "plan-table", element("table", "", element("thead", "", head), body));
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", "Plan of the conversion");
  document.getElementById("plan").replaceChildren(box);
}
