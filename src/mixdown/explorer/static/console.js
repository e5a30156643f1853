// Settings and accounts where scripts run: buttons of a typed confirmation wait for the name.

function watch(field) {
  const buttons = [...field.form.querySelectorAll("button[type=submit]")];
  const look = () => {
    const ready = field.value.trim() === field.dataset.confirm;
    for (const button of buttons) button.disabled = !ready;
  };
  field.addEventListener("input", look);
  look();
}

for (const field of document.querySelectorAll("input[data-confirm]")) watch(field);

// an owner is in every project: the choice of projects is not asked then
const role = document.querySelector("select[name=role]");
const projects = document.querySelector("[data-projects]");
if (role && projects) {
  const look = () => { projects.hidden = role.value === "owner"; };
  role.addEventListener("change", look);
  look();
}
