"use strict";

const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Sorting: a button in every heading; rows without a key stay last.

const collator = new Intl.Collator("en", { numeric: true });

function compare(a, b, isNumber) {
  return isNumber ? Number(a) - Number(b) : collator.compare(a, b);
}

function sort(table, heading) {
  const headings = all("thead th", table);
  const isNumber = heading.classList.contains("number");
  const first = isNumber ? "descending" : "ascending";
  const second = isNumber ? "ascending" : "descending";
  const direction = heading.getAttribute("aria-sort") === first ? second : first;
  const sign = direction === "ascending" ? 1 : -1;
  const column = headings.indexOf(heading);
  const rows = all("tbody tr", table).map((row) => [row.children[column].dataset.key, row]);
  rows.sort(([a], [b]) => {
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    return sign * compare(a, b, isNumber);
  });
  for (const each of headings) each.setAttribute("aria-sort", each === heading ? direction : "none");
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

for (const table of all("table[data-name]")) {
  for (const heading of all("thead th", table)) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sort(table, heading));
    heading.append(button);
    heading.setAttribute("aria-sort", "none");
  }
}

// Filters: a row is hidden by what it has a place in, so that floors stay in view until they are cleared away.

const form = document.getElementById("filters");

function isShown(row, asked) {
  if (row.classList.contains("floor") && form.elements.floors && !form.elements.floors.checked) return false;
  return asked.every(([name, value]) => !(name in row.dataset) || row.dataset[name].split(" ").includes(value));
}

function filter() {
  const asked = all("select", form).map((select) => [select.name, select.value]).filter(([, value]) => value !== "");
  let shown = 0;
  let known = 0;
  for (const table of all("table[data-name]")) {
    const rows = all("tbody tr", table);
    for (const row of rows) row.hidden = !isShown(row, asked);
    const left = rows.filter((row) => !row.hidden).length;
    table.closest("section").querySelector(".none").hidden = left > 0 || rows.length === 0;
    shown += left;
    known += rows.length;
  }
  document.getElementById("count").textContent = shown < known ? `${shown} of ${known} rows` : "";
}

form.addEventListener("change", filter);
form.addEventListener("reset", () => setTimeout(filter));
form.addEventListener("submit", (event) => event.preventDefault());
form.hidden = form.elements.length < 3;

// Runs: a link opens the lists it names in front of the page; without this it jumps to the first of them.

const dialog = document.getElementById("dialog");

function copyOf(number) {
  const list = document.getElementById(`runs-${number}`);
  const heading = document.createElement("h3");
  heading.textContent = list.dataset.heading;
  const table = list.querySelector(".scroll").cloneNode(true);
  table.setAttribute("aria-label", `Behind this number: ${list.dataset.heading}`);
  return [heading, table];
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a.runs");
  if (!link) return;
  event.preventDefault();
  document.getElementById("dialog-body").replaceChildren(...link.dataset.runs.split(" ").flatMap(copyOf));
  dialog.showModal();
});

document.getElementById("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
