"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const nodes = new Map(data.nodes.map((node) => [node.id, node]));
  const main = document.getElementById("main");
  const tree = document.getElementById("tree");
  const kinds = ["model", "snapshot", "seed", "source", "exposure"];
  const plural = { model: "Models", snapshot: "Snapshots", seed: "Seeds", source: "Sources", exposure: "Exposures" };

  // Everything goes through text nodes: nothing that a project says can become markup.
  const el = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else element.setAttribute(key, value === true ? "" : value);
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return element;
  };
  const svg = (tag, attributes = {}, ...children) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const href = (id) => "#/node/" + encodeURIComponent(id);
  const link = (id) => el("a", { href: href(id) }, nodes.get(id)?.label ?? id);
  const count = (number) => Number(number).toLocaleString("en");
  const bytes = (number) => {
    const units = ["B", "kB", "MB", "GB", "TB"];
    let unit = 0;
    while (number >= 1000 && unit < units.length - 1) { number /= 1000; unit += 1; }
    return `${number.toFixed(number < 10 && unit ? 1 : 0)} ${units[unit]}`;
  };
  // Descriptions are Markdown in dbt; paragraphs and `code` are what is kept of it.
  const prose = (text) => (text || "").split(/\n\s*\n/).filter((part) => part.trim()).map((part) =>
    el("p", {}, part.split(/(`[^`]+`)/).map((piece) =>
      /^`[^`]+`$/.test(piece) ? el("code", {}, piece.slice(1, -1)) : piece)));
  const inline = (text) => (text || "").split(/(`[^`]+`)/).map((piece) =>
    /^`[^`]+`$/.test(piece) ? el("code", {}, piece.slice(1, -1)) : piece);
  const verdict = (word) => word ? el("span", { class: `verdict ${word}` }, word) : el("span", { class: "muted" }, "not run");
  const heading = (columns) => el("thead", {}, el("tr", {}, columns.map((name) => el("th", { scope: "col" }, name))));
  const table = (columns, rows) => el("div", { class: "wide" }, el("table", {}, heading(columns), el("tbody", {}, rows)));

  // --- the tree on the left
  const branch = (paths) => {
    const root = { folders: new Map(), items: [] };
    for (const node of paths) {
      let at = root;
      for (const folder of node.folders) {
        if (!at.folders.has(folder)) at.folders.set(folder, { folders: new Map(), items: [] });
        at = at.folders.get(folder);
      }
      at.items.push(node);
    }
    const list = (at) => el("ul", {},
      [...at.folders].sort().map(([name, inner]) => el("li", {}, el("details", { open: true }, el("summary", {}, name), list(inner)))),
      at.items.map((node) => el("li", {}, el("a", { href: href(node.id), "data-id": node.id }, node.short))));
    return list(root);
  };
  for (const kind of kinds) {
    const own = data.nodes.filter((node) => node.kind === kind);
    if (own.length) tree.append(el("h2", {}, `${plural[kind]} (${own.length})`), branch(own));
  }

  // --- lineage: layers by the longest way from the left, crossings reduced by sweeps of means
  const layout = (ids) => {
    const inside = new Set(ids);
    const parents = (id) => nodes.get(id).parents.filter((parent) => inside.has(parent));
    const children = (id) => nodes.get(id).children.filter((child) => inside.has(child));
    const depth = new Map();
    const order = data.order.filter((id) => inside.has(id));
    for (const id of order) depth.set(id, Math.max(-1, ...parents(id).map((parent) => depth.get(parent))) + 1);
    // A node without parents stands just left of its first reader, not at the far left.
    for (const id of [...order].reverse()) {
      const readers = children(id).map((child) => depth.get(child));
      if (!parents(id).length && readers.length) depth.set(id, Math.max(0, Math.min(...readers) - 1));
    }
    const layers = [];
    for (const id of order) (layers[depth.get(id)] ??= []).push(id);
    const columns = layers.map((layer) => layer ?? []);
    const place = new Map();
    const settle = () => columns.forEach((layer) => layer.forEach((id, index) => place.set(id, index - layer.length / 2)));
    settle();
    for (let sweep = 0; sweep < 8; sweep += 1) {
      const forward = sweep % 2 === 0;
      for (const layer of forward ? columns : [...columns].reverse()) {
        const mean = (id) => {
          const near = (forward ? parents(id) : children(id)).map((other) => place.get(other));
          return near.length ? near.reduce((sum, value) => sum + value, 0) / near.length : place.get(id);
        };
        const means = new Map(layer.map((id) => [id, mean(id)]));
        layer.sort((one, two) => means.get(one) - means.get(two));
        layer.forEach((id, index) => place.set(id, index - layer.length / 2));
      }
    }
    const width = 190, height = 40, gapX = 70, gapY = 16;
    const tallest = Math.max(1, ...columns.map((layer) => layer.length));
    const at = new Map();
    columns.forEach((layer, column) => layer.forEach((id, row) => at.set(id, {
      x: column * (width + gapX),
      y: (row + (tallest - layer.length) / 2) * (height + gapY),
    })));
    return { at, width, height, parents, size: { x: columns.length * (width + gapX) - gapX, y: tallest * (height + gapY) - gapY } };
  };
  const reach = (id, key, seen = new Set()) => {
    for (const next of nodes.get(id)?.[key] ?? []) if (nodes.has(next) && !seen.has(next)) { seen.add(next); reach(next, key, seen); }
    return seen;
  };
  const clip = (text, length) => text.length > length ? text.slice(0, length - 1) + "…" : text;

  const graph = (ids, self, tall) => {
    const { at, width, height, parents, size } = layout(ids);
    const scene = svg("g");
    const edges = [];
    for (const id of ids) for (const parent of parents(id)) {
      const from = at.get(parent), to = at.get(id);
      const x1 = from.x + width, y1 = from.y + height / 2, x2 = to.x, y2 = to.y + height / 2;
      const bend = Math.max(30, (x2 - x1) / 2);
      const path = svg("path", { class: "edge", d: `M${x1},${y1}C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`, "marker-end": "url(#arrow)" });
      edges.push({ parent, id, path });
      scene.append(path);
    }
    const boxes = new Map();
    const light = (id) => {
      const lit = id ? new Set([id, ...reach(id, "parents"), ...reach(id, "children")]) : null;
      for (const [other, box] of boxes) box.classList.toggle("dim", Boolean(lit) && !lit.has(other));
      for (const edge of edges) {
        const on = Boolean(lit) && lit.has(edge.parent) && lit.has(edge.id);
        edge.path.classList.toggle("lit", on);
        edge.path.classList.toggle("dim", Boolean(lit) && !on);
      }
    };
    for (const id of ids) {
      const node = nodes.get(id), { x, y } = at.get(id);
      const open = () => { location.hash = href(id); };
      const box = svg("g", {
        class: `node ${node.kind}${id === self ? " self" : ""}`, transform: `translate(${x},${y})`, tabindex: "0", role: "link",
        "data-id": id, "aria-label": `${node.kind} ${node.label}`,
      }, svg("title", {}, `${node.label}\n${node.summary || ""}`), svg("rect", { width, height }));
      const name = svg("text", { x: 10, y: 18 }); name.textContent = clip(node.short, 27);
      const what = svg("text", { class: "what", x: 10, y: 32 });
      what.textContent = [node.materialized || node.kind, node.rows === null ? "" : `${count(node.rows)} rows`].filter(Boolean).join(", ");
      box.append(name, what);
      let pressed = null;
      box.addEventListener("pointerdown", (event) => { pressed = [event.clientX, event.clientY]; });
      box.addEventListener("click", (event) => {
        if (!pressed || Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]) < 5) open();
      });
      box.addEventListener("keydown", (event) => { if (event.key === "Enter") open(); });
      box.addEventListener("pointerenter", () => light(id));
      box.addEventListener("pointerleave", () => light(null));
      box.addEventListener("focus", () => light(id));
      box.addEventListener("blur", () => light(null));
      boxes.set(id, box);
      scene.append(box);
    }
    const arrow = svg("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
      svg("path", { d: "M0,0L8,4L0,8z", fill: "var(--soft)" }));
    const canvas = svg("svg", { role: "group", "aria-label": `Lineage graph of ${ids.length} nodes` }, svg("defs", {}, arrow), scene);
    const view = { x: 0, y: 0, scale: 1 };
    const show = () => scene.setAttribute("transform", `translate(${view.x},${view.y}) scale(${view.scale})`);
    const zoom = (factor, x, y) => {
      const scale = Math.min(3, Math.max(0.05, view.scale * factor));
      view.x = x - (x - view.x) * scale / view.scale;
      view.y = y - (y - view.y) * scale / view.scale;
      view.scale = scale;
      show();
    };
    const fit = () => {
      const frame = canvas.getBoundingClientRect();
      if (!frame.width) return;
      view.scale = Math.min(1.2, (frame.width - 40) / size.x, (frame.height - 40) / size.y);
      view.x = (frame.width - size.x * view.scale) / 2;
      view.y = (frame.height - size.y * view.scale) / 2;
      show();
    };
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const frame = canvas.getBoundingClientRect();
      zoom(Math.exp(-event.deltaY / 500), event.clientX - frame.left, event.clientY - frame.top);
    }, { passive: false });
    let drag = null;
    canvas.addEventListener("pointerdown", (event) => { drag = { x: event.clientX - view.x, y: event.clientY - view.y }; });
    canvas.addEventListener("pointermove", (event) => {
      if (!drag) return;
      canvas.classList.add("dragging");
      view.x = event.clientX - drag.x; view.y = event.clientY - drag.y;
      show();
    });
    for (const end of ["pointerup", "pointerleave"]) canvas.addEventListener(end, () => { drag = null; canvas.classList.remove("dragging"); });
    const middle = (factor) => () => { const frame = canvas.getBoundingClientRect(); zoom(factor, frame.width / 2, frame.height / 2); };
    const tools = el("div", { class: "tools" },
      el("button", { type: "button", "aria-label": "Zoom in", onclick: middle(1.3) }, "+"),
      el("button", { type: "button", "aria-label": "Zoom out", onclick: middle(1 / 1.3) }, "−"),
      el("button", { type: "button", onclick: fit }, "Fit"));
    const frame = el("div", { class: tall ? "graph tall" : "graph" }, canvas, tools);
    requestAnimationFrame(fit);
    return frame;
  };

  // --- pages
  const facts = (pairs) => el("ul", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false)
    .map(([name, value]) => el("li", {}, el("b", {}, name), value)));
  const title = (text, kind) => el("h2", {}, text, kind ? el("span", { class: `kind ${kind}` }, kind) : null);

  const overview = () => {
    const tests = data.nodes.flatMap((node) => node.tests);
    const failing = tests.filter((test) => test.status === "fail" || test.status === "error").length;
    const rows = data.nodes.filter((node) => ["model", "snapshot", "seed"].includes(node.kind)).map((node) => el("tr", {},
      el("td", {}, link(node.id)), el("td", {}, node.materialized || node.kind), el("td", {}, node.rows === null ? "" : count(node.rows)),
      el("td", {}, verdict(node.status)), el("td", {}, inline(node.summary))));
    return [title(data.project), facts([["generated", data.generated_at],
      ...kinds.map((kind) => [plural[kind], count(data.nodes.filter((node) => node.kind === kind).length)]),
      ["tests", count(tests.length)], ["failing", failing ? el("span", { class: "verdict fail" }, count(failing)) : "0"]]),
      el("h3", {}, "Lineage"), graph(data.nodes.map((node) => node.id), null, false),
      el("h3", {}, "Models and seeds"), table(["name", "kind", "rows", "last run", "description"], rows)];
  };

  const lineage = () => {
    const holder = el("div");
    const state = { kinds: new Set(kinds), tag: "" };
    const tags = [...new Set(data.nodes.flatMap((node) => node.tags))].sort();
    const draw = () => {
      const ids = data.nodes.filter((node) => state.kinds.has(node.kind) && (!state.tag || node.tags.includes(state.tag))).map((node) => node.id);
      holder.replaceChildren(graph(ids, null, true));
    };
    const controls = el("div", { class: "controls" },
      kinds.filter((kind) => data.nodes.some((node) => node.kind === kind)).map((kind) => el("label", {},
        el("input", { type: "checkbox", checked: true, onchange: (event) => { event.target.checked ? state.kinds.add(kind) : state.kinds.delete(kind); draw(); } }), ` ${plural[kind]}`)),
      tags.length ? el("label", {}, "Tag ", el("select", { onchange: (event) => { state.tag = event.target.value; draw(); } },
        el("option", { value: "" }, "all"), tags.map((tag) => el("option", { value: tag }, tag)))) : null,
      el("span", { class: "muted" }, "drag to move, wheel to zoom, click to open"));
    draw();
    return [title("Lineage"), controls, holder];
  };

  const freshness = () => [title("Freshness of sources"), table(["source", "verdict", "newest row (UTC)", "warn after", "error after", "rows", "description"],
    data.nodes.filter((node) => node.kind === "source").map((node) => el("tr", {}, el("td", {}, link(node.id)),
      el("td", {}, node.freshness?.status ? verdict(node.freshness.status) : el("span", { class: "muted" }, "not looked at")),
      el("td", {}, node.freshness?.max_loaded_at ?? ""), el("td", {}, node.freshness?.warn_after ?? ""), el("td", {}, node.freshness?.error_after ?? ""),
      el("td", {}, node.rows === null ? "" : count(node.rows)), el("td", {}, inline(node.summary)))))];

  const macros = () => [title("Macros"), ...(data.macros.length ? data.macros.flatMap((block) => [
    el("h3", {}, block.name), el("p", { class: "muted" }, block.path), ...prose(block.description), el("pre", {}, el("code", {}, block.sql))])
    : [el("p", { class: "muted" }, "The project brings no macros of its own.")])];

  const origins = (column) => (column.from ?? []).map((origin, index) => {
    const [id, name] = origin;
    return [index ? ", " : "", nodes.has(id) ? el("a", { href: href(id) }, `${nodes.get(id).short}.${name}`) : name];
  });

  const page = (node) => {
    const parts = [title(node.label, node.kind), ...prose(node.description), facts([
      ["relation", node.relation ? el("code", {}, node.relation) : null], ["kept as", node.materialized],
      ["rows", node.rows === null ? null : count(node.rows)], ["size", node.bytes === null ? null : bytes(node.bytes)],
      ["Delta version", node.version === null ? null : String(node.version)], ["tags", node.tags.join(", ")],
      ["group", node.group], ["access", node.access], ["owner", node.owner], ["type", node.exposure_type],
      ["last run", node.status ? verdict(node.status) : null], ["file", el("code", {}, node.path)]])];
    if (node.url && /^https?:/.test(node.url)) parts.push(el("p", {}, el("a", { href: node.url, rel: "noreferrer" }, node.url)));
    const around = [...reach(node.id, "parents"), node.id, ...reach(node.id, "children")];
    parts.push(el("h3", {}, "Lineage"), graph(around, node.id, false));
    const names = (ids) => ids.length ? ids.flatMap((id, index) => [index ? ", " : "", link(id)]) : "nothing";
    parts.push(facts([["reads", el("span", {}, names(node.parents))], ["read by", el("span", {}, names(node.children))]]));
    if (node.columns.length) {
      const traced = node.columns.some((column) => column.from?.length);
      parts.push(el("h3", {}, `Columns (${node.columns.length})`), table(["name", "type", "description", ...(traced ? ["comes from"] : []), "tests"],
        node.columns.map((column) => el("tr", {}, el("td", {}, el("code", {}, column.name)), el("td", {}, column.type || ""), el("td", {}, inline(column.description)),
          traced ? el("td", {}, origins(column)) : null, el("td", {}, node.tests.filter((test) => test.column === column.name).map((test) => test.short).join(", "))))));
    }
    if (node.tests.length) parts.push(el("h3", {}, `Tests (${node.tests.length})`), table(["name", "column", "verdict", "rows found", "severity"],
      node.tests.map((test) => el("tr", {}, el("td", {}, test.name), el("td", {}, test.column || ""), el("td", {}, verdict(test.status)),
        el("td", {}, test.failures === null ? "" : count(test.failures)), el("td", {}, test.severity || "")))));
    if (node.freshness) parts.push(el("h3", {}, "Freshness"), facts([["verdict", node.freshness.status ? verdict(node.freshness.status) : "not looked at"],
      ["newest row", node.freshness.max_loaded_at], ["warn after", node.freshness.warn_after], ["error after", node.freshness.error_after]]));
    for (const [name, sql] of [["Compiled SQL", node.compiled], ["Template", node.raw]]) if (sql) {
      const copy = el("button", { type: "button", onclick: (event) => navigator.clipboard?.writeText(sql).then(() => { event.target.textContent = "Copied"; }) }, "Copy");
      parts.push(el("details", { open: name === "Template" ? null : true }, el("summary", {}, el("b", {}, name)), el("div", { class: "controls" }, copy), el("pre", { tabindex: "0" }, el("code", {}, sql))));
    }
    return parts;
  };

  // --- search: name first, then columns, then words of descriptions and SQL
  const box = document.getElementById("search"), list = document.getElementById("results");
  let hits = [], chosen = -1;
  const score = (node, words) => {
    let total = 0, why = "";
    for (const word of words) {
      const column = node.columns.find((column) => column.name.toLowerCase().includes(word));
      const test = node.tests.find((test) => test.name.toLowerCase().includes(word));
      if (node.short.toLowerCase() === word) total += 100;
      else if (node.label.toLowerCase().startsWith(word)) total += 60;
      else if (node.label.toLowerCase().includes(word)) total += 40;
      else if (column) { total += 20; why = `column ${column.name}`; }
      else if (node.tags.some((tag) => tag.toLowerCase().includes(word))) { total += 15; why = "tag"; }
      else if ((node.description || "").toLowerCase().includes(word)) { total += 10; why = "description"; }
      else if (node.columns.some((column) => (column.description || "").toLowerCase().includes(word))) { total += 8; why = "description of a column"; }
      else if (test) { total += 6; why = `test ${test.name}`; }
      else if ((node.raw || "").toLowerCase().includes(word)) { total += 3; why = "SQL"; }
      else return null;
    }
    return { node, total, why };
  };
  const close = () => { list.hidden = true; box.setAttribute("aria-expanded", "false"); box.removeAttribute("aria-activedescendant"); chosen = -1; };
  const mark = () => [...list.children].forEach((item, index) => {
    item.setAttribute("aria-selected", index === chosen);
    if (index === chosen) { box.setAttribute("aria-activedescendant", item.id); item.scrollIntoView({ block: "nearest" }); }
  });
  const open = (id) => { close(); box.value = ""; location.hash = href(id); };
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return close();
    hits = data.nodes.map((node) => score(node, words)).filter(Boolean).sort((one, two) => two.total - one.total || one.node.label.localeCompare(two.node.label)).slice(0, 30);
    list.replaceChildren(...(hits.length ? hits.map((hit, index) => el("li", { role: "option", id: `hit-${index}`, "data-id": hit.node.id, onmousedown: (event) => { event.preventDefault(); open(hit.node.id); } },
      hit.node.label, el("span", { class: `kind ${hit.node.kind}` }, hit.node.kind), el("small", {}, hit.why ? `${hit.why}: ` : "", clip(hit.node.summary || "", 110))))
      : [el("li", { class: "muted" }, "nothing found")]));
    list.hidden = false;
    box.setAttribute("aria-expanded", "true");
    chosen = hits.length ? 0 : -1;
    mark();
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") chosen = Math.min(hits.length - 1, chosen + 1);
    else if (event.key === "ArrowUp") chosen = Math.max(0, chosen - 1);
    else if (event.key === "Enter" && hits[chosen] && !list.hidden) return open(hits[chosen].node.id);
    else if (event.key === "Escape") return close();
    else return;
    event.preventDefault();
    mark();
  });
  box.addEventListener("blur", close);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== box) { event.preventDefault(); box.focus(); }
  });

  // --- routes
  const route = () => {
    const [, name, id] = location.hash.match(/^#\/([a-z]*)(?:\/(.*))?$/) ?? [null, "", ""];
    const node = name === "node" ? nodes.get(decodeURIComponent(id ?? "")) : null;
    let parts;
    if (name === "node") parts = node ? page(node) : [title("Not found"), el("p", {}, "There is nothing of that name.")];
    else if (name === "lineage") parts = lineage();
    else if (name === "sources") parts = freshness();
    else if (name === "macros") parts = macros();
    else parts = overview();
    main.replaceChildren(...parts);
    document.title = node ? `${node.label} – ${data.project}` : data.project;
    for (const anchor of tree.querySelectorAll("a")) anchor.dataset.id === node?.id ? anchor.setAttribute("aria-current", "page") : anchor.removeAttribute("aria-current");
    tree.querySelector("a[aria-current]")?.scrollIntoView({ block: "nearest" });
    window.scrollTo(0, 0);
  };
  window.addEventListener("hashchange", () => { route(); main.focus({ preventScroll: true }); });
  route();
})();
