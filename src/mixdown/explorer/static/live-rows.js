// The rows of the live view: one record each, made of its JSON as text; what stands inside is made when it is opened.

import { inside, member, pretty } from "./json-text.js";

const NAMES_SHOWN = 8;
const VERBS = {
  device: "device belongs to user",
  identify: "identified as",
  create_alias: "has the alias",
  merge: "merged with",
};
const WORDS = { update: "update", event: "event", link: "identity", refusal: "refused" };

function make(tag, name = "", text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text) made.textContent = text;
  return made;
}

function two(number) {
  return String(number).padStart(2, "0");
}

/** A time of day with milliseconds, in the reader's own zone. */
export function clock(ms) {
  const at = new Date(ms);
  const millis = String(at.getMilliseconds()).padStart(3, "0");
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${millis}`;
}

function listed(names) {
  return names.slice(0, NAMES_SHOWN).join(", ") + (names.length > NAMES_SHOWN ? ", …" : "");
}

/** What a record does, in a line; as `explorer/pages/live.py` says it of those that come with the page. */
function summary(kind, record) {
  if (record.cut) return "a large record: open it to see how it begins";
  if (kind === "update") {
    const told = Object.entries(record.operations).map(([operator, payload]) => {
      const names = Array.isArray(payload) ? payload : Object.keys(payload ?? {});
      return `${operator} ${typeof payload === "string" ? payload : listed(names.map(String))}`.trim();
    });
    return told.join("  ·  ");
  }
  if (kind === "event") {
    return listed(Object.keys(record.properties).filter((name) => name !== "time" && name !== "$insert_id"));
  }
  if (kind === "link") return `${VERBS[record.verb] ?? record.verb} ${record.ids[1]}`;
  return `record ${record.index}: ${record.message}`;
}

function titleOf(kind, record) {
  if (kind === "update") return record.id;
  if (kind === "event") return record.distinct_id;
  if (kind === "link") return record.ids[0];
  return record.field || `/${record.endpoint}`;
}

/** A row of a record; `text` is its JSON. */
export function row(kind, text, projects) {
  const record = JSON.parse(text);
  const item = make("li", "live-row");
  item.dataset.kind = kind;
  const details = make("details");
  const line = make("summary");
  const time = make("time", "live-time dim num", clock(record.time_ms));
  time.dateTime = new Date(record.time_ms).toISOString();
  const badge = make("span", "badge live-kind", kind === "update" && record.group_key ? record.group_key : WORDS[kind]);
  badge.dir = "auto";
  const id = make("span", "live-id mono", titleOf(kind, record));
  id.dir = "auto";
  const what = make("span", "live-what");
  what.dir = "auto";
  if (kind === "event") what.append(make("b", "", record.event), "  ");
  what.append(summary(kind, record));
  line.append(time, badge, id, what);
  if (projects) {
    const project = make("span", "live-project dim", projects[record.project_id] ?? "unknown token");
    project.dir = "auto";
    line.append(project);
  }
  details.append(line);
  item.append(details);
  return item;
}

/** What stands in an open row: facts, actions and the JSON. */
export function detail(kind, text, page) {
  const record = JSON.parse(text);
  const box = make("div", "live-detail");
  const actions = make("div", "live-actions");
  const facts = make("dl", "live-facts");
  const fact = (name, value) => {
    if (value === null || value === undefined || value === "") return;
    const told = make("dd", "", String(value));
    told.dir = "auto";
    facts.append(make("dt", "", name), told);
  };
  if (kind === "refusal") {
    fact("Refused because", record.message);
    fact("Field", record.field);
    fact("Place in the request", record.index);
    fact("Refusal", record.id);
  } else fact("Place in the log", record.position);
  fact("Sent to", `/${record.endpoint}`);
  fact("By", record.sdk);
  const profile = profileOf(kind, record, page);
  if (profile) {
    const link = make("a", "btn btn-quiet btn-small", "Open the profile");
    link.href = profile;
    actions.append(link);
  }
  const shown = shownText(kind, text, record);
  actions.append(copier("Copy the JSON", shown));
  const curl = curlOf(kind, text, record, page);
  if (curl) actions.append(copier("Copy as curl", curl));
  if (kind === "refusal" && page.mayMend) {
    const mend = make("button", "btn btn-small", "Mend and send again");
    mend.type = "button";
    mend.dataset.mend = record.id;
    actions.append(mend);
  }
  const block = make("pre", "json", shown);
  block.tabIndex = 0;
  block.dir = "auto";
  if (record.cut) box.append(make("p", "dim", `It has ${record.cut.size_bytes} bytes; this is how it begins.`));
  box.append(facts, actions, block);
  return box;
}

/** A button that app.js makes copy a text. */
function copier(label, text) {
  const button = make("button", "btn btn-quiet btn-small");
  button.type = "button";
  button.dataset.copyText = text;
  button.append(make("span", "", label));
  return button;
}

/** The record as it was sent: of a refusal its own text. */
export function shownText(kind, text, record) {
  if (record.cut) return record.cut.start;
  if (kind !== "refusal") return pretty(text);
  return isJson(record.record) ? pretty(record.record) : record.record;
}

function isJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function profileOf(kind, record, page) {
  if (kind === "refusal" || !record.project_id) return "";
  const params = new URLSearchParams();
  if (record.group_key) params.set("group_key", record.group_key);
  params.set("id", kind === "update" ? record.id : kind === "event" ? record.distinct_id : record.ids[0]);
  return `${page.base}/${record.project_id}/profile?${params}`;
}

/** The record as a line for a shell, which sends it again. */
function curlOf(kind, text, record, page) {
  if (record.cut || kind === "link" || record.endpoint === "erase") return "";
  let body = "";
  let path = "engage";
  const token = JSON.stringify(page.tokens[record.project_id] ?? "YOUR_TOKEN");
  if (kind === "refusal") {
    if (!record.whole || !["engage", "groups", "track"].includes(record.endpoint)) return "";
    path = record.endpoint;
    body = isJson(record.record) ? `[${record.record}]` : record.record;
  } else if (kind === "event") {
    path = "track";
    const own = `"token":${token},"distinct_id":${JSON.stringify(record.distinct_id)}`;
    const rest = inside(member(text, "properties"));
    body = `[{"event":${JSON.stringify(record.event)},"properties":{${own}${rest ? `,${rest}` : ""}}}]`;
  } else {
    const whose = record.group_key
      ? `"$group_key":${JSON.stringify(record.group_key)},"$group_id":${JSON.stringify(record.id)}`
      : `"$distinct_id":${JSON.stringify(record.id)}`;
    if (record.group_key) path = "groups";
    body = `[{"$token":${token},${whose},${inside(member(text, "operations"))}}]`;
  }
  return `curl '${page.address}/${path}?verbose=1' -H 'Content-Type: application/json' -d ${quoted(body)}`;
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
