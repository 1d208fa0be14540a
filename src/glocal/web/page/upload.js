// Ways to give a photograph: drop, paste, choose, example.

/** Call `take` with each file that is given. */
export function takeFiles(take) {
  const file = document.getElementById("file");
  file.addEventListener("change", () => {
    if (file.files.length) take(file.files[0]);
    file.value = "";
  });
  let inside = 0;
  const root = document.documentElement;
  const isFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragenter", (event) => {
    if (isFile(event)) root.classList.toggle("dragging", ++inside > 0);
  });
  addEventListener("dragleave", (event) => {
    if (isFile(event)) root.classList.toggle("dragging", --inside > 0);
  });
  addEventListener("dragover", (event) => {
    if (isFile(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    inside = 0;
    root.classList.remove("dragging");
    if (!isFile(event)) return;
    event.preventDefault();
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => {
    const [pasted] = event.clipboardData?.files ?? [];
    if (pasted) take(pasted);
  });
}

/** Add a button for each example. */
export function offerExamples(examples, take) {
  const buttons = examples.map((example) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = example.credit;
    const image = new Image();
    image.alt = "";
    image.src = `/page/examples/${example.name}`;
    button.append(image, `Example: ${example.title.toLowerCase()}`);
    button.addEventListener("click", () => take(example));
    return button;
  });
  document.getElementById("examples").replaceChildren(...buttons);
}

/** The size of a picture that the browser can show, else null. */
export async function sizeOf(url) {
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
  } catch {
    return null;
  }
  return { width: image.naturalWidth, height: image.naturalHeight };
}
