"use strict";
// What a page can do: change its theme, show a pair, sort and filter a cohort.

const one = (selector, from = document) => from.querySelector(selector);
const all = (selector, from = document) => [...from.querySelectorAll(selector)];

function theme() {
  const button = one("#theme"), root = document.documentElement;
  const preferred = matchMedia("(prefers-color-scheme: dark)");
  const remember = (name) => { try { localStorage.setItem("itk_ncr-theme", name); } catch { /* a page without storage */ } };
  const remembered = () => { try { return localStorage.getItem("itk_ncr-theme"); } catch { return null; } };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : preferred.matches);
  const tell = () => {
    button.setAttribute("aria-pressed", String(isDark()));
    button.textContent = isDark() ? "Dark theme: on" : "Dark theme: off";
  };
  const kept = remembered();
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember(root.dataset.theme);
    tell();
  });
  preferred.addEventListener("change", tell);
  tell();
}

// One value per pixel of a sheet.
async function unpack(source) {
  const image = new Image();
  image.src = source;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const rgba = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const bytes = new Uint8Array(rgba.length / 4);
  for (let i = 0; i < bytes.length; i++) bytes[i] = rgba[4 * i];
  return bytes;
}

// 256 colours from stops at equal distances.
function colours(stops) {
  const rgb = stops.map((s) => [1, 3, 5].map((i) => parseInt(s.slice(i, i + 2), 16)));
  return Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (rgb.length - 1), low = Math.min(Math.floor(at), rgb.length - 2);
    return [0, 1, 2].map((c) => rgb[low][c] + (at - low) * (rgb[low + 1][c] - rgb[low][c]));
  });
}

// Lines along which value(x, y) crosses a level: marching squares, one segment at a time.
function lines(value, x0, y0, x1, y1, levelsBetween, segment) {
  for (let y = y0; y < y1; y++) {
    for (let x = x0; x < x1; x++) {
      const a = value(x, y), b = value(x + 1, y), c = value(x + 1, y + 1), d = value(x, y + 1);
      for (const level of levelsBetween(Math.min(a, b, c, d), Math.max(a, b, c, d))) {
        const cuts = [];
        if (a < level !== b < level) cuts.push([x + (level - a) / (b - a), y]);
        if (b < level !== c < level) cuts.push([x + 1, y + (level - b) / (c - b)]);
        if (c < level !== d < level) cuts.push([x + (level - d) / (c - d), y + 1]);
        if (d < level !== a < level) cuts.push([x, y + (level - a) / (d - a)]);
        for (let i = 0; i + 1 < cuts.length; i += 2) segment(cuts[i], cuts[i + 1]);
      }
    }
  }
}

const NAMES = { fixed: "fixed", before: "affine only", after: "warped" };
const CONTOURS = {
  truth: { colour: "--truth", dash: [7, 5] },
  mask: { colour: "--s", dash: [] },
  lesion: { colour: "--lesion", dash: [2, 4] },
};
const FLICKER_MS = 700; // 1.4 changes per second: half of the 3 per second that can harm

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

// Segments that share their ends become chains, so that dashes and round joins look right.
function joined(segments) {
  const key = ([x, y]) => `${x},${y}`, ends = new Map();
  segments.forEach((segment, i) => segment.forEach((p) => { if (!ends.has(key(p))) ends.set(key(p), []); ends.get(key(p)).push(i); }));
  const used = new Set(), chains = [];
  const follow = (chain) => {
    for (;;) {
      const last = chain[chain.length - 1];
      const next = ends.get(key(last)).find((i) => !used.has(i));
      if (next === undefined) return chain;
      used.add(next);
      const [a, b] = segments[next];
      chain.push(key(a) === key(last) ? b : a);
    }
  };
  segments.forEach((segment, i) => {
    if (used.has(i)) return;
    used.add(i);
    chains.push(follow(follow([...segment]).reverse()));
  });
  return chains;
}

class Viewer {
  constructor(root, scene) {
    this.root = root;
    this.scene = scene;
    this.state = { mode: "wipe", pair: ["fixed", "after"], swapped: false, wipe: 0.5, residual: "after", region: "all", contours: { mask: true, lesion: true, truth: true, cross: false } };
    this.jacobianColours = colours(scene.jacobian_colours);
    this.residualColours = colours(scene.residual_colours);
    this.chosen = null;
    this.shows = this.shows.bind(this);
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.planes = scene.planes.map((described, i) => new Plane(this, described, one(`[data-plane="${i}"]`, root)));
  }

  async start() {
    const frame = one(".planes", this.root);
    // One scale for all planes: as wide as they are in mm.
    if (this.planes.length > 1) frame.style.gridTemplateColumns = this.planes.map((p) => `minmax(0, ${p.size_mm[1]}fr)`).join(" ");
    for (const plane of this.planes) {
      plane.canvas.style.aspectRatio = `${plane.size_mm[1]} / ${plane.size_mm[0]}`;
      plane.figure.style.maxWidth = `calc(78vh * ${plane.size_mm[1] / plane.size_mm[0]})`;
    }
    await Promise.all(this.planes.map((plane) => plane.load()));
    this.listen();
    this.choices();
    this.draw();
    new ResizeObserver(() => this.draw()).observe(frame);
    this.root.dataset.ready = "yes";
  }

  draw(only) { (only ? [only] : this.planes).forEach((plane) => plane.draw()); this.tell(); }

  // What is on the left and on the right of every plane.
  shows() {
    const { mode, pair: [first, second], swapped, residual } = this.state;
    return {
      wipe: [NAMES[first], NAMES[second]],
      flicker: [NAMES[swapped ? second : first], ""],
      checker: [`${NAMES[first]} / ${NAMES[second]}`, ""],
      mask: ["fixed, no correspondence", ""],
      residual: [`${NAMES[residual]} − fixed`, ""],
      grid: ["warped, with its grid", ""],
      jacobian: ["Jacobian determinant", ""],
    }[mode];
  }

  // Index in the scene where the planes meet, or that was clicked.
  point() {
    if (this.chosen) return this.chosen;
    const point = this.scene.corner.map(() => 0);
    for (const plane of this.planes) if (plane.across !== null) point[plane.across] = plane.positions[plane.slice];
    if (this.planes.length === 1) this.planes[0].axes.forEach((axis, i) => { point[axis] = (this.planes[0].shape[i] - 1) / 2; });
    return point;
  }

  choose(plane, x, y) {
    const point = this.point().slice();
    point[plane.axes[0]] = (plane.flipped ? 1 - y : y) * plane.shape[0] - 0.5;
    point[plane.axes[1]] = x * plane.shape[1] - 0.5;
    this.planes.forEach((other) => { if (other !== plane && other.across !== null) other.goTo(point[other.across]); });
    this.chosen = point;
    this.draw();
  }

  wipe(share) {
    this.state.wipe = Math.max(0, Math.min(1, share));
    one("#wipe").value = Math.round(100 * this.state.wipe);
    this.draw();
  }

  swap() { this.state.swapped = !this.state.swapped; this.draw(); }

  auto(on) {
    clearInterval(this.timer);
    this.timer = null;
    if (on && !this.still.matches) this.timer = setInterval(() => { if (!document.hidden) this.swap(); }, FLICKER_MS);
    const button = one("#auto");
    button.setAttribute("aria-pressed", String(this.timer !== null));
    button.textContent = this.timer !== null ? "❚❚ Auto" : "▶ Auto";
    button.disabled = this.still.matches;
    button.title = this.still.matches ? "Your system asks for less motion: use Swap." : "";
  }

  choices() {
    const { state } = this;
    const press = (name, value) => all(`[data-${name}]`, this.root).forEach((b) => b.setAttribute("aria-pressed", String(value(b.dataset[name]))));
    press("mode", (v) => v === state.mode);
    press("pair", (v) => v === state.pair.join(" "));
    press("residual", (v) => v === state.residual);
    press("region", (v) => v === state.region);
    press("contour", (v) => state.contours[v]);
    all("[data-for]", this.root).forEach((group) => { group.hidden = !group.dataset.for.split(" ").includes(state.mode); });
  }

  tell() {
    const { scene, state } = this, scale = one("#scale");
    const limit = scene.jacobian_limit, percent = `${Math.round(100 * scene.residual_limit)} %`;
    const bars = {
      jacobian: [scene.jacobian_colours, (1 / limit).toPrecision(2), limit.toPrecision(2), scene.folded ? "logarithmic, white is 1; green: folded" : "logarithmic, white is 1; nothing folds"],
      residual: [scene.residual_colours, `−${percent}`, `+${percent}`, "of the grey window; black is no difference"],
    };
    scale.hidden = !(state.mode in bars);
    one("#hint").textContent = state.mode in bars ? bars[state.mode][3] : scene.masked ? "" : "S is empty: everything found a partner.";
    if (!scale.hidden) {
      const [stops, low, high] = bars[state.mode];
      one(".low", scale).textContent = low;
      one(".high", scale).textContent = high;
      one("i", scale).style.background = `linear-gradient(to right, ${stops.join(", ")})`;
    }
    const index = this.point();
    const mm = scene.corner.map((start, i) => index.reduce((sum, n, axis) => sum + scene.to_points[i][axis] * n, start));
    one("#point").textContent = `${"x y z".split(" ").slice(0, mm.length).map((n, i) => `${n} ${mm[i].toFixed(1)}`).join("  ")} mm${mm.length === 3 ? " (LPS)" : ""}`;
  }

  announce(text) {
    clearTimeout(this.later);
    this.later = setTimeout(() => { one("#live").textContent = text; }, 250);
  }

  mode(name) {
    const button = one(`[data-mode="${name}"]`, this.root);
    if (button.disabled) return;
    this.state.mode = name;
    if (name !== "flicker") this.auto(false);
    this.choices();
    this.draw();
  }

  listen() {
    const { state, root } = this;
    const on = (name, act) => all(`[data-${name}]`, root).forEach((b) => b.addEventListener("click", () => { act(b.dataset[name]); this.choices(); this.draw(); }));
    all("[data-mode]", root).forEach((b) => b.addEventListener("click", () => this.mode(b.dataset.mode)));
    on("pair", (v) => { state.pair = v.split(" "); });
    on("residual", (v) => { state.residual = v; });
    on("region", (v) => { state.region = v; });
    on("contour", (v) => { state.contours[v] = !state.contours[v]; });
    one("#swap").addEventListener("click", () => this.swap());
    one("#auto").addEventListener("click", () => this.auto(this.timer == null));
    one("#wipe").addEventListener("input", (event) => this.wipe(event.target.value / 100));
    this.still.addEventListener("change", () => this.auto(false));
    this.auto(false);
    root.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const button = all("[data-mode]", root)[Number(event.key) - 1];
      if (button && event.key.trim()) this.mode(button.dataset.mode);
      else if (event.key === "c") { state.contours.mask = !state.contours.mask; this.choices(); this.draw(); }
      else if (event.key === " " && event.target.tagName === "CANVAS") { this.swap(); event.preventDefault(); }
    });
    this.planes.forEach((plane) => plane.listen());
  }
}

function cohort() {
  const table = one("#pairs");
  if (!table) return;
  const heads = table.tHead.rows[0].cells.length, body = table.tBodies[0], rows = [...body.rows];
  const worth = (row, column) => {
    const cell = row.cells[column];
    if (!cell || cell.colSpan > 1) return column === heads - 1 ? row.cells[row.cells.length - 1].textContent.trim().toLowerCase() : NaN;
    return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim().toLowerCase();
  };
  all("thead button", table).forEach((button) => {
    const head = button.closest("th");
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      all("th", table).forEach((th) => th.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sign = down ? -1 : 1;
      rows.sort((one, two) => {
        const a = worth(one, head.cellIndex), b = worth(two, head.cellIndex);
        if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b); // without a number: last
        return sign * (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
      });
      body.append(...rows);
    });
  });
  const search = one("#search"), buttons = all("[data-grade]");
  let grade = "all";
  const filter = () => {
    const text = search.value.trim().toLowerCase();
    let count = 0;
    for (const row of rows) {
      const fits = (grade === "all" || row.dataset.is === grade) && row.textContent.toLowerCase().includes(text);
      row.hidden = !fits;
      count += fits;
    }
    one("#count").textContent = `${count} of ${rows.length} shown`;
  };
  buttons.forEach((button) => button.addEventListener("click", () => {
    grade = button.dataset.grade;
    buttons.forEach((b) => b.setAttribute("aria-pressed", String(b === button)));
    filter();
  }));
  search.addEventListener("input", filter);
  filter();
}

theme();
cohort();
if (one("#scene")) {
  const viewer = new Viewer(one("#viewer"), JSON.parse(one("#scene").textContent));
  viewer.start().catch((error) => { one("#hint").textContent = `The pictures could not be shown: ${error}`; throw error; });
}
