// The page: a photograph, its results, and what is shown of them.

import { Compare, plainSource, zoomTools } from "/components/compare.js";
import { Magnifier, placeButtons } from "/components/magnifier.js";
import * as api from "./api.js";
import { optionsOf, setUpForm } from "./options.js";
import { showPlan } from "./plan.js";
import { announce, card, watch } from "./running.js";
import { showShift } from "./shift.js";
import { bytes } from "./texts.js";
import { offerExamples, sizeOf, takeFiles } from "./upload.js";
import { photoSource, resultSource, titleOf, versionCard } from "./versions.js";

const $ = (id) => document.getElementById(id);
const PHOTO = "photo";

const compare = new Compare($("view"));
const magnifier = new Magnifier($("magnifier"), compare);
zoomTools($("zoom"), compare);

/** What the page knows of the photograph: where it is, and its results by id. */
let state = null;
let limits = null;

function fail(problem) {
  $("error").textContent = problem ? String(problem.message ?? problem) : "";
  $("error").hidden = !problem;
}

/** Begin with a photograph that may be shown at once: a file, an example, or one of the server. */
async function begin({ source, name, url = null, nbytes = null, size = null }) {
  fail(null);
  state = { source, name, ids: new Set(), versions: new Map(), sources: new Map(), size };
  const mine = state;
  noteJobs();
  $("drop").hidden = true;
  $("stage").hidden = false;
  $("photo").hidden = false;
  $("main").classList.remove("empty");
  $("photo-name").textContent = name;
  $("photo-facts").textContent = nbytes ? bytes(nbytes) : "";
  $("restore").disabled = false;
  compare.show("left", null);
  compare.show("right", null);
  const seen = url && (await sizeOf(url));
  if (mine !== state) return;
  if (seen) {
    state.size ??= seen;
    state.sources.set(PHOTO, plainSource(url, "Photograph"));
  }
  facts(nbytes);
  refresh();
}

function facts(nbytes, photo = null) {
  const { size } = state;
  const known = [size && `${size.width} × ${size.height}`, photo && `${photo.bits} bits, ${photo.kind.toUpperCase()}`, nbytes && bytes(nbytes)];
  $("photo-facts").textContent = known.filter(Boolean).join(", ");
  if (size) compare.resize(size.width, size.height);
}

const takeFile = (file) => {
  if (limits && file.size > limits.nbytes) {
    fail(`${file.name} has ${bytes(file.size)}; this server takes ${bytes(limits.nbytes)} at most.`);
    return;
  }
  begin({ source: { file }, name: file.name || "pasted photograph", url: URL.createObjectURL(file), nbytes: file.size });
};

function close() {
  state = null;
  noteJobs();
  for (const id of ["stage", "photo", "insight"]) $(id).hidden = true;
  $("drop").hidden = false;
  $("restore").disabled = true;
  fail(null);
  $("file").focus();
}

/** Note in the address which jobs the page has, so that it finds them after it is loaded again. */
function noteJobs() {
  history.replaceState(null, "", state?.ids.size ? `#jobs=${[...state.ids].join(",")}` : location.pathname);
}

function forget(id) {
  state.ids.delete(id);
  state.versions.delete(id);
  state.sources.delete(id);
  noteJobs();
}

/** Send a job for the photograph; the first one sends the photograph itself. */
async function send(options) {
  const mine = state;
  fail(null);
  const [known] = mine.ids;
  const source = known ? { job: known } : mine.source;
  const sending = source.file ? card(`Sending ${mine.name}`, () => location.reload()) : null;
  try {
    const job = await api.addJob(source, options, (share) => sending?.show("sending", share));
    mine.ids.add(job.id);
    if (mine === state) noteJobs();
    return job;
  } catch (refusal) {
    if (refusal.status === 404 && known) {
      mine.ids.delete(known); // deleted elsewhere, or too old
      if (mine.ids.size || mine.source) return send(options);
    }
    if (mine === state) fail(refusal);
    return null;
  } finally {
    sending?.close();
  }
}

async function restore() {
  $("restore").disabled = true;
  const job = await send(optionsOf());
  $("restore").disabled = !state;
  if (job) followed(job, state);
}

/** Watch a job that is not done, and take in what comes out. */
function followed(job, mine) {
  watch(job, titleOf(job), {
    moved: (now) => {
      const isReady = now.share > 0 || now.stage.startsWith("Convert"); // the preview is written
      if (mine !== state || mine.sources.has(PHOTO) || !isReady) return;
      mine.sources.set(PHOTO, photoSource(job));
      refresh();
    },
    ended: async (last) => {
      if (mine !== state) return;
      if (last.state === "failed") fail(`${titleOf(job)}: ${last.error}`);
      if (last.state === "cancelled") forget(job.id);
      if (last.state !== "done") return;
      const done = await api.job(job.id).catch(() => null);
      if (done && mine === state) take(done);
    },
  });
}

/** Take in a job that is done. */
function take(job) {
  if (job.kind === "shift") {
    showShift(job.outcome);
    $("measure").disabled = false;
    return;
  }
  const { photo } = job;
  state.versions.set(job.id, job);
  state.sources.set(job.id, resultSource(job));
  if (!state.isServed) {
    state.isServed = true; // from now on in full depth, whatever the browser can show
    state.sources.set(PHOTO, photoSource(job));
  }
  const size = { width: job.outcome.width, height: job.outcome.height };
  if (!state.size || size.width > state.size.width) state.size = size;
  facts(null, photo);
  refresh(job.id);
}

/** Bring the page in step with the state; shows a new result. */
function refresh(newest = null) {
  const versions = [...state.versions.values()];
  const chosen = { left: $("left").value || PHOTO, right: newest ?? ($("right").value || versions.at(-1)?.id) };
  for (const side of ["left", "right"]) {
    const names = new Map([[PHOTO, "Photograph"]]);
    for (const job of versions) names.set(job.id, uniqueTitle(job, [...names.values()]));
    $(side).replaceChildren(...[...names].map(([id, name]) => new Option(name, id)));
    $(side).value = names.has(chosen[side]) ? chosen[side] : side === "left" ? PHOTO : (versions.at(-1)?.id ?? PHOTO);
  }
  $("insight").hidden = !versions.length;
  $("version-list").replaceChildren(...versions.reverse().map((job) => versionCard(job, {
    show: () => {
      $("right").value = job.id;
      shown();
      $("view").scrollIntoView({ block: "nearest" });
    },
    gone: () => {
      forget(job.id);
      refresh();
    },
  })));
  shown();
}

function uniqueTitle(job, taken) {
  let title = titleOf(job);
  for (let number = 2; taken.includes(title); number++) title = `${titleOf(job)} (${number})`;
  return title;
}

/** Show what is chosen on both sides. */
async function shown() {
  const ids = { left: $("left").value, right: $("right").value };
  const isSingle = ids.left === ids.right;
  $("unseen").hidden = state.sources.has(PHOTO);
  compare.show("left", state.sources.get(ids.left) ?? null);
  compare.show("right", isSingle ? null : (state.sources.get(ids.right) ?? null));
  const job = state.versions.get(ids.right) ?? state.versions.get(ids.left);
  showPlan(job?.outcome.plan);
  const [first, second] = ids.right === PHOTO ? [ids.left, ids.right] : [ids.right, ids.left];
  if (isSingle || !state.versions.has(first)) {
    $("places").replaceChildren();
    return;
  }
  const mine = state;
  const found = await api.difference(first, second === PHOTO ? null : second).catch(() => null);
  if (mine !== state || ids.left !== $("left").value || ids.right !== $("right").value) return;
  const scale = found ? state.size.width / found.width : 1;
  const boxes = (found?.boxes ?? []).map((box) => ({
    left: box.left * scale, top: box.top * scale, width: box.width * scale, height: box.height * scale, mean: box.mean,
  }));
  placeButtons($("places"), boxes, compare, magnifier);
  if (!boxes.length) $("places").textContent = found ? "they are equal" : "";
  else magnifier.place({ x: boxes[0].left + boxes[0].width / 2, y: boxes[0].top + boxes[0].height / 2 });
}

/** Go on with the jobs of the address, after the page was loaded again. */
async function resume() {
  const ids = (new URLSearchParams(location.hash.slice(1)).get("jobs") ?? "").split(",");
  const known = ids.filter((id) => /^[0-9a-f]{32}$/.test(id));
  const found = await Promise.all(known.map((id) => api.job(id).catch(() => null)));
  const jobs = found.filter((job) => job?.photo);
  if (!jobs.length) return;
  const { photo } = jobs[0];
  await begin({ source: null, name: photo.name, size: { width: photo.width, height: photo.height } });
  for (const job of jobs) state.ids.add(job.id);
  noteJobs();
  facts(null, photo);
  for (const job of jobs) {
    if (job.state === "done") take(job);
    else if (job.state === "failed") fail(`${titleOf(job)}: ${job.error}`);
    else followed(job, state);
  }
}

async function measure() {
  $("measure").disabled = true;
  const job = await send(optionsOf("shift"));
  if (!job) $("measure").disabled = false;
  else {
    followed(job, state);
    setTimeout(() => { $("measure").disabled = false; }, 1000);
  }
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (state) restore();
});
for (const side of ["left", "right"]) $(side).addEventListener("change", shown);
$("another").addEventListener("click", close);
$("measure").addEventListener("click", measure);
takeFiles(takeFile);

try {
  const known = await api.models();
  limits = known.limits;
  setUpForm(known);
  offerExamples(known.examples, (example) => {
    begin({ source: { example: example.name }, name: example.name, url: `/page/examples/${example.name}` });
  });
  $("limits").textContent = `JPEG, PNG, TIFF, WebP, AVIF, HEIC, RAW and others; up to ${bytes(limits.nbytes)} and ${Math.round(limits.pixels / 1e6)} megapixels.`;
  await resume();
} catch (problem) {
  fail(problem);
}
announce("Ready");
document.documentElement.dataset.ready = "true";
