// Before the first paint: the theme that was chosen, and the word that scripts run.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  let chosen = null;
  try { chosen = localStorage.getItem("mixdown-theme"); } catch { /* storage is off: the system decides */ }
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
})();
