// The API of the server, /api/v1.

const BASE = "/api/v1";

/** Why a request was refused, in the server's words. */
export class Refusal extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(BASE + path, options);
  } catch {
    throw new Refusal(0, "The server does not answer. Is glocal serve running?");
  }
  const body = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (!answer.ok) throw new Refusal(answer.status, body?.detail ?? `The server says ${answer.status}.`);
  return body;
}

export const models = () => ask("/models");
export const job = (id) => ask(`/jobs/${id}`);
export const remove = (id) => ask(`/jobs/${id}`, { method: "DELETE" });
export const result = (id) => ask(`/jobs/${id}/result`);
export const resultUrl = (id) => `${BASE}/jobs/${id}/result`;
export const pictureUrl = (id, which) => `${BASE}/jobs/${id}/pictures/${which}`;

export function difference(id, other, count = 4) {
  const query = new URLSearchParams({ count, side: 96, ...(other ? { other } : {}) });
  return ask(`/jobs/${id}/difference?${query}`);
}

/** Add a job; `source` is {file}, {job} or {example}. Calls `sent` with the share of the upload. */
export function addJob(source, options, sent = () => {}) {
  const form = new FormData();
  for (const [name, value] of Object.entries({ ...options, ...source })) form.append(name, value);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch tells nothing of an upload
    request.open("POST", `${BASE}/jobs`);
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) sent(event.loaded / event.total);
    });
    request.addEventListener("load", () => {
      if (request.status === 201) resolve(request.response);
      else reject(new Refusal(request.status, request.response?.detail ?? `The server says ${request.status}.`));
    });
    request.addEventListener("error", () => {
      reject(new Refusal(0, "The connection broke. Is glocal serve running?"));
    });
    request.send(form);
  });
}

const AGAIN_MS = 1500;

/** Call `tell` with every change of a job until it ends; connects again after a break. */
export function follow(id, tell) {
  let events = null;
  let ended = false;
  const end = () => {
    ended = true;
    events?.close();
  };
  const connect = () => {
    if (ended) return;
    events = new EventSource(`${BASE}/jobs/${id}/events`);
    events.addEventListener("progress", (event) => {
      const now = JSON.parse(event.data);
      if (["done", "failed", "cancelled"].includes(now.state)) end();
      tell(now);
    });
    events.addEventListener("error", async () => {
      events.close();
      if (ended) return;
      const gone = await job(id).then(() => false, (refusal) => refusal.status === 404);
      if (gone && !ended) {
        end();
        tell({ state: "cancelled", stage: "", share: 0, left_s: null, ahead: 0, error: "" });
      } else {
        setTimeout(connect, AGAIN_MS);
      }
    });
  };
  connect();
  return end;
}
