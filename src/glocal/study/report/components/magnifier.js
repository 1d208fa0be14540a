// A magnifier of both pictures of compare.js, and buttons that jump to places in them.

function added(parent, tag, className) {
  const made = document.createElement(tag);
  made.className = className;
  parent.append(made);
  return made;
}

/** Two magnifiers, of the left and the right picture, that follow the pointer. */
export class Magnifier {
  constructor(element, compare, times = 4) {
    this.compare = compare;
    this.times = times;
    this.lenses = {};
    element.classList.add("lenses");
    for (const side of ["left", "right"]) {
      const figure = document.createElement("figure");
      figure.className = "lens";
      const glass = added(figure, "div", "glass");
      const picture = added(glass, "div", "picture");
      const caption = added(figure, "figcaption", "name");
      element.append(figure);
      this.lenses[side] = { glass, picture, caption, source: null, update: () => {} };
    }
    this.frame = added(compare.element, "span", "frame");
    this.frame.ariaHidden = "true";
    this.frame.hidden = true;
    compare.watch(() => this.render());
    compare.element.addEventListener("pointermove", (event) => {
      if (event.buttons || event.pointerType !== "mouse") return;
      const box = compare.element.getBoundingClientRect();
      this.place(compare.toPicture({ x: event.clientX - box.left, y: event.clientY - box.top }));
    });
  }

  /** Magnify the surroundings of a point of the picture. */
  place(point) {
    this.point = point;
    this.render();
  }

  render() {
    const { compare } = this;
    const point = this.point ?? { x: compare.size.width / 2, y: compare.size.height / 2 };
    const scale = this.times / devicePixelRatio;
    let seen = null;
    for (const [side, lens] of Object.entries(this.lenses)) {
      const { source } = compare.sides[side];
      if (lens.source !== source || lens.width !== compare.size.width) {
        lens.source = source;
        lens.width = compare.size.width;
        lens.update = source ? source.mount(lens.picture, compare.size.width) : () => {};
        if (!source) lens.picture.replaceChildren();
        lens.caption.textContent = source?.name ?? "";
      }
      const { clientWidth, clientHeight } = lens.glass;
      if (!clientWidth) continue;
      const half = { x: clientWidth / 2 / scale, y: clientHeight / 2 / scale };
      seen = { left: point.x - half.x, top: point.y - half.y, right: point.x + half.x, bottom: point.y + half.y };
      Object.assign(lens.picture.style, {
        width: `${compare.size.width}px`,
        height: `${compare.size.height}px`,
        transform: `translate(${-seen.left * scale}px, ${-seen.top * scale}px) scale(${scale})`,
      });
      lens.update({ ...seen, near: this.times });
    }
    this.frame.hidden = !seen || !this.point;
    if (this.frame.hidden) return;
    const start = compare.toView({ x: seen.left, y: seen.top });
    const end = compare.toView({ x: seen.right, y: seen.bottom });
    Object.assign(this.frame.style, {
      left: `${start.x}px`,
      top: `${start.y}px`,
      width: `${end.x - start.x}px`,
      height: `${end.y - start.y}px`,
    });
  }
}

/** Add buttons to an element that jump to boxes of the pictures. */
export function placeButtons(element, boxes, compare, magnifier) {
  const buttons = boxes.map((box, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = index + 1;
    const what = box.mean === undefined ? "" : `, they differ by ${box.mean.toFixed(1)} of 255 there`;
    button.setAttribute("aria-label", `Place ${index + 1} where they differ most${what}`);
    button.addEventListener("click", () => {
      compare.jump(box);
      magnifier?.place({ x: box.left + box.width / 2, y: box.top + box.height / 2 });
    });
    return button;
  });
  element.replaceChildren(...buttons);
}
