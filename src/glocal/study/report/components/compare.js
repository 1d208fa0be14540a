// A slider over two pictures with zoom and pan.
//
// A source is what a picture shows: an object whose `mount(element, width)` fills an element of
// `width` pixels of the picture, and returns a function that is called with what is visible.

const MOST = 8; // device pixels for a pixel of the picture
const STEP = 1.5;

/** A source of one file. */
export function plainSource(url, name) {
  return {
    name,
    mount(element) {
      const image = new Image();
      image.className = "whole";
      image.alt = name;
      image.draggable = false;
      image.loading = "lazy";
      image.src = url;
      element.replaceChildren(image);
      return () => {};
    },
  };
}

function inner(parent, tag, className) {
  const found = parent.querySelector(`:scope > ${tag}.${className.replaceAll(" ", ".")}`);
  if (found) return found;
  const made = document.createElement(tag);
  made.className = className;
  parent.append(made);
  return made;
}

/** A view of two pictures; `element` has the class "view". */
export class Compare {
  constructor(element) {
    this.element = element;
    this.size = { width: 1, height: 1 };
    this.fitted = true;
    this.scale = 1;
    this.centre = { x: 0.5, y: 0.5 };
    this.watchers = [];
    this.sides = {};
    for (const side of ["right", "left"]) {
      const pane = inner(element, "div", `pane ${side}`);
      this.sides[side] = { picture: inner(pane, "div", "picture"), update: () => {}, source: null };
    }
    inner(element, "span", "line").ariaHidden = "true";
    for (const side of ["left", "right"]) inner(element, "span", `tag ${side}`).ariaHidden = "true";
    element.classList.add("single"); // until both sides have a source
    this.range = element.querySelector("input") ?? this.#makeRange();
    this.range.addEventListener("input", () => this.#slid());
    this.range.addEventListener("keydown", (event) => this.#key(event));
    this.#listen();
    new ResizeObserver(() => this.render()).observe(element);
    this.#slid();
  }

  /** Show a source on a side; null empties it. */
  show(side, source) {
    const shown = this.sides[side];
    if (shown.source === source) return;
    shown.source = source;
    shown.update = source ? source.mount(shown.picture, this.size.width) : () => {};
    if (!source) shown.picture.replaceChildren();
    this.element.querySelector(`.tag.${side}`).textContent = source?.name ?? "";
    this.element.classList.toggle("single", !this.sides.left.source || !this.sides.right.source);
    this.#slid();
    this.render();
  }

  /** Set the size of the pictures in pixels; a new size is fitted into the view. */
  resize(width, height) {
    if (this.size.width === width && this.size.height === height) return;
    this.size = { width, height };
    for (const side of Object.values(this.sides)) {
      if (side.source) side.update = side.source.mount(side.picture, width);
    }
    this.fit();
  }

  /** Show the whole picture. */
  fit() {
    this.fitted = true;
    this.centre = { x: this.size.width / 2, y: this.size.height / 2 };
    this.render();
  }

  /** Show `scale` CSS pixels for each pixel, around a point of the view. */
  zoom(scale, at = this.#middle()) {
    const fixed = this.toPicture(at);
    const fit = this.#fitScale();
    const least = Math.min(fit, 1 / devicePixelRatio);
    this.scale = Math.min(Math.max(scale, least), Math.max(fit, MOST / devicePixelRatio));
    this.fitted = Math.abs(this.scale / fit - 1) < 0.001;
    const middle = this.#middle();
    this.centre = {
      x: fixed.x - (at.x - middle.x) / this.scale,
      y: fixed.y - (at.y - middle.y) / this.scale,
    };
    this.render();
  }

  /** One pixel of the picture for one of the screen. */
  oneToOne(at) {
    this.zoom(1 / devicePixelRatio, at);
  }

  /** Show a box of the picture in the middle, at one to one or larger. */
  jump({ left, top, width, height }) {
    const { clientWidth, clientHeight } = this.element;
    const room = Math.min(clientWidth / width, clientHeight / height) / 2;
    this.zoom(Math.max(1 / devicePixelRatio, Math.min(room, 3 / devicePixelRatio)));
    this.centre = { x: left + width / 2, y: top + height / 2 };
    this.render();
    const x = this.toView(this.centre).x;
    this.slide((100 * x) / clientWidth);
  }

  /** True if a part of the picture lies outside of the view. */
  get isZoomed() {
    return this.scale > this.#fitScale() * 1.001;
  }

  /** Move the slider, in percent of the view. */
  slide(at) {
    this.range.value = Math.min(100, Math.max(0, at));
    this.#slid();
  }

  /** Call back with what is visible, now and after each change. */
  watch(callback) {
    this.watchers.push(callback);
    callback(this);
  }

  toPicture({ x, y }) {
    const middle = this.#middle();
    return {
      x: this.centre.x + (x - middle.x) / this.scale,
      y: this.centre.y + (y - middle.y) / this.scale,
    };
  }

  toView({ x, y }) {
    const middle = this.#middle();
    return {
      x: middle.x + (x - this.centre.x) * this.scale,
      y: middle.y + (y - this.centre.y) * this.scale,
    };
  }

  render() {
    const { width, height } = this.size;
    const { clientWidth, clientHeight } = this.element;
    if (!clientWidth || !clientHeight) return;
    if (this.fitted) this.scale = this.#fitScale();
    const clamp = (value, size, room) =>
      size * this.scale <= room
        ? size / 2
        : Math.min(Math.max(value, room / 2 / this.scale), size - room / 2 / this.scale);
    this.centre = {
      x: clamp(this.centre.x, width, clientWidth),
      y: clamp(this.centre.y, height, clientHeight),
    };
    const origin = this.toView({ x: 0, y: 0 });
    const near = this.scale * devicePixelRatio;
    this.element.classList.toggle("zoomed", this.isZoomed);
    this.element.classList.toggle("near", near >= 2);
    const start = this.toPicture({ x: 0, y: 0 });
    const end = this.toPicture({ x: clientWidth, y: clientHeight });
    for (const side of Object.values(this.sides)) {
      Object.assign(side.picture.style, {
        width: `${width}px`,
        height: `${height}px`,
        transform: `translate(${origin.x}px, ${origin.y}px) scale(${this.scale})`,
      });
      side.update({ left: start.x, top: start.y, right: end.x, bottom: end.y, near });
    }
    for (const callback of this.watchers) callback(this);
  }

  #makeRange() {
    const range = inner(this.element, "input", "range");
    Object.assign(range, { type: "range", min: 0, max: 100, step: "any", value: 50 });
    return range;
  }

  #fitScale() {
    const { clientWidth, clientHeight } = this.element;
    const fit = Math.min(clientWidth / this.size.width, clientHeight / this.size.height);
    return Math.min(fit, Math.max(1, 1 / devicePixelRatio) * 2);
  }

  #middle() {
    return { x: this.element.clientWidth / 2, y: this.element.clientHeight / 2 };
  }

  #slid() {
    const at = Number(this.range.value);
    this.element.style.setProperty("--at", this.sides.right.source ? at : 100);
    const name = this.sides.left.source?.name;
    if (name) this.range.setAttribute("aria-valuetext", `${Math.round(at)} % ${name}`);
  }

  #key(event) {
    const pan = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const keys = {
      "+": () => this.zoom(this.scale * STEP),
      "=": () => this.zoom(this.scale * STEP),
      "-": () => this.zoom(this.scale / STEP),
      0: () => this.fit(),
      1: () => this.oneToOne(),
    };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.shiftKey && event.key in pan) {
      const [x, y] = pan[event.key];
      this.#pan(-x * this.element.clientWidth * 0.15, -y * this.element.clientHeight * 0.15);
    } else if (event.key in keys) {
      keys[event.key]();
    } else {
      return;
    }
    event.preventDefault();
  }

  #pan(dx, dy) {
    this.centre = { x: this.centre.x - dx / this.scale, y: this.centre.y - dy / this.scale };
    this.render();
  }

  #listen() {
    const { element } = this;
    const pointers = new Map();
    let action = null;
    const place = (event) => {
      const box = element.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    const spread = () => {
      const [a, b] = [...pointers.values()];
      return { far: Math.hypot(a.x - b.x, a.y - b.y), x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
    };
    element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      const at = place(event);
      pointers.set(event.pointerId, at);
      element.setPointerCapture(event.pointerId);
      const line = (Number(this.range.value) / 100) * element.clientWidth;
      const isSingle = element.classList.contains("single");
      const slides = !isSingle && (!this.isZoomed || Math.abs(at.x - line) < 22);
      action = pointers.size > 1 ? "pinch" : slides ? "slide" : "pan";
      if (action === "slide") this.slide((100 * at.x) / element.clientWidth);
      element.classList.toggle("panning", action === "pan");
      this.range.focus({ preventScroll: true, focusVisible: false });
      event.preventDefault();
    });
    element.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      const at = place(event);
      if (action === "slide") this.slide((100 * at.x) / element.clientWidth);
      if (action === "pan") this.#pan(at.x - before.x, at.y - before.y);
      if (action === "pinch" && pointers.size === 2) {
        const old = spread();
        pointers.set(event.pointerId, at);
        const now = spread();
        this.#pan(now.x - old.x, now.y - old.y);
        this.zoom((this.scale * now.far) / (old.far || 1), now);
      }
      pointers.set(event.pointerId, at);
    });
    const up = (event) => {
      pointers.delete(event.pointerId);
      if (!pointers.size) action = null;
      element.classList.remove("panning");
    };
    element.addEventListener("pointerup", up);
    element.addEventListener("pointercancel", up);
    element.addEventListener("dblclick", (event) => {
      if (this.fitted) this.oneToOne(place(event));
      else this.fit();
    });
    element.addEventListener(
      "wheel",
      (event) => {
        // a page that is scrolled past the view goes on scrolling
        const isMeant = event.ctrlKey || event.metaKey || document.activeElement === this.range;
        if (!isMeant || (event.deltaY > 0 && !event.ctrlKey && !this.isZoomed)) return;
        event.preventDefault();
        this.zoom(this.scale * Math.exp(-event.deltaY / 400), place(event));
      },
      { passive: false },
    );
  }
}

/** Add the buttons that zoom to an element. */
export function zoomTools(element, compare) {
  const make = (text, label, act) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.setAttribute("aria-label", label);
    button.addEventListener("click", act);
    return button;
  };
  const shown = document.createElement("output");
  shown.setAttribute("aria-label", "Zoom");
  element.replaceChildren(
    make("−", "Zoom out", () => compare.zoom(compare.scale / STEP)),
    shown,
    make("+", "Zoom in", () => compare.zoom(compare.scale * STEP)),
    make("Fit", "Fit: show the whole picture", () => compare.fit()),
    make("1:1", "1:1, one pixel of the picture for one of the screen", () => compare.oneToOne()),
  );
  compare.watch(() => {
    shown.textContent = `${Math.round(100 * compare.scale * devicePixelRatio)} %`;
  });
}
