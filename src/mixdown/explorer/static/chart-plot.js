// A chart on a canvas: uPlot with our colours, stacked where there are several series.
// Checked data, a kind and an element enter; a handle to the drawn chart leaves. No data is fetched here.

import { brief, mark } from "./chart-format.js";
import { dashOf, drawLabels, drawNotes, fillOf, labelsRoom, pointsOf } from "./chart-marks.js";

const LIBRARY = new URL("./vendor/uPlot.iife.min.js", import.meta.url);
const COLOURS = 8;
const HOUR = 3600;
const DAY = 24 * HOUR;
const STEPS = {
  minute: [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440],
  hour: [1, 2, 3, 6, 12, 24, 48, 72, 168],
  day: [1, 2, 3, 7, 14, 28, 56, 91, 182, 364],
  week: [1, 2, 4, 8, 13, 26, 52],
  month: [1, 2, 3, 6, 12, 24, 60],
};
const MARK_PX = 68;
const POINTS_UP_TO = 60;
const MARKS = 16;
const BAR_PART = 0.72;
const BAR_PX = 56;
let library;

/** uPlot; loaded when the first chart wants it. */
export function loadLibrary() {
  library ??= window.uPlot
    ? Promise.resolve(window.uPlot)
    : new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = LIBRARY.href;
        script.nonce = document.querySelector("script[nonce]")?.nonce ?? "";
        script.addEventListener("load", () => resolve(window.uPlot));
        script.addEventListener("error", () => {
          library = undefined; // the next chart tries again
          script.remove();
          reject(new Error("The charts' own script cannot be loaded."));
        });
        document.head.append(script);
      });
  return library;
}

/** The colours of a chart as its style sheet has them now. */
export function coloursOf(figure) {
  const style = getComputedStyle(figure);
  const named = (name, other) => style.getPropertyValue(name).trim() || other;
  const series = [];
  for (let number = 1; number <= COLOURS; number += 1) series.push(named(`--chart-${number}`, "#0f766e"));
  return {
    series,
    other: named("--chart-other", "#8b9592"),
    ink: named("--dim", "#586562"),
    text: named("--ink", "#16201e"),
    grid: named("--line", "#e1e6e4"),
    back: named("--card", "#ffffff"),
    font: `12px ${style.fontFamily || "sans-serif"}`,
  };
}

/** The colour of a series, by its place among all of a chart. */
export function colourOf(colours, series, place) {
  return series.other ? colours.other : colours.series[place % colours.series.length];
}

/** A colour mixed with what is behind it: opaque, so that what is stacked does not shine through. */
function tint(colour, colours, part) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = colours.back;
  context.fillRect(0, 0, 1, 1);
  context.globalAlpha = part;
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  const [red, green, blue] = context.getImageData(0, 0, 1, 1).data;
  return `rgb(${red}, ${green}, ${blue})`;
}

/** Each series on top of those before it; hidden ones take no room. */
function stacked(shown, length) {
  const sum = new Array(length).fill(0);
  return shown.map(({ series }) => {
    for (let at = 0; at < length; at += 1) sum[at] += series.values[at] ?? 0;
    return sum.slice();
  });
}

function stepOf(x) {
  let step = Infinity;
  for (let at = 1; at < x.length; at += 1) step = Math.min(step, x[at] - x[at - 1]);
  return Number.isFinite(step) && step > 0 ? step : DAY;
}

function rangeOfX(x, isBars, hasLabels) {
  if (hasLabels) return [x[0] - 0.4, x[x.length - 1] + 0.4];
  const step = stepOf(x);
  const room = isBars ? step / 2 : x.length > 1 ? 0 : DAY / 2;
  return [x[0] - room, x[x.length - 1] + room];
}

function rangeOfY(low, high) {
  const most = Math.max(high ?? 0, 0);
  const least = Math.min(low ?? 0, 0);
  return [least * 1.08, most > 0 ? most * 1.08 : least < 0 ? 0 : 1];
}

/** Marks at the buckets themselves: every so many of them, from the first. */
function splitsAt(read) {
  return (plot) => {
    const { x, step: unit, labels } = read();
    const fit = Math.max(1, Math.floor(plot.bbox.width / devicePixelRatio / MARK_PX));
    const every = (STEPS[unit] ?? STEPS[labels ? "minute" : "day"]).find((step) => x.length / step <= fit) ?? Math.ceil(x.length / fit);
    return x.filter((_, place) => place % every === 0);
  };
}

function axesOf(read, colours, zone) {
  const data = read();
  const common = { stroke: colours.ink, font: colours.font, ticks: { show: false } };
  const times = {
    ...common,
    grid: { show: false },
    border: { show: true, stroke: colours.grid, width: 1 },
    space: MARK_PX,
    size: 30,
    gap: 6,
    values: (_plot, splits) => {
      const { labels } = read();
      if (labels) return splits.map((split) => labels[split] ?? "");
      const apart = splits.length > 1 ? splits[1] - splits[0] : DAY;
      const { x } = read();
      const span = x[x.length - 1] - x[0];
      return splits.map((split) => mark(split, apart, span, zone));
    },
  };
  if (data.step || data.labels) times.splits = splitsAt(read);
  const wholeOnly = data.series.every((series) => series.values.every((value) => Number.isInteger(value ?? 0)));
  const figures = {
    ...common,
    grid: { stroke: colours.grid, width: 1 },
    gap: 6,
    space: 36,
    size: (_plot, texts) => 16 + 7 * Math.max(2, ...(texts ?? [""]).map((text) => text.length)),
    values: (_plot, splits) => splits.map((split) => (data.percent ? `${brief(split)} %` : brief(split))),
  };
  if (wholeOnly) figures.incrs = wholeSteps();
  return [times, figures];
}

function wholeSteps() {
  const found = [];
  for (let power = 1; power <= 1e15; power *= 10) found.push(power, 2 * power, 5 * power);
  return found;
}

function seriesOf(uPlot, kind, { place, series }, colours, { isStacked, several, count }) {
  const colour = colourOf(colours, series, place);
  if (kind === "bars") {
    const fill = fillOf(place, colour, colours.back);
    return { stroke: colour, fill: () => fill, width: place ? 1 : 0, paths: uPlot.paths.bars({ size: [BAR_PART, BAR_PX] }), points: { show: false } };
  }
  const isMarked = count === 1 || (kind === "line" && (several || count <= POINTS_UP_TO));
  const made = {
    stroke: colour,
    width: isStacked ? 1.5 : 2,
    dash: kind === "line" ? dashOf(place) : [],
    points: isMarked ? pointsOf(place, colour, several ? MARKS : POINTS_UP_TO) : { show: false },
  };
  const fill = isStacked && place ? fillOf(place, colour, colours.back) : tint(colour, colours, isStacked ? 0.75 : 0.14);
  if (kind === "area") made.fill = () => fill;
  return made;
}

/**
 * Where each series ends, for its name. In a stack that is the middle of what it adds to the last bucket with anything
 * in it (what has just begun is often empty); what adds nothing there has its name in the legend alone.
 */
function endsOf(plot, order, colours, { isStacked, isBars }) {
  const [times, top] = plot.data;
  const full = isStacked ? top.findLastIndex((sum) => sum > 0) : -1;
  return order.flatMap(({ series, place }, number) => {
    const values = plot.data[number + 1];
    const last = isStacked ? full : values.findLastIndex((value) => value !== null && value !== undefined);
    if (last < 0) return [];
    const under = isStacked && number + 2 < plot.data.length ? plot.data[number + 2][last] : 0;
    if (isStacked && !(values[last] > under)) return [];
    const middle = isStacked ? (values[last] + under) / 2 : values[last];
    const x = isStacked ? plot.valToPos(times[last], "x", true) + (isBars ? halfBar(plot) : 0) : Infinity;
    return [{ label: series.label, x, y: plot.valToPos(middle, "y", true), colour: colourOf(colours, series, place) }];
  });
}

/** Half the width of a bar on the canvas. */
function halfBar(plot) {
  const step = plot.valToPos(plot.data[0][0] + stepOf(plot.data[0]), "x", true) - plot.valToPos(plot.data[0][0], "x", true);
  return Math.min(BAR_PART * step, BAR_PX * devicePixelRatio) / 2;
}

/**
 * Draw a chart into an element.
 *
 * @param target the element, as wide and high as the chart is to be
 * @param kind "line", "area" or "bars"
 * @param data {x, series: [{label, values, other?, hidden?}], step?, labels?, percent?, notes?}
 * @param options {colours, zone, direct (names at the ends), onCursor(place or null, left, top)}
 * @returns {setData, resize, point(place), destroy, length}
 */
export async function draw(target, kind, data, options) {
  const uPlot = await loadLibrary();
  const { colours, zone } = options;
  const places = data.series.map((series, place) => ({ series, place })).filter(({ series }) => !series.hidden);
  const isStacked = kind !== "line" && places.length > 1;
  // the last one on top is drawn first, and what stands below it over it
  const order = isStacked ? places.slice().reverse() : places;
  const table = (given) => {
    const shown = given.series.map((series, place) => ({ series, place })).filter(({ series }) => !series.hidden);
    const values = isStacked ? stacked(shown, given.x.length).reverse() : shown.map(({ series }) => series.values);
    return [given.x, ...values];
  };
  let current = data;
  const names = options.direct ? places.map(({ series }) => series.label) : [];
  const namesRoom = (plot) => labelsRoom(names, plot.width);
  const plot = new uPlot(
    {
      width: Math.max(target.clientWidth, 100),
      height: Math.max(target.clientHeight, 80),
      padding: [data.notes?.length ? 18 : 10, (plot) => Math.max(24, namesRoom(plot)), 0, 0],
      legend: { show: false },
      cursor: {
        y: false,
        drag: { x: false, y: false, setScale: false },
        points: { show: kind !== "bars", size: 8 },
      },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), zone),
      scales: {
        x: { time: !data.labels, range: () => rangeOfX(current.x, kind === "bars", Boolean(current.labels)) },
        y: { range: (_plot, low, high) => rangeOfY(low, high) },
      },
      axes: axesOf(() => current, colours, zone),
      series: [
        {},
        ...order.map((each) => seriesOf(uPlot, kind, each, colours, { isStacked, several: places.length > 1, count: data.x.length })),
      ],
      hooks: {
        draw: [
          (drawn) => {
            if (current.notes?.length) drawNotes(drawn, current.notes, colours.ink, colours.back, colours.font);
            if (namesRoom(drawn)) drawLabels(drawn, endsOf(drawn, order, colours, { isStacked, isBars: kind === "bars" }), colours.text, colours.font);
          },
        ],
        setCursor: [
          (drawn) => {
            const place = drawn.cursor.idx;
            const isOver = place !== null && place !== undefined && drawn.cursor.left >= 0;
            options.onCursor(isOver ? place : null, isOver ? drawn.valToPos(current.x[place], "x") : 0, drawn);
          },
        ],
      },
    },
    table(data),
    target,
  );
  return {
    get length() {
      return current.x.length;
    },
    setData(next) {
      current = next;
      plot.setData(table(next));
    },
    resize() {
      const width = target.clientWidth;
      const height = target.clientHeight;
      if (width > 0 && height > 0 && (width !== plot.width || height !== plot.height)) plot.setSize({ width, height });
    },
    point(place) {
      const left = place === null ? -10 : plot.valToPos(current.x[place], "x");
      plot.setCursor({ left, top: place === null ? -10 : plot.over.clientHeight / 3 });
    },
    destroy() {
      plot.destroy();
    },
  };
}
