// How charts write figures and times: in the browser's language, in the zone that the page names.
// Units, zones and numbers enter; texts leave. Nothing here touches the page.

const LANGUAGE = undefined; // the browser's own
const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const YEAR = 366 * DAY;
const made = new Map();

function format(options) {
  const key = JSON.stringify(options);
  if (!made.has(key)) made.set(key, new Intl.DateTimeFormat(LANGUAGE, options));
  return made.get(key);
}

const whole = new Intl.NumberFormat(LANGUAGE, { maximumFractionDigits: 2 });
const small = new Intl.NumberFormat(LANGUAGE, { maximumSignificantDigits: 3 });
const short = new Intl.NumberFormat(LANGUAGE, { notation: "compact", maximumSignificantDigits: 3 });

/** A figure in full: 12,345.67; an absent one is a dash. */
export function figure(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  return value !== 0 && Math.abs(value) < 0.01 ? small.format(value) : whole.format(value);
}

/** A figure for an axis: 12.3K. */
export function brief(value) {
  return Math.abs(value) < 10_000 ? figure(value) : short.format(value);
}

/** The zone that a page names: "utc", the name of one, or (nothing, or one that is unknown) the browser's. */
export function zoneOf(name) {
  const own = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  if (!name || name === "local") return own;
  if (name.toLowerCase() === "utc") return "UTC";
  try {
    new Intl.DateTimeFormat(LANGUAGE, { timeZone: name });
    return name;
  } catch {
    return own;
  }
}

/** A moment (unix seconds) in full, as exactly as a unit tells it. */
export function moment(seconds, unit, zone) {
  const date = new Date(seconds * 1000);
  const day = { timeZone: zone, year: "numeric", month: "short", day: "numeric" };
  if (unit === "month") return format({ timeZone: zone, year: "numeric", month: "long" }).format(date);
  if (unit === "week") return `Week of ${format(day).format(date)}`;
  if (unit === "day") return format({ ...day, weekday: "short" }).format(date);
  const time = { ...day, hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZoneName: "short" };
  return format(unit ? time : { ...time, second: "2-digit" }).format(date);
}

/** A moment for an axis whose marks are so many seconds apart, on a chart that spans so many. */
export function mark(seconds, apart, span, zone) {
  const date = new Date(seconds * 1000);
  const year = span > YEAR ? { year: "2-digit" } : {};
  if (apart >= 28 * DAY) return format({ timeZone: zone, month: "short", ...year }).format(date);
  const day = { timeZone: zone, month: "short", day: "numeric", ...year };
  if (apart >= DAY - HOUR) return format(day).format(date);
  const time = { timeZone: zone, hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  const text = format(apart < MINUTE ? { ...time, second: "2-digit" } : time).format(date);
  return span > DAY && text === "00:00" ? format(day).format(date) : text;
}
