// What tells series apart without colour: hatched areas and bars, dashed lines, points of different shapes, and names
// at the ends of lines. A place among the series enters; patterns, paths and drawn marks leave.

const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3], [5, 2], [1, 4], [12, 5], [4, 4, 1, 4]];
const SHAPES = ["disc", "square", "triangle", "diamond", "cross", "point", "ring", "plus"];
const HATCHES = ["plain", "slash", "dots", "back", "level", "lattice", "upright", "grid"];
const TILE = 8;
const LABEL_CHARS = 18;
const LABEL_PX = 13;
const LABELS_UP_TO = 8;
const LABELS_FROM_PX = 520;
const tiles = new Map();

/** The dashes of a line. */
export function dashOf(place) {
  return DASHES[place % DASHES.length];
}

/** What an area or a bar is filled with: the first series plainly, the others hatched. */
export function fillOf(place, colour, back) {
  const hatch = HATCHES[place % HATCHES.length];
  if (hatch === "plain") return colour;
  const key = `${hatch} ${colour} ${back} ${devicePixelRatio}`;
  if (!tiles.has(key)) tiles.set(key, tile(hatch, colour, back));
  return tiles.get(key);
}

/** A pattern of one hatch; what lies between its strokes is the colour, thinned, so that a bar keeps its shape. */
function tile(hatch, colour, back) {
  const canvas = document.createElement("canvas");
  const scale = devicePixelRatio || 1;
  canvas.width = canvas.height = TILE * scale;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.fillStyle = back;
  context.fillRect(0, 0, TILE, TILE);
  context.globalAlpha = 0.28;
  context.fillStyle = colour;
  context.fillRect(0, 0, TILE, TILE);
  context.globalAlpha = 1;
  context.strokeStyle = colour;
  context.lineWidth = 1.6;
  context.beginPath();
  const lines = {
    slash: [[-2, 2, 2, -2], [0, 8, 8, 0], [6, 10, 10, 6]],
    back: [[-2, 6, 2, 10], [0, 0, 8, 8], [6, -2, 10, 2]],
    level: [[0, 2, 8, 2], [0, 6, 8, 6]],
    upright: [[2, 0, 2, 8], [6, 0, 6, 8]],
    lattice: [[0, 8, 8, 0], [0, 0, 8, 8]],
    grid: [[0, 4, 8, 4], [4, 0, 4, 8]],
    dots: [],
  }[hatch];
  for (const [x, y, toX, toY] of lines) {
    context.moveTo(x, y);
    context.lineTo(toX, toY);
  }
  if (hatch === "dots") for (const [x, y] of [[2, 2], [6, 6]]) context.arc(x, y, 1.1, 0, 7);
  if (hatch === "dots") context.fill();
  else context.stroke();
  return context.createPattern(canvas, "repeat");
}

/** A shape around a point, into a path. */
function shape(path, name, x, y, size) {
  const half = size / 2;
  if (name === "square") path.rect(x - half, y - half, size, size);
  else if (name === "triangle") polygon(path, [[x, y - half * 1.2], [x + half * 1.15, y + half], [x - half * 1.15, y + half]]);
  else if (name === "point") polygon(path, [[x, y + half * 1.2], [x + half * 1.15, y - half], [x - half * 1.15, y - half]]);
  else if (name === "diamond") polygon(path, [[x, y - half * 1.3], [x + half * 1.3, y], [x, y + half * 1.3], [x - half * 1.3, y]]);
  else if (name === "cross" || name === "plus") {
    const arm = half * 0.45;
    path.rect(x - half * 1.2, y - arm, half * 2.4, arm * 2);
    if (name === "plus") path.rect(x - arm, y - half * 1.2, arm * 2, half * 2.4);
  } else {
    path.moveTo(x + half, y);
    path.arc(x, y, half, 0, 7);
    if (name === "ring") path.arc(x, y, half * 0.45, 7, 0, true);
  }
}

function polygon(path, points) {
  path.moveTo(...points[0]);
  for (const point of points.slice(1)) path.lineTo(...point);
  path.closePath();
}

/** How uPlot draws the points of a series: every so many of them, so that a long line keeps its own marks. */
export function pointsOf(place, colour, upTo) {
  const name = SHAPES[place % SHAPES.length];
  return {
    show: true,
    size: 6,
    width: 0,
    fill: colour,
    stroke: colour,
    paths: (plot, index, first, last) => {
      const path = new Path2D();
      const [times, values] = [plot.data[0], plot.data[index]];
      const every = Math.max(1, Math.ceil((last - first + 1) / upTo));
      const size = 6.5 * devicePixelRatio;
      for (let at = first + (every > 1 ? (place * 2) % every : 0); at <= last; at += every) {
        if (values[at] === null || values[at] === undefined) continue;
        shape(path, name, plot.valToPos(times[at], "x", true), plot.valToPos(values[at], "y", true), size);
      }
      return { fill: path, stroke: null, clip: null, flags: 3 };
    },
  };
}

/** A sample of a series for the legend, as a canvas. */
export function swatch(kind, place, colour, back) {
  const canvas = document.createElement("canvas");
  const scale = devicePixelRatio || 1;
  canvas.width = 20 * scale;
  canvas.height = 12 * scale;
  canvas.className = "chart-swatch";
  canvas.setAttribute("aria-hidden", "true");
  const context = canvas.getContext("2d");
  if (kind === "line") {
    context.scale(scale, scale);
    context.strokeStyle = context.fillStyle = colour;
    context.lineWidth = 2;
    context.setLineDash(dashOf(place));
    context.beginPath();
    context.moveTo(0, 6);
    context.lineTo(20, 6);
    context.stroke();
    const path = new Path2D();
    shape(path, SHAPES[place % SHAPES.length], 10, 6, 7);
    context.fill(path);
    return canvas;
  }
  context.fillStyle = fillOf(place, colour, back);
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.strokeStyle = colour;
  context.lineWidth = scale;
  context.strokeRect(scale / 2, scale / 2, canvas.width - scale, canvas.height - scale);
  return canvas;
}

/** How much room the names at the right of a chart take: none where they would not fit or be too many. */
export function labelsRoom(labels, width) {
  if (labels.length < 2 || labels.length > LABELS_UP_TO || width < LABELS_FROM_PX) return 0;
  return Math.min(150, 16 + 6.6 * Math.max(...labels.map((label) => short(label).length)));
}

function short(label) {
  return label.length > LABEL_CHARS ? `${label.slice(0, LABEL_CHARS - 1)}…` : label;
}

/**
 * Names at the right, each where its series ends, moved apart where they would meet. `ends`: {label, x, y, colour}; a
 * line leads from `x` to the name.
 */
export function drawLabels(plot, ends, ink, font) {
  const scale = devicePixelRatio;
  const { ctx: context, bbox } = plot;
  const sorted = ends.slice().sort((one, other) => one.y - other.y);
  let low = bbox.top + 4 * scale;
  for (const end of sorted) {
    end.at = Math.max(end.y, low);
    low = end.at + LABEL_PX * scale;
  }
  let high = bbox.top + bbox.height - 2 * scale;
  for (const end of sorted.slice().reverse()) {
    end.at = Math.min(end.at, high);
    high = end.at - LABEL_PX * scale;
  }
  const right = bbox.left + bbox.width;
  context.save();
  context.font = font.replace(/([\d.]+)px/, (_, size) => `${size * scale}px`);
  context.textBaseline = "middle";
  context.textAlign = "left";
  for (const end of sorted) {
    context.strokeStyle = end.colour;
    context.lineWidth = scale;
    context.beginPath();
    context.moveTo(Math.min(end.x, right) + scale, end.y);
    context.lineTo(right + scale, end.y);
    context.lineTo(right + 8 * scale, end.at);
    context.stroke();
    context.fillStyle = ink;
    context.fillText(short(end.label), right + 11 * scale, end.at);
  }
  context.restore();
}

/** Notes on moments: a dashed line each, with its number in a box at the top. */
export function drawNotes(plot, notes, ink, back, font) {
  const scale = devicePixelRatio;
  const { ctx: context, bbox } = plot;
  context.save();
  context.font = font.replace(/([\d.]+)px/, (_, size) => `600 ${(size - 1) * scale}px`);
  context.textBaseline = "middle";
  context.textAlign = "center";
  for (const note of notes) {
    const place = plot.data[0].findLastIndex((begin) => begin <= note.x); // the bucket that it lies in
    if (place < 0) continue;
    const x = Math.round(plot.valToPos(plot.data[0][place], "x", true));
    context.strokeStyle = ink;
    context.lineWidth = scale;
    context.setLineDash([4 * scale, 3 * scale]);
    context.beginPath();
    context.moveTo(x, bbox.top + 16 * scale);
    context.lineTo(x, bbox.top + bbox.height);
    context.stroke();
    context.setLineDash([]);
    const wide = (8 + 7 * String(note.number).length) * scale;
    const left = Math.min(Math.max(x - wide / 2, bbox.left), bbox.left + bbox.width - wide);
    context.fillStyle = back;
    context.fillRect(left, bbox.top, wide, 16 * scale);
    context.strokeRect(left, bbox.top, wide, 16 * scale);
    context.fillStyle = ink;
    context.fillText(String(note.number), left + wide / 2, bbox.top + 8.5 * scale);
  }
  context.restore();
}
