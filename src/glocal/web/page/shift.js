// The shift of statistics: a row for each operation, a dot for each way.

import { element } from "./texts.js";

const SVG = "http://www.w3.org/2000/svg";
const KINDS = [["full", "full image"], ["local", "TLC"], ["from_crops", "crops"]];
const MOST_ROWS = 24;
const ROW = 22;
const LABELS = 190;
const WIDTH = 760;

function svg(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function dot(kind, x, y) {
  return kind === "from_crops"
    ? svg("rect", { class: kind, x: x - 4, y: y - 4, width: 8, height: 8, rx: 1 })
    : svg("circle", { class: kind, cx: x, cy: y, r: 5 });
}

/** Show the distances of a `StatisticsShift`. */
export function showShift({ shift, network }) {
  const place = document.getElementById("shift");
  const verdict = element("p", "verdict", shift.verdict);
  const measured = shift.operations.filter((each) => each.distance.full !== null);
  if (!measured.length) {
    place.replaceChildren(verdict);
    return;
  }
  const rows = measured.slice(0, MOST_ROWS);
  const legend = element("ul", "legend marks", ...KINDS.map(([kind, name]) => {
    const mark = svg("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" });
    mark.append(dot(kind, 6, 6));
    return element("li", "", mark, name);
  }));
  const rest = measured.length - rows.length;
  const note = element("p", "fine", `Distance from training crops in standard deviations over the crops, ${network}. ` +
    (rest ? `The ${rows.length} operations that shift most; ${rest} more shift less.` : ""));
  const scroll = element("div", "scroll", plot(rows));
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", "Plot of the shift of statistics");
  place.replaceChildren(verdict, legend, scroll, note, table(measured));
}

function plot(rows) {
  const most = Math.max(...rows.flatMap(({ distance }) => KINDS.map(([kind]) => distance[kind] ?? 0)), 0.01);
  const height = rows.length * ROW + 30;
  const x = (value) => LABELS + (value / most) * (WIDTH - LABELS - 24);
  const drawn = svg("svg", { class: "plot marks", viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": "Distances of each operation; the table below has the numbers" });
  const step = 10 ** Math.floor(Math.log10(most));
  const unit = most / step < 2 ? step / 4 : most / step < 5 ? step / 2 : step;
  for (let value = 0; value <= most; value += unit) {
    drawn.append(svg("line", { class: "grid", x1: x(value), x2: x(value), y1: 4, y2: height - 22 }));
    drawn.append(svg("text", { x: x(value), y: height - 6, "text-anchor": "middle" }, Number(value.toPrecision(3))));
  }
  rows.forEach(({ path, distance }, index) => {
    const y = index * ROW + 16;
    const name = path || "(the network)";
    drawn.append(svg("text", { class: "name", x: LABELS - 14, y: y + 4, "text-anchor": "end" }, name.length > 26 ? `…${name.slice(-25)}` : name));
    const values = KINDS.map(([kind]) => distance[kind]).filter((value) => value !== null);
    drawn.append(svg("line", { class: "span", x1: x(Math.min(...values)), x2: x(Math.max(...values)), y1: y, y2: y }));
    for (const [kind] of KINDS) if (distance[kind] !== null) drawn.append(dot(kind, x(distance[kind]), y));
  });
  return drawn;
}

function table(rows) {
  const cell = (tag, text, scope, className) => {
    const made = element(tag, className, text);
    if (scope) made.scope = scope;
    return made;
  };
  const head = element("tr", "", cell("th", "module", "col"), cell("th", "operation", "col"),
    ...KINDS.map(([, name]) => cell("th", name, "col", "number")));
  const body = rows.map(({ path, operation, distance }) => element("tr", "",
    cell("th", path || "(the network)", "row"), cell("td", operation, "", "text"),
    ...KINDS.map(([kind]) => cell("td", distance[kind]?.toFixed(2) ?? "–"))));
  const box = element("div", "plan-table", element("table", "", element("thead", "", head), element("tbody", "", ...body)));
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", "Table of the shift of statistics");
  return element("details", "", element("summary", "fine", "Numbers"), box);
}
