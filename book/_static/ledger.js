// A filter above the table of claims on the ledger page: free text, chapter, verdict. Without the script the table is whole.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const table = document.querySelector("table.ledger");
  if (!table) return;
  const rows = [...table.tBodies[0].rows];
  const text = (row, column) => row.cells[column].textContent.trim();
  const bar = document.createElement("form");
  bar.className = "ledger-filter";
  bar.setAttribute("role", "search");
  bar.setAttribute("aria-label", "Filter the claims");
  bar.addEventListener("submit", (event) => event.preventDefault());

  const field = (label, control) => {
    const box = document.createElement("label");
    box.append(label, control);
    bar.append(box);
    control.addEventListener("input", filter);
    return control;
  };
  const choice = (column) => {
    const select = document.createElement("select");
    const values = [...new Set(rows.map((row) => text(row, column)))];
    select.append(new Option("all", ""), ...values.map((value) => new Option(value, value)));
    return select;
  };
  const last = table.tHead.rows[0].cells.length - 1;
  const words = field("Words ", Object.assign(document.createElement("input"), { type: "search" }));
  const chapter = field("Chapter ", choice(0));
  const verdict = field("Verdict ", choice(last));
  const count = document.createElement("p");
  count.setAttribute("aria-live", "polite");
  bar.append(count);

  function filter() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const all = row.textContent.toLowerCase();
      row.hidden = !(wanted.every((word) => all.includes(word))
        && (!chapter.value || text(row, 0) === chapter.value)
        && (!verdict.value || text(row, last) === verdict.value));
    }
    const shown = rows.filter((row) => !row.hidden).length;
    count.textContent = `${shown} of ${rows.length} claims`;
  }
  table.parentElement.before(bar);
  filter();
});
