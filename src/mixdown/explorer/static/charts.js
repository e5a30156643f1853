// Charts of every page: <figure class="chart" data-chart="line|area|bars" data-src="URL"> or data-values='JSON'.
//
// JSON enters: {"x": [unix seconds], "series": [{"label", "values", "other"?, "total"?}], "unit"?, "step"?,
// "zone"?, "note"?, "notes"? (annotations: {x, number, text}), "labels"? (what stands at each x, where it is no time),
// "percent"?}. A canvas leaves, with a legend, a tooltip for mouse and keyboard, and the same figures as a
// table. Labels are text, whatever they hold. Attributes: data-refresh (ms), data-zone (utc, local, a zone's name),
// data-label (what it shows), data-empty (what to say where there is nothing), data-total="no",
// data-table="no" (the page has one), data-direct="yes" (names stand at the ends of their series).

import { figure as figureText, moment, zoneOf } from "./chart-format.js";
import { swatch } from "./chart-marks.js";
import { colourOf, coloursOf, draw } from "./chart-plot.js";

const KINDS = ["line", "area", "bars"];
const ROWS_LIMIT = 1000;
const TIMEOUT_MS = 60_000;
const TOOLTIP_SERIES = 12;
const SLOWEST_FACTOR = 8;
const LIBRARY_FAILED = "This chart cannot be drawn.";
const charts = new Map();
let shownTheme;

/** Draw the charts below an element that are not drawn yet. */
export function mountCharts(root = document) {
  const found = root.querySelectorAll ? [...root.querySelectorAll("figure.chart[data-chart]")] : [];
  if (root.matches?.("figure.chart[data-chart]")) found.push(root);
  for (const figure of found) if (!charts.has(figure)) new Chart(figure);
}

/** Give a chart new data, or its first; it must have been mounted. */
export function updateChart(figure, data) {
  charts.get(figure)?.show(data);
}

function make(tag, name = "", text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text) made.textContent = text;
  return made;
}

/** Data as charts want it. Throws where it is not. */
function checked(data) {
  if (!data || !Array.isArray(data.x) || !Array.isArray(data.series)) throw new Error("These are no figures of a chart.");
  const series = data.series.map((each) => {
    if (!Array.isArray(each.values) || each.values.length !== data.x.length) {
      throw new Error("A series of this chart has not as many figures as there are times.");
    }
    const label = String(each.label ?? "");
    return { ...each, label, key: JSON.stringify([label, Boolean(each.other), Boolean(each.absent)]) };
  });
  return { ...data, series };
}

function isNothing(data) {
  return !data.x.length || data.series.every((series) => series.values.every((value) => !value));
}

class Chart {
  constructor(figure) {
    charts.set(figure, this);
    this.figure = figure;
    this.kind = KINDS.includes(figure.dataset.chart) ? figure.dataset.chart : "line";
    this.hidden = new Set();
    this.failures = 0;
    this.place = null;
    this.build();
    this.observer = new ResizeObserver(() => this.drawn?.resize());
    this.observer.observe(this.canvas);
    if (figure.dataset.values) this.take(() => JSON.parse(figure.dataset.values));
    else if (figure.dataset.src) this.load();
    else this.state("empty", figure.dataset.empty || "Nothing to show yet.");
  }

  // --- what it consists of

  build() {
    const { figure } = this;
    figure.querySelectorAll(":scope > .chart-body").forEach((old) => old.remove());
    this.body = make("div", "chart-body");
    this.plot = make("div", "chart-plot");
    this.plot.tabIndex = 0;
    this.plot.setAttribute("role", "group");
    this.plot.setAttribute("aria-roledescription", "chart");
    this.plot.setAttribute("aria-label", `${this.label()}: left and right arrow keys read the figures`);
    this.canvas = make("div", "chart-canvas");
    this.tooltip = make("div", "chart-tooltip");
    this.tooltip.hidden = true;
    this.plot.append(this.canvas, this.tooltip);
    this.message = make("div", "chart-message");
    this.message.hidden = true;
    this.legend = make("ul", "chart-legend");
    this.legend.hidden = true;
    this.note = make("p", "chart-note dim");
    this.note.hidden = true;
    this.spoken = make("p", "visually-hidden");
    this.spoken.setAttribute("aria-live", "polite");
    this.table = make("details", "chart-table");
    this.table.append(make("summary", "", "Figures as a table"));
    this.table.addEventListener("toggle", () => this.fillTable());
    this.table.hidden = true;
    this.body.append(this.plot, this.message, this.legend, this.note, this.table, this.spoken);
    figure.append(this.body);
    this.plot.addEventListener("keydown", (event) => this.key(event));
    this.plot.addEventListener("blur", () => this.drawn?.point(null));
    this.state("loading");
  }

  label() {
    return this.figure.dataset.label || this.figure.querySelector("figcaption")?.textContent.trim() || "Chart";
  }

  zone() {
    return zoneOf(this.figure.dataset.zone || this.data?.zone);
  }

  /** What the chart shows: "loading", "ready", "empty" or "error", the last two with a text. */
  state(name, text = "") {
    this.figure.dataset.state = name;
    this.figure.setAttribute("aria-busy", String(name === "loading"));
    this.message.replaceChildren();
    this.message.hidden = name !== "empty" && name !== "error";
    this.message.className = `chart-message ${name === "error" ? "problem" : "empty"}`;
    this.plot.tabIndex = name === "ready" ? 0 : -1;
    if (name !== "ready") {
      this.legend.hidden = this.table.hidden = this.note.hidden = true;
      this.clear();
    }
    if (this.message.hidden) return;
    const told = make("p", "", text);
    if (name === "error") told.setAttribute("role", "alert");
    this.message.append(told);
    if (name === "error" && this.figure.dataset.src) {
      const again = make("button", "btn", "Try again");
      again.type = "button";
      again.addEventListener("click", () => {
        this.state("loading");
        this.load();
      });
      this.message.append(again);
    }
  }

  // --- where its data come from

  async load() {
    clearTimeout(this.timer);
    const first = !this.data;
    try {
      const data = await this.fetched();
      this.failures = 0;
      await this.take(() => data);
    } catch (error) {
      this.failures += 1;
      if (!this.figure.isConnected) return this.end();
      const text = error.name === "TimeoutError" ? "The figures took too long." : error.message;
      if (first || !this.drawn) this.state("error", text);
      else this.say(`Not up to date: ${text}`);
    }
    this.again();
  }

  async fetched() {
    const reply = await fetch(this.figure.dataset.src, {
      headers: { Accept: "application/json" },
      credentials: "same-origin",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    }).catch((error) => {
      throw error.name === "TimeoutError" ? error : new Error("The server cannot be reached.");
    });
    const data = await reply.json().catch(() => null);
    if (!reply.ok || !data) throw new Error(data?.error || `The server answered ${reply.status}, and no figures.`);
    return data.chart ?? data;
  }

  /** Ask again after data-refresh, later after failures, and not while nobody looks. */
  again() {
    const every = Number(this.figure.dataset.refresh);
    if (!(every > 0)) return;
    const pause = every * Math.min(2 ** this.failures, SLOWEST_FACTOR);
    this.timer = setTimeout(() => {
      if (!this.figure.isConnected) this.end();
      else if (document.hidden) this.again();
      else this.load();
    }, pause);
  }

  async take(give) {
    try {
      await this.show(give());
    } catch (error) {
      this.state("error", error.message || LIBRARY_FAILED);
    }
  }

  /** Show data: draw anew where series came or went, else move to the new figures. */
  async show(given) {
    const data = checked(given);
    if (!this.figure.isConnected) return this.end();
    const before = this.data;
    this.data = this.marked(data);
    if (isNothing(data)) {
      this.state("empty", this.figure.dataset.empty || "Nothing came in this time.");
      return undefined;
    }
    const names = (one) => JSON.stringify([one?.step, one?.labels, one?.series.map(({ key }) => key)]);
    const stays = this.drawn && names(before) === names(this.data) && this.drawn.length === data.x.length;
    if (stays) this.drawn.setData(this.data);
    else await this.redraw();
    this.state("ready");
    this.fillLegend();
    this.say(data.note || "");
    this.table.hidden = this.figure.dataset.table === "no";
    if (this.table.open) this.fillTable();
    return undefined;
  }

  marked(data) {
    return { ...data, series: data.series.map((each) => ({ ...each, hidden: this.hidden.has(each.key) })) };
  }

  async redraw() {
    this.clear();
    this.figure.dataset.state = "ready"; // it has its height then
    this.colours = coloursOf(this.figure);
    const asked = this.data;
    const drawn = await draw(this.canvas, this.kind, this.data, {
      colours: this.colours,
      zone: this.zone(),
      direct: this.figure.dataset.direct === "yes",
      onCursor: (place, left) => this.point(place, left),
    });
    if (this.data !== asked || this.drawn || !this.figure.isConnected) drawn.destroy(); // what is newer draws itself
    else this.drawn = drawn;
  }

  clear() {
    this.drawn?.destroy();
    this.drawn = undefined;
    this.canvas.replaceChildren();
    this.tooltip.hidden = true;
  }

  end() {
    clearTimeout(this.timer);
    this.observer.disconnect();
    this.clear();
    charts.delete(this.figure);
  }

  say(text) {
    this.note.textContent = text;
    this.note.hidden = !text;
  }

  // --- reading it

  key(event) {
    if (!this.drawn) return;
    const last = this.data.x.length - 1;
    const leap = Math.max(1, Math.round(last / 10));
    const at = this.place ?? -1;
    const to = {
      ArrowLeft: Math.max(0, (this.place ?? last + 1) - 1),
      ArrowRight: Math.min(last, at + 1),
      PageUp: Math.max(0, (this.place ?? last + 1) - leap),
      PageDown: Math.min(last, at + leap),
      Home: 0,
      End: last,
      Escape: null,
    }[event.key];
    if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.drawn.point(to);
    this.point(to, null);
    this.spoken.textContent = to === null ? "" : this.lines(to).map((line) => line.join(" ")).join(", ");
  }

  /** What stands at a place: its time, and then each series with its figure, the sum last. */
  lines(place) {
    const { data } = this;
    const unit = data.unit || "";
    const shown = data.series.filter((series) => !series.hidden);
    const found = shown.map((series) => [series.label || unit, this.told(series.values[place])]);
    if (shown.length > 1 && this.kind !== "line" && this.figure.dataset.total !== "no") {
      found.push(["Total", this.told(shown.reduce((sum, series) => sum + (series.values[place] ?? 0), 0))]);
    }
    return [[this.when(place)], ...found, ...this.notesAt(place).map(({ number, text }) => [`${number}: ${text}`, ""])];
  }

  /** A figure in words. */
  told(value) {
    return this.data.percent && value !== null && value !== undefined ? `${figureText(value)} %` : figureText(value);
  }

  /** What a place is called: its time, or its label. */
  when(place) {
    const { x, labels, step } = this.data;
    return labels ? String(labels[place] ?? "") : moment(x[place], step, this.zone());
  }

  /** The notes on moments from a place to the next. */
  notesAt(place) {
    const { x, notes } = this.data;
    const next = x[place + 1] ?? Infinity;
    return (notes ?? []).filter((note) => note.x >= x[place] && note.x < next);
  }

  point(place, left) {
    this.place = place;
    if (place === null) {
      this.tooltip.hidden = true;
      return;
    }
    const [[time], ...lines] = this.lines(place);
    const shown = this.data.series.filter((series) => !series.hidden);
    const rows = lines.slice(0, TOOLTIP_SERIES).map(([label, text], number) => {
      const row = make("div", "chart-tooltip-row");
      if (number < shown.length && this.data.series.length > 1) row.append(this.swatch(shown[number]));
      const name = make("span", "chart-tooltip-label", label);
      name.dir = "auto";
      row.append(name, make("span", "num", text));
      return row;
    });
    this.tooltip.replaceChildren(make("div", "chart-tooltip-time", time), ...rows);
    this.tooltip.hidden = false;
    if (left !== null) this.tooltipAt(left);
  }

  tooltipAt(left) {
    const over = this.canvas.querySelector(".u-over");
    const start = (over?.offsetLeft ?? 0) + left;
    const width = this.tooltip.offsetWidth;
    const right = start + 14 + width <= this.plot.clientWidth ? start + 14 : Math.max(0, start - 14 - width);
    this.tooltip.style.left = `${right}px`;
  }

  swatch(series) {
    const place = this.data.series.findIndex((each) => each.key === series.key);
    return swatch(this.kind, place, colourOf(this.colours, series, place), this.colours.back);
  }

  fillLegend() {
    const { series } = this.data;
    this.legend.hidden = series.length < 2;
    if (this.legend.hidden) return;
    const focused = [...this.legend.children].findIndex((item) => item.contains(document.activeElement));
    this.legend.replaceChildren(
      ...series.map((each) => {
        const item = make("li");
        const button = make("button", "chart-key");
        button.type = "button";
        button.setAttribute("aria-pressed", String(!each.hidden));
        const label = make("span", "chart-key-label", each.label);
        label.dir = "auto";
        button.append(this.swatch(each), label);
        if (each.total !== undefined) button.append(make("span", "dim num", this.told(each.total)));
        button.addEventListener("click", () => this.toggle(each.key));
        item.append(button);
        return item;
      }),
    );
    this.legend.children[focused]?.firstChild.focus();
  }

  /** Show or hide a series; hiding the last one shows all again. */
  toggle(key) {
    if (!this.hidden.delete(key)) this.hidden.add(key);
    if (this.data.series.every((each) => this.hidden.has(each.key))) this.hidden.clear();
    this.data = this.marked(this.data);
    this.redraw().then(() => this.fillLegend());
  }

  fillTable() {
    if (!this.table.open || !this.data) return;
    const { x, series, unit } = this.data;
    const table = make("table", "table");
    table.append(make("caption", "visually-hidden", this.label()));
    const head = make("tr");
    const cell = (tag, text, name, scope) => {
      const made = make(tag, name, text);
      made.dir = "auto";
      if (scope) made.scope = scope;
      return made;
    };
    head.append(cell("th", this.data.labels ? "At" : "Time", "", "col"));
    for (const each of series) head.append(cell("th", each.label || unit || "Figure", "num", "col"));
    const rows = x.slice(-ROWS_LIMIT).map((_, number) => {
      const place = number + Math.max(0, x.length - ROWS_LIMIT);
      const row = make("tr");
      row.append(cell("th", this.when(place), "", "row"));
      for (const each of series) row.append(cell("td", this.told(each.values[place]), "num"));
      return row;
    });
    const thead = make("thead");
    const tbody = make("tbody");
    thead.append(head);
    tbody.append(...rows);
    table.append(thead, tbody);
    const scroll = make("div", "scroll");
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", `${this.label()}, figures`);
    scroll.append(table);
    this.table.querySelectorAll(".scroll, .chart-cut").forEach((old) => old.remove());
    if (x.length > ROWS_LIMIT) this.table.append(make("p", "chart-cut dim", `The last ${ROWS_LIMIT} of ${x.length} times.`));
    this.table.append(scroll);
  }
}

// --- the theme, and what comes and goes

function retheme() {
  const theme = `${document.documentElement.dataset.theme ?? ""} ${matchMedia("(prefers-color-scheme: dark)").matches}`;
  if (theme === shownTheme) return;
  shownTheme = theme;
  for (const chart of charts.values()) if (chart.drawn) chart.redraw().then(() => chart.fillLegend());
}

function sweep() {
  for (const chart of [...charts.values()]) if (!chart.figure.isConnected) chart.end();
}

retheme();
new MutationObserver(retheme).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", retheme);
document.addEventListener("htmx:load", (event) => {
  sweep();
  mountCharts(event.detail?.elt ?? event.target);
});
mountCharts();
