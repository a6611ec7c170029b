"use strict";
// From pictures to numbers, and from numbers to colours and lines.

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
