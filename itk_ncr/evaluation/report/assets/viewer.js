"use strict";
// The planes of a pair, and what to show in them.

const FLICKER_MS = 700; // 1.4 changes per second: half of the 3 per second that can harm

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
      mask: ["no correspondence", ""],
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

  // Values under the pointer; none where it is on no plane.
  read(plane, x, y) {
    const line = one("#values");
    if (!plane) { line.textContent = ""; return; }
    const { fixed, warped, probability, jacobian } = plane.values(x, y);
    line.textContent = `fixed ${fixed.toPrecision(3)}  warped ${warped.toPrecision(3)}  no counterpart ${Math.round(100 * probability)} %  Jacobian ${jacobian.toFixed(2)}`;
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
    const contour = (name) => { state.contours[name] = !state.contours[name]; this.choices(); this.draw(); };
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=range]), textarea, select")) return;
      const button = all("[data-mode]", root)[Number(event.key) - 1];
      if (button && event.key.trim()) this.mode(button.dataset.mode);
      else if (event.key === "c") contour("mask");
      else if (event.key === "x") contour("cross");
      else if (event.key === "s") this.swap();
      else if (event.key === "?") { const help = one("#help"); help.open = !help.open; if (help.open) help.scrollIntoView({ block: "nearest" }); }
      else if (event.key === " " && event.target.tagName === "CANVAS") { this.swap(); event.preventDefault(); }
    });
    this.planes.forEach((plane) => plane.listen());
  }
}

const viewer = new Viewer(one("#viewer"), JSON.parse(one("#scene").textContent));
viewer.start().catch((error) => { one("#hint").textContent = `The pictures could not be shown: ${error}`; throw error; });
