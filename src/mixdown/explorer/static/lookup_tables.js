// Uploading a lookup table: the file goes out as it is, with its progress, and what is wrong with rows comes back.
// Texts become text nodes.

const form = document.getElementById("upload");
const state = document.getElementById("upload-state");
const input = document.getElementById("file");
const button = form.querySelector("button");
const token = document.querySelector('meta[name="csrf-token"]').content;

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function failedTable(failed) {
  const table = element("table", undefined, "table failed");
  const head = table.createTHead().insertRow();
  for (const title of ["Row", "What is wrong"]) {
    const cell = element("th", title);
    cell.scope = "col";
    head.append(cell);
  }
  const body = table.createTBody();
  for (const one of failed) {
    const row = body.insertRow();
    row.insertCell().textContent = one.index === 0 ? "0 (the header)" : String(one.index);
    row.insertCell().textContent = String(one.message);
  }
  return table;
}

function showProblem(text, failed) {
  const box = element("div", undefined, "problem");
  box.setAttribute("role", "alert");
  const words = element("p", text);
  words.dir = "auto";
  box.append(words);
  if (failed?.length) box.append(failedTable(failed));
  state.replaceChildren(box);
  button.disabled = false;
}

function answered(request) {
  let answer = null;
  try {
    answer = JSON.parse(request.responseText);
  } catch { /* told below */ }
  if (request.status === 200) {
    state.replaceChildren(element("p", "The rows are in place.", "notice"));
    location.reload();
  } else if (request.status === 401 && !answer?.error) {
    showProblem("You are signed out. Reload this page, and sign in again.");
  } else if (answer?.failed_records?.length) {
    showProblem("Nothing was changed: these rows are wrong (ten are named at most).", answer.failed_records);
  } else {
    showProblem(answer?.error ?? `The server answered ${request.status}. Nothing was changed.`);
  }
}

function upload(file) {
  button.disabled = true;
  const bar = element("progress");
  bar.max = 1;
  bar.value = 0;
  bar.setAttribute("aria-label", "Upload");
  const words = element("p", `Sending ${file.name}`, "hint");
  words.dir = "auto";
  state.replaceChildren(bar, words);
  const request = new XMLHttpRequest();
  request.open("POST", form.dataset.url);
  request.setRequestHeader("X-CSRF-Token", token);
  request.setRequestHeader("Content-Type", "text/csv");
  if (/\.gz$/i.test(file.name)) request.setRequestHeader("Content-Encoding", "gzip");
  request.upload.addEventListener("progress", (event) => {
    if (event.lengthComputable) bar.value = event.loaded / event.total;
  });
  request.upload.addEventListener("load", () => {
    bar.removeAttribute("value");
    words.textContent = "Checking the rows and writing them…";
  });
  request.addEventListener("load", () => answered(request));
  request.addEventListener("error", () => showProblem("The connection was lost. Nothing was changed; try again."));
  request.send(file);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (input.files.length) upload(input.files[0]);
});
for (const type of ["dragenter", "dragover"]) {
  form.addEventListener(type, (event) => {
    event.preventDefault();
    form.classList.add("over");
  });
}
for (const type of ["dragleave", "drop"]) form.addEventListener(type, () => form.classList.remove("over"));
form.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files.length) {
    input.files = event.dataTransfer.files;
    upload(input.files[0]);
  }
});
