// The form: network, way, and the options of a job.

const WAYS = [
  ["", "Automatic", "what suits the network"],
  ["windows", "Windows (TLC)", "statistics around each pixel, one pass"],
  ["crops", "Crops", "statistics as in training, two passes"],
  ["stitch", "Crop-and-stitch", "the original on blended tiles"],
  ["full", "Full image", "the original on all at once"],
];

/** The name of a way, to show. */
export const wayName = (way) => WAYS.find(([value]) => value === way)?.[1] ?? way;

const $ = (id) => document.getElementById(id);

/** Fill the form, and keep its parts in step. */
export function setUpForm({ models, default: chosen }) {
  const labels = { embedded: "Comes with glocal", installed: "Installed", file: "Files of the server" };
  for (const [kind, label] of Object.entries(labels)) {
    const own = models.filter((model) => model.kind === kind);
    if (!own.length) continue;
    const group = document.createElement("optgroup");
    group.label = label;
    for (const model of own) group.append(new Option(model.title, model.name));
    $("model").append(group);
  }
  $("model").value = chosen;
  $("ways").replaceChildren(...WAYS.map(([value, title, about]) => {
    const label = document.createElement("label");
    const radio = document.createElement("input");
    Object.assign(radio, { type: "radio", name: "way", value, checked: value === "" });
    const name = document.createElement("span");
    name.textContent = title;
    const fine = document.createElement("span");
    fine.className = "fine";
    fine.textContent = about;
    label.append(radio, name, fine);
    return label;
  }));
  const update = () => {
    const model = models.find((each) => each.name === $("model").value);
    const [height, width] = model?.train_size ?? [];
    const facts = [model?.architecture, model?.task, model && `${(model.parameters / 1e6).toFixed(2)} M weights`];
    if (height) facts.push(`trained on ${width} × ${height} pixels`);
    $("model-facts").textContent = facts.filter(Boolean).join(", ");
    const given = Number($("train-size").value) || height;
    $("train-size").placeholder = height ?? "";
    const own = given === height && model?.window?.[0];
    $("window").placeholder = own || (given ? Math.round(1.5 * given) : "");
    $("window-hint").textContent = own ? "By default as the model states."
      : given ? "By default 1.5 times the size of the training crops." : "";
    const way = wayOf();
    $("window-field").hidden = way !== "windows";
    $("overlap-field").hidden = way !== "stitch";
    $("strength-shown").textContent = `${$("strength").value} %`;
  };
  $("form").addEventListener("input", update);
  update();
}

const wayOf = () => document.querySelector('input[name="way"]:checked').value;

/** The options of a job, as the API takes them; those of a kind without a result leave more out. */
export function optionsOf(kind = "restore") {
  const way = wayOf();
  const options = { kind, model: $("model").value };
  if (way && kind === "restore") options.way = way;
  if ($("train-size").value) options.train_size = $("train-size").value;
  if (kind !== "restore") return options;
  if (way === "windows" && $("window").value) options.window = $("window").value;
  if (way === "stitch" && $("overlap").value) options.overlap = Number($("overlap").value);
  options.strength = Number($("strength").value) / 100;
  if ($("ensemble").checked) options.ensemble = 8;
  options.check = $("check").checked;
  for (const id of ["format", "strip"]) if ($(id).value) options[id] = $(id).value;
  return options;
}
