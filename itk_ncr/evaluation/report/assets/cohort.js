"use strict";
// The table of a cohort: sorted by any column, filtered by verdict and by name, rated and exported.

const RATINGS = ["accept", "unsure", "reject"];

// Ratings are kept by the browser where it lets a page keep something.
function ratings(rows) {
  const key = `itk-ncr ratings of ${location.pathname}`;
  let kept = {};
  try { kept = JSON.parse(localStorage.getItem(key)) ?? {}; } catch { kept = {}; }
  const show = (row) => { row.querySelector(".rating").dataset.value = RATINGS.indexOf(kept[row.dataset.name]); };
  for (const row of rows) {
    const select = one("select", row), { name } = row.dataset;
    if (RATINGS.includes(kept[name])) select.value = kept[name];
    show(row);
    select.addEventListener("change", () => {
      kept[name] = select.value;
      show(row);
      try { localStorage.setItem(key, JSON.stringify(kept)); } catch { /* kept until the page is closed */ }
    });
  }
  // A spreadsheet would execute what begins so.
  const cell = (text) => `"${(/^[=+\-@\t\r＝＋－＠]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
  one("#export").addEventListener("click", () => {
    const lines = rows.map((row) => [row.dataset.name, row.dataset.is, one("select", row).value].map(cell).join(","));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([["pair,verdict,rating", ...lines, ""].join("\r\n")], { type: "text/csv" }));
    link.download = "ratings.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}

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
  const words = new Map(rows.map((row) => [row, [...row.cells].filter((c) => !c.matches(".rating")).map((c) => c.textContent).join(" ").toLowerCase()]));
  let grade = "all";
  const filter = () => {
    const text = search.value.trim().toLowerCase();
    let count = 0;
    for (const row of rows) {
      const fits = (grade === "all" || row.dataset.is === grade) && words.get(row).includes(text);
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
  ratings(rows);
}

cohort();
