// The SQL page where scripts run: keys of the editor, line numbers, cancelling, the link, and the history.
//
// The history stays in this browser (localStorage), for each account and project apart: queries name people, and
// what is kept on the server would outlive their erasure. A query never runs but by the form being sent.

import { copyText, toast } from "./say.js";

const KEPT = 50;
const KEPT_CHARS = 20_000;
const INDENT = "  ";

const form = document.getElementById("sql-form");
const editor = document.getElementById("sql-text");

if (form && editor) {
  const lines = document.getElementById("sql-lines");
  const run = document.getElementById("sql-run");
  const cancel = document.getElementById("sql-cancel");
  const status = document.getElementById("sql-status");
  const result = document.getElementById("result");
  const atRest = status.textContent;
  const stored = `mixdown-sql|${form.dataset.history}`;
  let wrongLine = 0;
  let takesTab = false;
  let ticking = 0;

  for (const shown of document.querySelectorAll("[data-with-js]")) shown.hidden = false;
  for (const hidden of document.querySelectorAll("[data-without-js]")) hidden.hidden = true;

  // --- line numbers ------------------------------------------------------------------------------------

  const numberLines = () => {
    const count = editor.value.split("\n").length;
    const made = [];
    for (let at = 1; at <= count; at += 1) {
      const line = document.createElement("span");
      if (at === wrongLine) line.className = "wrong";
      line.textContent = `${at}\n`;
      made.push(line);
    }
    lines.replaceChildren(...made);
    lines.scrollTop = editor.scrollTop;
  };
  editor.addEventListener("scroll", () => { lines.scrollTop = editor.scrollTop; });
  editor.addEventListener("input", () => { wrongLine = 0; takesTab = true; numberLines(); });

  // --- keys: Tab indents once somebody types or clicks here, and never holds a keyboard fast ----------

  const insert = (text) => {
    editor.focus();
    // keeps the browser's own undo, which setting the value would lose
    if (!document.execCommand("insertText", false, text)) editor.setRangeText(text, editor.selectionStart, editor.selectionEnd, "end");
    numberLines();
  };
  const indent = (less) => {
    const { value, selectionStart, selectionEnd } = editor;
    if (selectionStart === selectionEnd && !less) return insert(INDENT);
    const begin = value.lastIndexOf("\n", selectionStart - 1) + 1;
    const block = value.slice(begin, selectionEnd);
    const changed = block.split("\n").map((line) => (less ? line.replace(/^ {1,2}|^\t/, "") : INDENT + line)).join("\n");
    if (changed === block) return undefined;
    editor.setSelectionRange(begin, selectionEnd);
    insert(changed);
    editor.setSelectionRange(selectionStart === selectionEnd ? editor.selectionEnd : begin, begin + changed.length);
    return undefined;
  };
  editor.addEventListener("pointerdown", () => { takesTab = true; });
  editor.addEventListener("blur", () => { takesTab = false; });
  editor.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit(run);
    } else if (event.key === "Escape") {
      takesTab = false;
    } else if (event.key === "Tab" && takesTab && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      indent(event.shiftKey);
    }
  });

  // --- views, columns, examples ------------------------------------------------------------------------

  const over = () => form.querySelector("input[name=over]:checked").value;
  const showOver = () => {
    for (const part of document.querySelectorAll("[data-over]")) part.hidden = part.dataset.over !== over();
  };
  const put = (query, kind) => {
    editor.focus();
    editor.select();
    insert(query);
    const radio = form.querySelector(`input[name=over][value="${kind === "events" ? "events" : "profiles"}"]`);
    radio.checked = true;
    showOver();
  };
  form.addEventListener("change", showOver);
  document.querySelector(".sql-side").addEventListener("click", (event) => {
    const named = event.target.closest("[data-insert]");
    if (named) {
      const text = over() === "events" && named.dataset.insertEvents ? named.dataset.insertEvents : named.dataset.insert;
      insert(text);
    }
    const whole = event.target.closest("[data-query]");
    if (whole && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      put(whole.dataset.query, whole.dataset.queryOver);
    }
  });

  // --- tabs --------------------------------------------------------------------------------------------

  const tabs = [...document.querySelectorAll("[data-tabs] [role=tab]")];
  const choose = (tab) => {
    for (const each of tabs) {
      const chosen = each === tab;
      each.setAttribute("aria-selected", String(chosen));
      each.tabIndex = chosen ? 0 : -1;
      const panel = document.getElementById(each.getAttribute("aria-controls"));
      panel.hidden = !chosen;
      panel.setAttribute("role", "tabpanel");
    }
  };
  document.querySelector("[data-tabs]").hidden = false;
  for (const [at, tab] of tabs.entries()) {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = tabs[(at + step + tabs.length) % tabs.length];
      choose(next);
      next.focus();
    });
  }
  choose(tabs[0]);

  // --- history -----------------------------------------------------------------------------------------

  const remembered = () => {
    try {
      const found = JSON.parse(localStorage.getItem(stored) ?? "[]");
      return Array.isArray(found) ? found.filter((one) => typeof one?.query === "string") : [];
    } catch {
      return [];
    }
  };
  const showHistory = () => {
    const list = document.getElementById("sql-history");
    const made = remembered().map((one) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      const code = document.createElement("code");
      const when = document.createElement("span");
      button.type = "button";
      button.dataset.query = one.query;
      button.dataset.queryOver = one.over;
      code.textContent = one.query;
      code.dir = "auto";
      when.className = "dim small";
      when.textContent = `${one.over === "events" ? "Events" : "Profiles"}, ${new Date(one.at).toLocaleString()}`;
      button.append(code, when);
      item.append(button);
      return item;
    });
    if (!made.length) {
      const none = document.createElement("li");
      none.className = "dim";
      none.textContent = "Nothing yet: queries that you run show up here.";
      made.push(none);
    }
    list.replaceChildren(...made);
  };
  const remember = () => {
    const query = editor.value.trim();
    if (!query || query.length > KEPT_CHARS) return;
    const others = remembered().filter((one) => one.query !== query || one.over !== over());
    const kept = [{ query, over: over(), at: Date.now() }, ...others].slice(0, KEPT);
    try {
      localStorage.setItem(stored, JSON.stringify(kept));
    } catch { /* no room, or not allowed: it is remembered nowhere, then */ }
    showHistory();
  };
  document.getElementById("sql-forget").addEventListener("click", () => {
    try { localStorage.removeItem(stored); } catch { /* nothing was kept */ }
    showHistory();
  });
  showHistory();

  // --- the link ----------------------------------------------------------------------------------------

  const link = () => {
    const query = editor.value.trim();
    if (!query) return form.dataset.link;
    const params = new URLSearchParams({ q: query, over: over() });
    return `${form.dataset.link}?${params}`;
  };
  const linkFits = () => editor.value.length <= Number(form.dataset.linkLimit);
  const copyLink = document.getElementById("sql-copy-link");
  copyLink.hidden = false;
  copyLink.addEventListener("click", async () => {
    if (!linkFits()) return toast("This query is too long for a link: copy its text instead.");
    try {
      await copyText(new URL(link(), location.href).href);
      toast("The link is copied. Whoever opens it sees the query, and runs it or not.", { good: true });
    } catch {
      toast("The browser does not copy: take the address above, once the query has run.");
    }
    return undefined;
  });

  // --- running and cancelling --------------------------------------------------------------------------

  const running = (is) => {
    run.disabled = is;
    cancel.hidden = !is;
    form.setAttribute("aria-busy", String(is));
    clearInterval(ticking);
    if (!is) {
      status.textContent = atRest;
      return;
    }
    const began = performance.now();
    const tick = () => { status.textContent = `Running, ${Math.floor((performance.now() - began) / 1000)} s; ${atRest.charAt(0).toLowerCase()}${atRest.slice(1)}`; };
    tick();
    ticking = setInterval(tick, 1000);
  };
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.elt !== form) return;
    remember();
    if (linkFits()) history.replaceState(null, "", link());
    running(true);
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.elt === form) running(false);
  });
  document.addEventListener("htmx:sendAbort", (event) => {
    if (event.detail.elt !== form) return;
    running(false);
    const told = document.createElement("p");
    told.className = "dim";
    told.textContent = "Cancelled: the query was ended.";
    result.replaceChildren(told);
  });
  // the connection closes, and the server ends the query's process with it
  cancel.addEventListener("click", () => window.htmx.trigger(form, "htmx:abort"));
  // htmx takes every way of sending the form: a download is the browser's own
  form.addEventListener("submit", (event) => {
    if (!event.submitter?.hasAttribute("data-download")) return;
    event.stopImmediatePropagation();
    remember();
  }, true);

  // --- where an error is -------------------------------------------------------------------------------

  const markError = () => {
    const problem = result.querySelector(".sql-problem");
    wrongLine = Number(problem?.dataset.line ?? 0);
    numberLines();
  };
  result.addEventListener("click", (event) => {
    if (!event.target.closest("[data-goto-line]")) return;
    const problem = result.querySelector(".sql-problem");
    const before = editor.value.split("\n").slice(0, Number(problem.dataset.line) - 1).join("\n");
    const start = before.length + (before || Number(problem.dataset.line) > 1 ? 1 : 0) + Math.max(0, Number(problem.dataset.column) - 1);
    editor.focus();
    editor.setSelectionRange(start, start);
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target === result) markError();
  });
  markError();
}
