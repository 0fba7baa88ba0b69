"use strict";

// Tables are sorted by a click on a heading; cells without a figure stay last.
const figure = (cell) => {
  const text = (cell?.dataset.value ?? cell?.textContent ?? "").trim();
  const number = parseFloat(text.replace("−", "-").replace(/^[▲▼±\s]+/, "").replaceAll(",", ""));
  return { text, number, empty: text === "" || text === "–" };
};

const sortBy = (table, column, heading) => {
  const ascending = heading.getAttribute("aria-sort") === "descending";
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => ({ row, key: figure(row.cells[column]) }));
  const numeric = rows.every(({ key }) => key.empty || !Number.isNaN(key.number));
  rows.sort(({ key: a }, { key: b }) => {
    if (a.empty || b.empty) return a.empty - b.empty;
    const order = numeric ? a.number - b.number : b.text.localeCompare(a.text);
    return ascending ? order : -order;
  });
  table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  body.append(...rows.map(({ row }) => row));
};

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    if (heading.classList.contains("plot") || heading.textContent.trim() === "") return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sortBy(table, column, heading));
  });
}

// Examples are shown if one label satisfies all the choices.
for (const form of document.querySelectorAll("form.filters")) {
  const examples = [...document.querySelectorAll(".gallery article")];
  const apply = () => {
    const wanted = Object.fromEntries(new FormData(form));
    const free = !wanted.action && !wanted.outcome;
    let shown = 0;
    for (const example of examples) {
      let matches = false;
      for (const label of example.querySelectorAll("tr[data-action]")) {
        const fits =
          (!wanted.action || label.dataset.action === wanted.action) &&
          (!wanted.outcome || label.dataset.outcome === wanted.outcome);
        label.classList.toggle("match", fits && !free);
        matches ||= fits;
      }
      example.hidden = !((free || matches) && (!wanted.domain || example.dataset.domain === wanted.domain));
      shown += !example.hidden;
    }
    form.querySelector("output").textContent = `${shown} of ${examples.length} keyframes`;
  };
  form.addEventListener("change", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  form.hidden = false;
  apply();
}
