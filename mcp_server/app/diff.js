// Draws one tool result and asks the host to open its review page. It calls no tool, loads nothing and decides
// nothing. Values of rows are data of strangers: they become text nodes, with whatever acts or hides made visible.
"use strict";
(() => {
  const HOST = window.parent;
  const HOME = document.querySelector('meta[name="shadowdesk-review"]').content;
  const NAMED = { "\n": "LF", "\r": "CR", "\t": "TAB", "\u001b": "ESC", "\u0000": "NUL", "\u0007": "BEL" };
  // The same characters as differ/text.py names: controls, formats, spaces but the plain one, and what draws nothing.
  const HIDING =
    /[\p{C}\p{Zl}\p{Zp}\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000\u27e8\u27e9\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\u{e0100}-\u{e01ef}]/gu;
  const WORDS = { insert: "added", update: "changed", delete: "deleted" };
  const REMARKS = {
    clock: "the clock: set anew at replay", wall: "the clock while it runs: set anew at replay",
    generated: "drawn by the database",
  };
  const WAITS = new Set(["pending", "proposed", "escalated", "approved"]);
  const asked = new Map();
  let ready = false;
  let last = 0;

  const post = (message) => HOST.postMessage({ jsonrpc: "2.0", ...message }, "*");
  function request(method, params, answered) {
    last += 1;
    asked.set(last, answered);
    post({ id: last, method, params });
  }

  // ---- text

  function visible(value) {
    return String(value).replace(HIDING, (found) => {
      const code = found.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
      return `⟨${Object.hasOwn(NAMED, found) ? NAMED[found] : `U+${code}`}⟩`;
    });
  }
  const cell = (value) => (value === null || value === undefined ? "NULL" : value === "" ? "(empty text)" : visible(value));
  const many = (count, noun) => `${Number(count).toLocaleString("en")} ${noun}${Number(count) === 1 ? "" : "s"}`;
  const list = (value) => (Array.isArray(value) ? value : []);
  const key = (parts) => list(parts).map((part) => cell(part[1])).join(", ");

  function node(name, attributes, ...children) {
    const made = document.createElement(name);
    for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
    made.append(...children.filter((child) => child !== null && child !== ""));
    return made;
  }
  const listed = (sentences) => node("ul", {}, ...sentences.map((sentence) => node("li", {}, visible(sentence))));

  // ---- one result

  const changed = (table) => table.inserted + table.updated + table.deleted;
  const by = (table) => (list(table.beyond_origins).length ? ` (${table.beyond_origins.join(", ")})` : "");

  function summary(result, diff) {
    const tables = list(diff.tables).map((table) => {
      const parts = [[table.updated, "changed"], [table.inserted, "added"], [table.deleted, "deleted"]];
      const told = parts.filter(([count]) => count).map(([count, word]) => `${many(count, "row")} ${word}`);
      return `${table.table}: ${told.join(", ")}`;
    });
    const verb = result.state === "applied" ? "changed" : "would change";
    const whose = result.tenant_label === undefined ? "" : ` for tenant ${result.tenant_label}`;
    const rows = result.rows === undefined ? diff.total_rows : result.rows;
    return rows || tables.length ? `${many(rows, "row")} ${verb}${whose}. ${tables.join("; ")}` : "Nothing would change";
  }

  function beyond(result, diff) {
    if (Array.isArray(result.beyond)) return result.beyond;
    const tables = list(diff.tables);
    return [
      ...tables.filter((table) => table.beyond && !table.sink)
        .map((table) => `Beyond your statements: ${many(table.beyond, "row")} of ${table.table}${by(table)}.`),
      ...tables.filter((table) => table.sink)
        .map((table) => `Side effects: ${many(changed(table), "row")} in ${table.table}${by(table)}; counted, their values are not compared.`),
    ];
  }

  function measures(diff) {
    return list(diff.measures).map((measure) => {
      const delta = `${String(measure.delta).startsWith("-") ? "" : "+"}${measure.delta}`;
      const unit = measure.unit ? ` ${measure.unit}` : "";
      const whole = measure.before !== null && measure.after !== null;
      return `${measure.name}: ${whole ? `${measure.before} → ${measure.after} (${delta}${unit})` : `${delta}${unit}`}`;
    });
  }

  function inside(change) {
    const rest = change.more_paths ? [node("li", {}, `and ${many(change.more_paths, "more change")} inside this value`)] : [];
    const items = list(change.paths).map((path) => node("li", {},
      `${visible(list(path.path).join(".") || "whole value")} ${path.kind}`,
      path.kind === "added" ? null : node("del", {}, cell(path.before)),
      path.kind === "removed" ? null : node("ins", {}, cell(path.after))));
    return items.length || rest.length ? node("ul", {}, ...items, ...rest) : null;
  }

  function rowLines(row) {
    const cells = list(row.cells).length ? row.cells : [null];
    const moved = row.rekeyed_to ? `its key becomes ${key(row.rekeyed_to)}`
      : row.rekeyed_from ? `its key was ${key(row.rekeyed_from)}` : "";
    return cells.map((change, at) => node("tr", {},
      at ? null : node("th", { scope: "row", rowspan: cells.length },
        key(row.key) || "(no key)", node("div", { class: "muted" }, WORDS[row.kind] || ""),
        moved && node("div", { class: "muted" }, moved)),
      node("td", {}, change ? visible(change.column) : ""),
      node("td", {}, change && row.kind !== "insert" ? node("del", {}, cell(change.before)) : ""),
      node("td", {},
        change && row.kind !== "delete" ? node("ins", {}, cell(change.after)) : "",
        change && Object.hasOwn(REMARKS, change.kind) ? node("div", { class: "muted" }, REMARKS[change.kind]) : "",
        change ? inside(change) : ""),
      at ? null : node("td", { rowspan: cells.length }, visible(list(row.origins).join("; ")))));
  }

  function tables(diff) {
    const groups = new Map();
    for (const row of list(diff.rows)) groups.set(row.table, [...(groups.get(row.table) || []), row]);
    return [...groups].map(([name, rows]) => {
      const title = `${visible(name)}: ${many(rows.length, "row")} shown`;
      const heads = ["Row", "Column", "Was", "Now", "Came from"].map((head) => node("th", { scope: "col" }, head));
      return node("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title },
        node("table", {}, node("caption", {}, title), node("thead", {}, node("tr", {}, ...heads)),
          node("tbody", {}, ...rows.flatMap(rowLines))));
    });
  }

  // ---- the way to the page

  // Only a page of our own server's reviews, by the address that was written into this file; nothing after its id.
  function reviewLink(given) {
    const ours = typeof given === "string" && given.startsWith(HOME) && /^[\w-]{1,60}$/.test(given.slice(HOME.length));
    return ours ? given : null;
  }

  function way(link) {
    const said = node("p", { role: "status", class: "muted" });
    const button = node("button", { type: "button" }, "Open the review page");
    button.addEventListener("click", () => request("ui/open-link", { url: link }, (answer) => {
      said.textContent = answer.error ? "The host did not open it. Copy the address into your browser." : "";
    }));
    return node("div", { class: "way" },
      node("p", {}, "Nothing here confirms anything. A person reads and decides on the review page."), button, said,
      node("p", { class: "muted" }, link));
  }

  function draw(...children) {
    document.getElementById("shown").replaceChildren(...children.filter((child) => child !== null));
  }

  function refused(answer) {
    const words = list(answer.content).filter((block) => block.type === "text").map((block) => block.text);
    const lines = words.join("\n").split("\n").map(visible).join("\n");
    draw(node("h1", {}, answer.isError ? "This did not work" : "The result, in words"), node("pre", {}, lines));
  }

  function show(answer) {
    const result = answer.structuredContent;
    if (answer.isError || !result || !result.diff) return refused(answer);
    const diff = result.diff;
    const outside = beyond(result, diff);
    const sums = measures(diff);
    const shown = list(diff.rows).length;
    const link = reviewLink(result.review_url);
    const first = Number(diff.page_start) + 1;
    draw(
      node("h1", {}, visible(summary(result, diff))),
      result.state ? node("p", { class: "muted" }, visible(`Proposal ${result.id}: ${result.state}.`)) : null,
      outside.length ? node("div", { class: "beyond" }, listed(outside)) : null,
      sums.length ? listed(sums) : null,
      ...tables(diff),
      diff.total_rows > shown
        ? node("p", { class: "muted" }, shown
          ? `Rows ${first} to ${first + shown - 1} of ${diff.total_rows} are shown here.`
          : `None of the ${many(diff.total_rows, "row")} is shown here.`)
        : null,
      link ? way(link) : result.state && WAITS.has(result.state)
        ? node("p", {}, "The address of this result is not one of this server's review pages: it is not offered.") : null);
    return undefined;
  }

  // ---- messages of the host, and of nobody else

  function themed(context) {
    const theme = context && context.theme;
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  }

  function notified(method, params) {
    if (method === "ui/notifications/host-context-changed") themed(params);
    if (method === "ui/notifications/tool-cancelled") draw(node("h1", {}, "The call was cancelled"));
    if (method !== "ui/notifications/tool-result") return;
    try {
      show(params);
    } catch (error) {
      draw(node("h1", {}, "This result cannot be drawn"), node("p", {}, "Read it in the chat."));
    }
  }

  function answer(message) {
    const known = message.method === "ping" || message.method === "ui/resource-teardown";
    post(known ? { id: message.id, result: {} } : { id: message.id, error: { code: -32601, message: "Not known here" } });
  }

  window.addEventListener("message", (event) => {
    const message = event.data;
    if (event.source !== HOST || HOST === window || !message || message.jsonrpc !== "2.0") return;
    if (typeof message.method === "string") {
      if (message.id !== undefined) answer(message);
      else if (ready) notified(message.method, message.params || {});
    } else if (asked.has(message.id)) {
      const answered = asked.get(message.id);
      asked.delete(message.id);
      answered(message);
    }
  });

  new ResizeObserver(() => {
    const { width, height } = document.documentElement.getBoundingClientRect();
    if (ready) post({ method: "ui/notifications/size-changed", params: { width: Math.ceil(width), height: Math.ceil(height) } });
  }).observe(document.documentElement);

  const about = { name: "shadowdesk-diff", version: "1" };
  const offered = { availableDisplayModes: ["inline"] };
  request("ui/initialize", { appInfo: about, appCapabilities: offered, protocolVersion: "2026-01-26" }, (given) => {
    if (given.error) return;
    themed(given.result && given.result.hostContext);
    ready = true;
    post({ method: "ui/notifications/initialized", params: {} });
  });
})();
