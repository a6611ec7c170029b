"use strict";
// The table of a cohort: sorted by any column, filtered by verdict and by name.

function cohort() {
  const table = one("#pairs");
  const heads = table.tHead.rows[0].cells.length, body = table.tBodies[0], rows = [...body.rows];
  const worth = (row, column) => {
    const cell = row.cells[column];
    if (!cell || cell.colSpan > 1) return column === heads - 1 ? row.cells[row.cells.length - 1].textContent.trim().toLowerCase() : NaN;
    return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim().toLowerCase();
  };
  all("thead button", table).forEach((button) => {
    const head = button.closest("th");
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      all("th", table).forEach((th) => th.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sign = down ? -1 : 1;
      rows.sort((one, two) => {
        const a = worth(one, head.cellIndex), b = worth(two, head.cellIndex);
        if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b); // without a number: last
        return sign * (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
      });
      body.append(...rows);
    });
  });
  const search = one("#search"), buttons = all("[data-grade]");
  let grade = "all";
  const filter = () => {
    const text = search.value.trim().toLowerCase();
    let count = 0;
    for (const row of rows) {
      const fits = (grade === "all" || row.dataset.is === grade) && row.textContent.toLowerCase().includes(text);
      row.hidden = !fits;
      count += fits;
    }
    one("#count").textContent = `${count} of ${rows.length} shown`;
  };
  buttons.forEach((button) => button.addEventListener("click", () => {
    grade = button.dataset.grade;
    buttons.forEach((b) => b.setAttribute("aria-pressed", String(b === button)));
    filter();
  }));
  search.addEventListener("input", filter);
  filter();
}

cohort();
