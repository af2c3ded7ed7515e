"use strict";
(() => {
  const STEP = 200;
  const THEMES = ["auto", "light", "dark"];
  const find = (selector, within = document) => within.querySelector(selector);

  // -- light and dark: kept where the browser lets a file keep something -----------------------------------

  let theme = "auto";
  try { theme = localStorage.getItem("report-theme") || "auto"; } catch { /* nothing is kept, the page goes on */ }

  function setTheme(next) {
    theme = THEMES.includes(next) ? next : "auto";
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    try { localStorage.setItem("report-theme", theme); } catch { /* as above */ }
  }
  setTheme(theme); // before anything is painted

  function offerThemes() {
    const button = find("#theme");
    const say = () => { button.textContent = `Theme: ${theme}`; };
    button.addEventListener("click", () => { setTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]); say(); });
    button.hidden = false;
    say();
  }

  // -- cells: null is missing; "NaN", "inf" and "-inf" stand for numbers that JSON does not have -----------

  const NOT_FINITE = { NaN: NaN, inf: Infinity, "-inf": -Infinity };
  const thousands = (digits) => digits.replace(/\B(?=(\d{3})+$)/g, ",");
  const numberOf = (cell) => (typeof cell === "number" ? cell : NOT_FINITE[cell] ?? NaN);
  const isWhole = (cell) => Number.isSafeInteger(cell);

  function shown(cell, kind) { // as `shown` in grid.py
    if (cell === null) return "\u2013";
    if (typeof cell === "boolean") return cell ? "yes" : "no";
    if (typeof cell === "string") return cell;
    if (cell === 0 || (kind !== "number" && isWhole(cell))) return thousands(String(cell));
    const size = Math.abs(Number(cell.toPrecision(4)));
    if (size >= 1e9 || size < 1e-4) return cell.toExponential(3);
    return size >= 1000 ? thousands(cell.toFixed(0)) : cell.toPrecision(4);
  }

  function field(cell) { // of CSV, at full precision
    const text = cell === null ? "" : String(cell);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  const collator = new Intl.Collator("en", { numeric: true });

  function comparer(cells, kind, sign) { // what is missing stays last in either order, and ties keep theirs
    const isMissing = (cell) => cell === null || cell === "NaN";
    const order = kind === "text"
      ? (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : collator.compare(String(a), String(b)))
      : (a, b) => (a === b ? 0 : numberOf(a) < numberOf(b) ? -1 : 1);
    return (i, j) => {
      const [a, b] = [cells[i], cells[j]];
      if (isMissing(a) || isMissing(b)) return isMissing(a) - isMissing(b) || i - j;
      return sign * order(a, b) || i - j;
    };
  }

  // -- tables: sorted, searched and copied from the JSON beside them ---------------------------------------

  function startGrid(box) {
    const { columns, kinds, cells } = JSON.parse(find('script[type="application/json"]', box).textContent);
    const total = cells.length ? cells[0].length : 0;
    const top = Number(box.dataset.top);
    const heads = [...box.querySelectorAll("thead th")];
    const [search, status] = [find("input", box), find("[role=status]", box)];
    const [more, all, fewer] = [".more", ".all", ".fewer"].map((one) => find(one, box));
    const state = { sort: -1, sign: 1, words: [], limit: top };
    let texts = null; // of each row, for the search

    function rowsInOrder() {
      let rows = Array.from({ length: total }, (_, i) => i);
      if (state.words.length) {
        texts ??= rows.map((i) => cells.map((column, j) => shown(column[i], kinds[j])).join("\n").toLowerCase());
        rows = rows.filter((i) => state.words.every((word) => texts[i].includes(word)));
      }
      return state.sort < 0 ? rows : rows.sort(comparer(cells[state.sort], kinds[state.sort], state.sign));
    }

    function rowElement(i) {
      const row = document.createElement("tr");
      cells.forEach((column, j) => {
        const isHead = j === 0 && kinds[j] === "text";
        const cell = document.createElement(isHead ? "th" : "td");
        if (isHead) cell.scope = "row";
        cell.className = kinds[j];
        cell.textContent = shown(column[i], kinds[j]);
        row.append(cell);
      });
      return row;
    }

    function draw() {
      const rows = rowsInOrder();
      const here = rows.slice(0, state.limit);
      find("tbody", box).replaceChildren(...here.map(rowElement));
      box.classList.toggle("tall", here.length > 30);
      if (!more) return;
      const [some, found, every] = [here.length, rows.length, total].map((n) => thousands(String(n)));
      const cut = here.length < rows.length ? `, ${some} shown` : "";
      status.textContent = state.words.length ? `${found} of ${every} rows match${cut}` : `${some} of ${every} rows`;
      more.textContent = `Show ${Math.min(STEP, rows.length - here.length)} more`;
      all.textContent = `Show all ${found}`;
      more.hidden = here.length === rows.length;
      all.hidden = rows.length - here.length <= STEP;
      fewer.hidden = here.length <= top;
    }

    function sortBy(j) { // ascending, descending, as it was
      if (state.sort !== j) Object.assign(state, { sort: j, sign: 1 });
      else if (state.sign > 0) state.sign = -1;
      else state.sort = -1;
      heads.forEach((head, k) => {
        if (k === state.sort) head.setAttribute("aria-sort", state.sign > 0 ? "ascending" : "descending");
        else head.removeAttribute("aria-sort");
      });
      draw();
    }

    heads.forEach((head, j) => {
      const label = find(".label", head);
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...label.childNodes);
      button.addEventListener("click", () => sortBy(j));
      label.append(button);
    });
    search?.addEventListener("input", () => {
      state.words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      state.limit = state.words.length ? STEP : top;
      draw();
    });
    more?.addEventListener("click", () => { state.limit = state.limit < STEP ? STEP : state.limit + STEP; draw(); });
    all?.addEventListener("click", () => { state.limit = Infinity; draw(); });
    fewer?.addEventListener("click", () => { state.limit = top; draw(); });
    const copy = find(".copy", box);
    copy.addEventListener("click", async () => {
      const lines = [columns, ...Array.from({ length: total }, (_, i) => cells.map((column) => column[i]))];
      const done = await copyText(lines.map((line) => line.map(field).join(",")).join("\n") + "\n");
      copy.textContent = done ? `Copied ${thousands(String(total))} rows` : "Could not copy";
      setTimeout(() => { copy.textContent = "Copy as CSV"; }, 2000);
    });
    copy.hidden = false;
    if (!search) return;
    find(".controls", box).hidden = false;
    draw();
  }

  async function copyText(text) {
    try { await navigator.clipboard.writeText(text); return true; } catch { /* not every browser lets a file */ }
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "unseen";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }

  // -- what the head of a column means, on hover and focus -------------------------------------------------

  function startTips() {
    const tip = document.createElement("div");
    Object.assign(tip, { id: "tip", hidden: true, role: "tooltip" });
    document.body.append(tip);
    const describe = (head, id) => {
      for (const one of head.querySelectorAll("button, a")) one.setAttribute("aria-describedby", id);
    };
    const hide = () => { tip.hidden = true; };
    const show = (head, meaning) => {
      tip.textContent = meaning;
      tip.hidden = false;
      describe(head, "tip");
      const [at, size] = [head.getBoundingClientRect(), tip.getBoundingClientRect()];
      const [left, right] = [Math.max(12, at.left), document.documentElement.clientWidth - size.width - 12];
      const below = at.bottom + 6 + size.height < innerHeight;
      tip.style.left = `${Math.max(12, Math.min(left, right))}px`;
      tip.style.top = `${below ? at.bottom + 6 : Math.max(6, at.top - size.height - 6)}px`;
    };
    for (const head of document.querySelectorAll("thead th[title]")) {
      const meaning = head.title;
      head.removeAttribute("title");
      const leave = () => { hide(); describe(head, ""); };
      for (const event of ["mouseenter", "focusin"]) head.addEventListener(event, () => show(head, meaning));
      for (const event of ["mouseleave", "focusout"]) head.addEventListener(event, leave);
    }
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
    addEventListener("scroll", hide, { capture: true, passive: true });
  }

  document.addEventListener("DOMContentLoaded", () => {
    offerThemes();
    document.querySelectorAll(".grid").forEach(startGrid);
    startTips();
  });
})();
