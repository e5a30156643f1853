/** Every page of the explorer, as [name, path, parameters]; paths as `site.url` takes them. */

const PROJECT = (people) => [
  ["start", "", {}],
  ["live", "live", {}],
  ["reports", "reports", {}],
  ["segmentation", "reports/segmentation", { event: people.event, on: "$browser" }],
  ["funnel", "reports/funnel", { event1: people.event, event2: "Project created", event3: "Invoice paid", length: 30 }],
  ["retention", "reports/retention", { born_event: people.event, event: "Task completed" }],
  ["frequency", "reports/frequency", {}],
  ["users", "users", {}],
  ["groups", "groups", { key: "company" }],
  ["profile", "profile", { id: people.ada }],
  ["group", "profile", { id: people.company, group_key: "company" }],
  ["events", "events", {}],
  ["event", "event", { name: people.event }],
  ["cohorts", "cohorts", {}],
  ["new-cohort", "cohorts/new", { name: "Busy, and never pay", event1: people.event, times1: 5, when1: "last", where1: 'properties["$browser"] == "Chrome"', event2: "Invoice paid", did2: "did-not" }],
  ["lookup-tables", "lookup-tables", {}],
  ["refusals", "refusals", {}],
  ["dictionary", "dictionary", {}],
  ["dictionary-events", "dictionary", { of: "events" }],
  ["dictionary-entry", "dictionary/entry", { of: "users", name: "plan" }],
  ["sql", "sql", {}],
  ["settings", "settings", {}],
];
const SERVER = [
  ["projects", "/explorer/projects", {}],
  ["accounts", "/explorer/accounts", {}],
  ["health", "/explorer/health", {}],
];

/** Pages that are there; the others come with their work. */
const THERE = [
  "event",
  "events",
  "reports",
  "segmentation",
  "funnel",
  "retention",
  "frequency",
  "accounts",
  "cohorts",
  "dictionary",
  "group",
  "groups",
  "health",
  "live",
  "lookup-tables",
  "profile",
  "projects",
  "refusals",
  "settings",
  "sql",
  "start",
  "users",
  "new-cohort",
  "dictionary-events",
  "dictionary-entry",
];

/** The pages for someone of the seeded people; `only` names some of them. */
export function pages(people, only) {
  return [...PROJECT(people), ...SERVER].filter(([name]) => THERE.includes(name) && (!only || only.includes(name)));
}
