"use strict";
// Sorts, filters, and pages the rows of the samples, which are complete in the page: this script only moves them.
(() => {
  const PAGE = 50;
  const find = (id) => document.getElementById(id);
  const { columns, rows, groups } = JSON.parse(find("data").textContent);
  const [body, form] = [find("rows"), find("controls")];
  const elements = [...body.rows, ...find("rest").content.children];
  const texts = rows.map((row) => columns.map((key, i) => (key === "id" || key === "caption" ? row[i] : "")).join(" ").toLowerCase());
  const members = groups.map((group) => new Set(group));
  let shown = [];
  let page = 0;

  const isPicked = (i) => elements[i].querySelector("input").checked;
  const picked = () => rows.map((_, i) => i).filter(isPicked);

  function compare(a, b) {
    if (a === null || b === null) return (a === null) - (b === null);
    return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
  }

  function filter() {
    const { search, group, measure, from, to, sort, order } = form.elements;
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const [column, key] = [columns.indexOf(measure.value), columns.indexOf(sort.value)];
    const sign = order.value === "ascending" ? 1 : -1;
    const bounded = from.value !== "" || to.value !== "";
    shown = rows.map((_, i) => i).filter((i) => {
      const value = rows[i][column];
      return words.every((word) => texts[i].includes(word))
        && (group.value === "" || members[group.value].has(i))
        && (!bounded || (value !== null && (from.value === "" || value >= +from.value) && (to.value === "" || value <= +to.value)));
    });
    // Samples without a value come last in both orders.
    shown.sort((a, b) => (rows[a][key] === null || rows[b][key] === null ? 1 : sign) * compare(rows[a][key], rows[b][key]) || a - b);
    page = 0;
    for (const head of document.querySelectorAll("[data-sort]")) {
      if (head.dataset.sort === sort.value) head.setAttribute("aria-sort", order.value);
      else head.removeAttribute("aria-sort");
    }
    draw();
  }

  function draw() {
    body.replaceChildren(...shown.slice(page * PAGE, (page + 1) * PAGE).map((i) => elements[i]));
    const pages = Math.max(1, Math.ceil(shown.length / PAGE));
    find("page").textContent = `Page ${page + 1} of ${pages}`;
    find("pages").hidden = pages === 1;
    find("previous").disabled = page === 0;
    find("next").disabled = page === pages - 1;
    report();
  }

  function report() {
    const count = picked().length;
    find("status").textContent = `${shown.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} samples, ${count.toLocaleString("en")} selected`;
    find("pick").textContent = shown.length && shown.every(isPicked) ? "Clear selection" : "Select all";
  }

  function turn(step) {
    page += step;
    draw();
    find("samples").scrollIntoView();
  }

  // The selected samples, or, if there are none, those shown.
  function save(name, line) {
    const chosen = picked();
    const lines = (chosen.length ? chosen : shown).map((i) => line(rows[i]) + "\n");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(lines, { type: "text/plain" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  for (const head of document.querySelectorAll("[data-sort]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => {
      const { sort, order } = form.elements;
      order.value = sort.value === head.dataset.sort && order.value === "ascending" ? "descending" : "ascending";
      sort.value = head.dataset.sort;
      filter();
    });
    head.replaceChildren(button);
  }
  for (const button of document.querySelectorAll("[data-group]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      form.reset();
      form.elements.group.value = button.dataset.group;
      filter();
      find("samples").scrollIntoView();
      form.elements.group.focus({ preventScroll: true });
    });
  }
  for (const type of ["input", "change"]) form.addEventListener(type, filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  body.addEventListener("change", report);
  find("pick").addEventListener("click", () => {
    const value = !shown.every(isPicked);
    for (const i of shown) elements[i].querySelector("input").checked = value;
    report();
  });
  find("previous").addEventListener("click", () => turn(-1));
  find("next").addEventListener("click", () => turn(1));
  find("ids").addEventListener("click", () => save("ids.txt", (row) => row[columns.indexOf("id")]));
  find("lines").addEventListener("click", () => save("samples.jsonl", (row) => JSON.stringify(Object.fromEntries(columns.map((key, i) => [key, row[i]])))));
  form.hidden = find("actions").hidden = false;
  filter();
})();
