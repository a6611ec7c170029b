"use strict";
// One plane through the images: its slices, how they are drawn and moved.

const NAMES = { fixed: "fixed", before: "affine only", after: "warped" };
const CONTOURS = {
  truth: { colour: "--truth", dash: [7, 5] },
  mask: { colour: "--s", dash: [] },
  lesion: { colour: "--lesion", dash: [2, 4] },
};

class Plane {
  constructor(viewer, described, figure) {
    Object.assign(this, { viewer, ...described, figure });
    this.canvas = one("canvas", figure);
    this.slider = one("input.slice", figure);
    this.output = one("output", figure);
    this.slice = this.start;
    this.buffer = document.createElement("canvas");
    [this.buffer.height, this.buffer.width] = this.tile;
    this.layers = {};
  }

  async load() {
    const entries = Object.entries(this.sheets);
    const unpacked = await Promise.all(entries.map(([, source]) => unpack(source)));
    entries.forEach(([name], i) => { this.layers[name] = unpacked[i]; });
    this.sheets = null;
  }

  // Reads pixel (x, y) of the current slice of a layer.
  reader(name, [rows, columns] = this.tile) {
    const whole = (n) => Math.ceil(n / this.block) * this.block;
    const stride = this.columns * whole(columns), bytes = this.layers[name];
    const start = Math.floor(this.slice / this.columns) * whole(rows) * stride
      + (this.slice % this.columns) * whole(columns);
    return (x, y) => bytes[start + y * stride + x];
  }

  paint(pixel) {
    const [rows, columns] = this.tile, context = this.buffer.getContext("2d");
    const image = context.createImageData(columns, rows);
    for (let y = 0, i = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++, i += 4) {
        const [r, g, b] = pixel(x, y);
        image.data[i] = r; image.data[i + 1] = g; image.data[i + 2] = b; image.data[i + 3] = 255;
      }
    }
    context.putImageData(image, 0, 0);
    this.context.drawImage(this.buffer, 0, 0, this.canvas.width, this.canvas.height);
  }

  grey(name) {
    const read = this.reader(name);
    this.paint((x, y) => { const v = read(x, y); return [v, v, v]; });
  }

  draw() {
    const { canvas, viewer: { state, scene } } = this;
    const width = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
    const height = Math.max(1, Math.round((width * this.size_mm[0]) / this.size_mm[1]));
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    this.context = canvas.getContext("2d");
    this.context.imageSmoothingQuality = "high";
    const [first, second] = state.pair;
    const views = {
      flicker: () => this.grey(state.swapped ? second : first),
      wipe: () => this.both(first, second, (c) => c.rect(state.wipe * width, 0, width, height)),
      checker: () => this.both(first, second, (c) => this.squares(c)),
      mask: () => this.tinted(),
      residual: () => this.residual(scene),
      grid: () => { this.grey("after"); this.gridLines(); },
      jacobian: () => this.jacobian(),
    };
    views[state.mode]();
    for (const [name, style] of Object.entries(CONTOURS)) {
      if (state.contours[name] && (name === "mask" || scene.given.includes(name))) this.outline(scene.bits[name], style);
    }
    if (state.mode === "wipe") this.stroke((c) => { c.moveTo(state.wipe * width, 0); c.lineTo(state.wipe * width, height); }, "#fff", 1);
    if (state.contours.cross && this.across !== null) this.crosshair();
    this.tell();
  }

  both(first, second, clip) {
    const c = this.context;
    this.grey(first);
    c.save();
    c.beginPath();
    clip(c);
    c.clip();
    this.grey(second);
    c.restore();
  }

  squares(c) {
    const side = Math.max(this.canvas.width, this.canvas.height) / 8;
    for (let row = 0; row * side < this.canvas.height; row++) {
      for (let column = (row + 1) % 2; column * side < this.canvas.width; column += 2) c.rect(column * side, row * side, side, side);
    }
  }

  tinted() {
    const fixed = this.reader("fixed"), probability = this.reader("probability");
    this.paint((x, y) => {
      const v = fixed(x, y), share = (0.45 * probability(x, y)) / 255;
      return [v + share * (255 - v), v + share * (120 - v), v - share * v];
    });
  }

  residual(scene) {
    const { state, residualColours } = this.viewer;
    const fixed = this.reader("fixed"), moved = this.reader(state.residual), bits = this.reader("bits");
    this.paint((x, y) => {
      const bit = bits(x, y), inside = (bit & scene.bits.mask) > 0;
      if (state.region === (inside ? "outside" : "inside")) return [58, 60, 64];
      const difference = bit & scene.bits.shown ? scene.slope * moved(x, y) + scene.offset - fixed(x, y) : 0;
      const share = difference / 255 / scene.residual_limit;
      return residualColours[Math.max(0, Math.min(255, Math.round(127.5 + 127.5 * share)))];
    });
  }

  jacobian() {
    const read = this.reader("jacobian"), bits = this.reader("bits"), { scene, jacobianColours } = this.viewer;
    this.paint((x, y) => (bits(x, y) & scene.bits.folded ? [0, 255, 64] : jacobianColours[read(x, y)]));
  }

  stroke(path, colour, width, dash = []) {
    const c = this.context, unit = devicePixelRatio;
    c.save();
    c.lineCap = dash.length ? "butt" : "round";
    c.lineJoin = "round";
    c.beginPath();
    path(c);
    c.strokeStyle = "rgba(0, 0, 0, .75)";
    c.lineWidth = (width + 1.8) * unit;
    c.stroke();
    c.strokeStyle = colour;
    c.lineWidth = width * unit;
    c.setLineDash(dash.map((n) => n * unit));
    c.stroke();
    c.restore();
  }

  outline(bit, style) {
    const [rows, columns] = this.tile, read = this.reader("bits");
    const sx = this.canvas.width / columns, sy = this.canvas.height / rows;
    const value = (x, y) => (x >= 0 && y >= 0 && x < columns && y < rows && read(x, y) & bit ? 1 : 0);
    const segments = [];
    lines(value, -1, -1, columns, rows, (low, high) => (low < high ? [0.5] : []), (a, b) => segments.push([a, b]));
    if (!segments.length) return;
    const chains = joined(segments);
    const colour = getComputedStyle(document.documentElement).getPropertyValue(style.colour);
    this.stroke((c) => {
      for (const chain of chains) chain.forEach(([x, y], i) => c[i ? "lineTo" : "moveTo"]((x + 0.5) * sx, (y + 0.5) * sy));
    }, colour, 1.8, style.dash);
  }

  gridLines() {
    const [rows, columns] = this.half, { width, height } = this.canvas;
    const spacing = this.size_mm.map((length, i) => length / this.shape[i]);
    const step = Math.max(Math.max(...this.size_mm) / 20, ...spacing);
    const between = function* (low, high) { for (let n = Math.ceil(low / step); n * step < high; n++) yield n * step; };
    for (const [name, axis] of [["down", 0], ["right", 1]]) {
      const read = this.reader(name, this.half), count = axis ? columns : rows;
      const value = (x, y) => {
        let index = (((axis ? x : y) + 0.5) / count) * this.shape[axis] - 0.5;
        if (!axis && this.flipped) index = this.shape[0] - 1 - index;
        return index * spacing[axis] + ((read(x, y) - 128) / 127) * this.shift_mm;
      };
      this.context.beginPath();
      lines(value, 0, 0, columns - 1, rows - 1, between, ([ax, ay], [bx, by]) => {
        this.context.moveTo(((ax + 0.5) / columns) * width, ((ay + 0.5) / rows) * height);
        this.context.lineTo(((bx + 0.5) / columns) * width, ((by + 0.5) / rows) * height);
      });
      this.context.strokeStyle = "#7fd4ff";
      this.context.lineWidth = 1.1 * devicePixelRatio;
      this.context.stroke();
    }
  }

  crosshair() {
    const point = this.viewer.point(), { width, height } = this.canvas;
    const along = (axis, i) => (point[axis] + 0.5) / this.shape[i];
    const y = (this.flipped ? 1 - along(this.axes[0], 0) : along(this.axes[0], 0)) * height;
    const x = along(this.axes[1], 1) * width;
    this.stroke((c) => { c.moveTo(0, y); c.lineTo(width, y); c.moveTo(x, 0); c.lineTo(x, height); }, "rgba(255, 255, 255, .75)", 0.8);
  }

  // What the images hold at a place, in shares of the plane.
  values(x, y) {
    const [rows, columns] = this.tile, { windows, jacobian_limit: limit } = this.viewer.scene;
    const cell = [Math.min(columns - 1, Math.max(0, Math.floor(x * columns))), Math.min(rows - 1, Math.max(0, Math.floor(y * rows)))];
    const byte = (name) => this.reader(name)(...cell);
    const grey = (name, [low, high]) => low + (byte(name) / 255) * (high - low);
    return {
      fixed: grey("fixed", windows.fixed),
      warped: grey("after", windows.moving),
      probability: byte("probability") / 255,
      jacobian: limit ** (byte("jacobian") / 127.5 - 1),
    };
  }

  // Words beside the picture, for eyes and for screen readers.
  tell() {
    const { state, shows } = this.viewer, [left, right] = shows();
    one(".chip.first", this.figure).textContent = left;
    one(".chip.second", this.figure).textContent = right;
    const place = this.across === null ? "" : `, slice ${this.slice + 1} of ${this.positions.length}, ${this.places[this.slice]}`;
    const what = right ? `${left} on the left, ${right} on the right` : left;
    this.canvas.setAttribute("aria-label", `${this.name} plane${place}: ${state.mode === "checker" ? "checkerboard of " : ""}${what}`);
    this.output.textContent = this.across === null ? "" : `${this.places[this.slice]}  ·  ${this.slice + 1}/${this.positions.length}`;
    if (this.slider) {
      this.slider.value = this.slice;
      this.slider.setAttribute("aria-valuetext", `${this.slice + 1} of ${this.positions.length}, ${this.places[this.slice]}`);
    }
  }

  // False where there is no such slice.
  show(slice) {
    const wanted = Math.max(0, Math.min(this.positions.length - 1, slice));
    if (wanted === this.slice) return false;
    this.slice = wanted;
    this.viewer.chosen = null;
    this.viewer.draw(this.viewer.state.contours.cross ? undefined : this);
    this.viewer.announce(`${this.name} slice ${wanted + 1} of ${this.positions.length}, ${this.places[wanted]}`);
    return true;
  }

  goTo(index) {
    let best = 0;
    this.positions.forEach((p, i) => { if (Math.abs(p - index) < Math.abs(this.positions[best] - index)) best = i; });
    this.slice = best;
  }

  listen() {
    const { viewer, canvas } = this;
    let turned = 0;
    canvas.addEventListener("wheel", (event) => {
      if (this.positions.length < 2 || event.ctrlKey) return;
      turned += event.deltaMode ? event.deltaY * 40 : event.deltaY;
      const steps = Math.trunc(turned / 40);
      const stuck = turned > 0 ? this.slice === this.positions.length - 1 : this.slice === 0;
      if (stuck) { turned = 0; return; } // the page scrolls on
      event.preventDefault();
      if (steps) { turned -= 40 * steps; this.show(this.slice + Math.sign(steps)); }
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const moves = { ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -1e6, End: 1e6 };
      if (event.key in moves && this.positions.length > 1) { this.show(this.slice + moves[event.key]); event.preventDefault(); }
      const wipes = { ArrowLeft: -0.05, ArrowRight: 0.05 };
      if (event.key in wipes && viewer.state.mode === "wipe") { viewer.wipe(viewer.state.wipe + wipes[event.key]); event.preventDefault(); }
    });
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    canvas.addEventListener("pointermove", (event) => viewer.read(this, ...at(event)));
    canvas.addEventListener("pointerleave", () => viewer.read(null));
    let from = null;
    canvas.addEventListener("pointerdown", (event) => { from = at(event); canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointermove", (event) => { if (from && viewer.state.mode === "wipe") viewer.wipe(at(event)[0]); });
    canvas.addEventListener("pointerup", (event) => {
      const [x, y] = at(event), still = from && Math.hypot(x - from[0], y - from[1]) < 0.01;
      from = null;
      if (still) viewer.choose(this, x, y);
    });
    canvas.addEventListener("pointercancel", () => { from = null; });
    this.slider?.addEventListener("input", () => this.show(Number(this.slider.value)));
  }
}
