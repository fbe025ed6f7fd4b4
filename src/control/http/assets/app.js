// The page: what /api/events says, put into the document. Whatever comes from the gate goes in as text, never as markup.

const $ = (id) => document.getElementById(id);

/** Absolute: a page that was asked for with a password in its address may ask for nothing relative to that. */
const url = (path) => location.origin + path;

/* Numbers */

const whole = new Intl.NumberFormat("en");
const one = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const count = (n) => whole.format(n ?? 0);
const rate = (n) => (n === undefined ? "–" : n === 0 ? "0" : n < 0.05 ? "<0.1" : n < 100 ? one.format(n) : whole.format(Math.round(n)));

function units(n, names, step = 1000) {
  let at = 0;
  while (n >= step && at < names.length - 1) {
    n /= step;
    at += 1;
  }
  return `${at === 0 ? whole.format(Math.round(n)) : one.format(n)} ${names[at]}`;
}
const bytes = (n) => units(n ?? 0, ["B", "kB", "MB", "GB", "TB", "PB"]);
const bits = (n) => units(n, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"]);

function span(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([length]) => seconds >= length);
  if (first < 0) return "0 s";
  const [length, name] = parts[first];
  const next = parts[first + 1];
  const rest = next ? Math.floor((seconds % length) / next[0]) : 0;
  return `${Math.floor(seconds / length)} ${name}${rest ? ` ${rest} ${next[1]}` : ""}`;
}

const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

/* The document */

/** An element with these attributes, and children that are elements or text. */
function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== undefined && child !== ""));
  return node;
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Rows by key: one that stays keeps its nodes, and the focus with them. Cells are `[text or nodes, class, label]`; the one named `head` is a th. */
function rows(body, items, head = 0) {
  const old = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  let here = body.firstElementChild;
  for (const { key, cells, note } of items) {
    const row = old.get(key) ?? el("tr", { "data-key": key, role: "row" });
    old.delete(key);
    row.className = note ?? "";
    cells.forEach(([content, kind = "", label], at) => {
      let cell = row.cells[at];
      if (!cell) {
        // Named, because what is laid out as cards is no table to a browser any more.
        cell = at === head ? el("th", { scope: "row", role: "rowheader" }) : el("td", { role: "cell" });
        row.append(cell);
        if (label) cell.dataset.label = label;
      }
      if (cell.className !== kind) cell.className = kind;
      if (typeof content === "string") say(cell, content);
      // Made anew only where what it is made of has changed.
      else if (cell.dataset.made !== content.of) {
        cell.dataset.made = content.of;
        cell.replaceChildren(...content.make());
      }
    });
    if (row === here) here = here.nextElementSibling;
    else body.insertBefore(row, here);
  }
  for (const row of old.values()) row.remove();
}

/** A table, or a line that says that there is nothing for it. */
function table(id, items, head) {
  const node = $(id);
  node.hidden = items.length === 0;
  const none = $(`${id}-none`);
  if (none) none.hidden = items.length > 0;
  rows(node.tBodies[0], items, head);
}

/* Rates, out of counters and the time between */

const WINDOW_MS = 5000;
const KEPT_MS = 60000;
let samples = [];
let lines = { blocked: [], passed: [] };

function counters(status) {
  const all = new Map();
  const add = (key, n) => all.set(key, (all.get(key) ?? 0) + n);
  for (const [name, port] of Object.entries(status.ports)) {
    for (const [reason, n] of Object.entries(port.dropped)) {
      add(`reason ${name} ${reason}`, n);
      add("blocked", n);
    }
    for (const [reason, n] of Object.entries(port.shadow)) {
      add(`shadow ${name} ${reason}`, n);
      add("would be blocked", n);
    }
    add(`reason ${name} rejected`, port.rejected);
    add("blocked", port.rejected);
    add("given", port.to_host_stack);
    add("passed", port.forwarded);
    add("passed bytes", port.forwarded_bytes);
  }
  for (const [name, rule] of Object.entries(status.rules)) add(`rule ${name}`, rule.packets);
  // What the gate's own stack was given is for decoys but for what its address got, and what is for decoys is of the LAN.
  const decoyed = Math.max(0, all.get("given") - (status.inband?.received ?? 0));
  add("decoyed lan", decoyed);
  add("blocked", decoyed);
  return all;
}

/** The rate of a counter over the last seconds; undefined before the second beat. A counter that is new began at zero. */
function sampled(status) {
  const now = performance.now();
  if (samples.length && samples.at(-1).pid !== status.pid) forget();
  samples.push({ now, pid: status.pid, all: counters(status) });
  while (samples.length > 2 && now - samples[0].now > WINDOW_MS + 500) samples.shift();
  const [first, last] = [samples[0], samples.at(-1)];
  const seconds = (last.now - first.now) / 1000;
  return (key) => (seconds > 0.2 ? Math.max(0, (last.all.get(key) ?? 0) - (first.all.get(key) ?? 0)) / seconds : undefined);
}

function forget() {
  samples = [];
  lines = { blocked: [], passed: [] };
}

function draw(name, value) {
  const now = performance.now();
  const line = lines[name];
  if (value !== undefined) line.push([now, value]);
  while (line.length && now - line[0][0] > KEPT_MS) line.shift();
  const most = Math.max(1, ...line.map(([, n]) => n));
  const at = ([time, n]) => `${(120 - ((now - time) / KEPT_MS) * 120).toFixed(1)} ${(26 - (n / most) * 24).toFixed(1)}`;
  $(`${name}-line`).firstElementChild.setAttribute("d", line.length > 1 ? `M${line.map(at).join("L")}` : "");
}

/* The status */

const WAYS = { lan: "out", uplink: "in" };
let status;
let speed = () => undefined;

const byRate = (a, b) => (b.rate ?? 0) - (a.rate ?? 0) || b.total - a.total || a.place - b.place;

function show(next) {
  status = next;
  speed = sampled(status);
  const all = samples.at(-1).all;
  // In shadow nothing is blocked, and what would be is what there is to see.
  const stops = status.shadow ? "would be blocked" : "blocked";
  const title = status.shadow ? "Would be blocked" : "Blocked";
  say($("blocked-title"), `${title} now`);
  say($("by-rule-title"), `${title}, by rule`);
  say($("by-reason-title"), `${title}, by reason`);
  const [blocked, passed] = [speed(stops), speed("passed")];
  say($("blocked-rate"), rate(blocked));
  say($("blocked-total"), count(all.get(stops)));
  say($("passed-rate"), rate(passed));
  say($("passed-total"), count(all.get("passed")));
  say($("passed-bits"), bits((speed("passed bytes") ?? 0) * 8));
  draw("blocked", blocked);
  draw("passed", passed);
  say($("flows-live"), count(status.flows.live));
  say($("flows-opened"), count(status.flows.opened));
  showBanner();
  showNow();
  showRules();
  showMachine();
}

function showBanner() {
  const banner = $("banner");
  const told = [];
  if (status.shadow) told.push("Shadow: nothing is enforced. Every frame passes; what would have been blocked is counted and alerted on.");
  const reloads = status.reloads ?? {};
  if (reloads.error) told.push(`The config is not as its file is: ${reloads.error}`);
  if (reloads.confirm_until) told.push(`The config in force is taken back at ${new Date(reloads.confirm_until * 1000).toLocaleTimeString()} unless it is confirmed.`);
  const held = (status.quarantine ?? []).map((host) => {
    const who = [host.name, ...(host.ips ?? []), host.mac].filter(Boolean).join(" ");
    return `${who} until ${new Date(host.until * 1000).toLocaleTimeString()}`;
  });
  if (held.length > 0) told.push(`In quarantine: ${held.slice(0, 5).join(", ")}${held.length > 5 ? ` and ${held.length - 5} more` : ""}.`);
  const stale = Object.entries(status.sets).filter(([, set]) => set.error);
  for (const [name, set] of stale) told.push(`The set ${name} is not as its file is: ${set.error}`);
  say(banner, told.join(" "));
  banner.hidden = told.length === 0;
}

const SIGNS = { drop: "✕ drop", reject: "↩ reject", decoy: "⇄ decoy", allow: "✓ allow", forward: "✓ forward" };
const KINDS = { drop: "bad", reject: "bad", decoy: "bad", allow: "good", forward: "good" };

function ruleList() {
  return Object.entries(status.rules).map(([name, rule]) => ({ name, ...rule, total: rule.packets, rate: speed(`rule ${name}`) }));
}

function showNow() {
  const MOST = 12;
  const hit = ruleList().filter((rule) => rule.total > 0).sort(byRate);
  const still = (rule) => (rule.rate ? "" : "still");
  const blocking = hit.filter((rule) => rule.action !== "allow").slice(0, MOST);
  table("by-rule", blocking.map((rule) => ({
    key: rule.name,
    note: still(rule),
    cells: [[rule.name], [SIGNS[rule.action] + (rule.shadow || status.shadow ? ", in shadow" : ""), rule.shadow || status.shadow ? "soft" : "bad"], [rate(rule.rate), "n"], [count(rule.total), "n"]],
  })));
  const allowing = hit.filter((rule) => rule.action === "allow").slice(0, MOST);
  table("passing", allowing.map((rule) => ({
    key: rule.name,
    note: still(rule),
    cells: [[rule.name], [rate(rule.rate), "n"], [count(rule.total), "n"], [bytes(rule.bytes), "n"]],
  })));
  const reasons = [];
  for (const [port, way] of Object.entries(WAYS)) {
    const of = status.ports[port];
    const add = (kind, reason, total, mark = "") => {
      const key = `${kind} ${port} ${reason}`;
      if (total > 0) reasons.push({ key, reason: reason + mark, way, total, rate: speed(key), place: 0 });
    };
    for (const [reason, n] of Object.entries(of.dropped)) add("reason", reason, n);
    add("reason", "rejected", of.rejected, " with an answer");
    if (port === "lan") {
      const [key, total] = ["decoyed lan", samples.at(-1).all.get("decoyed lan")];
      if (total > 0) reasons.push({ key, reason: "answered by decoys", way, total, rate: speed(key), place: 0 });
    }
    for (const [reason, n] of Object.entries(of.shadow)) add("shadow", reason, n, ", in shadow");
  }
  table("by-reason", reasons.sort(byRate).slice(0, MOST).map((reason) => ({
    key: reason.key,
    note: still(reason),
    cells: [[reason.reason], [reason.way], [rate(reason.rate), "n"], [count(reason.total), "n"]],
  })));
}

function showRules() {
  const MOST = 500;
  const wanted = $("rules-find").value.trim().toLowerCase();
  const found = ruleList()
    .filter((rule) => !$("rules-hit").checked || rule.total > 0)
    .filter((rule) => !wanted || `${rule.name} ${rule.action} ${rule.from}`.toLowerCase().includes(wanted))
    .sort((a, b) => a.place - b.place);
  rows($("rules-table").tBodies[0], found.slice(0, MOST).map((rule) => {
    const note = rule.expired ? ", expired" : rule.shadow ? ", in shadow" : "";
    return {
      key: rule.name,
      note: rule.rate ? "" : "still",
      cells: [
        [count(rule.place), "n"], [rule.name], [SIGNS[rule.action] + note, note ? "soft" : KINDS[rule.action]], [rule.alert ? level(rule.alert) : "no", rule.alert ? "" : "soft"], [rule.from, "soft"],
        [rate(rule.rate), "n"], [count(rule.packets), "n"], [bytes(rule.bytes), "n"], [count(rule.alerts), "n"],
      ],
    };
  }), 1);
  const left = found.length - MOST;
  $("rules-rest").hidden = left <= 0 && found.length > 0;
  say($("rules-rest"), left > 0 ? `${count(left)} more; look for a part of a name.` : "No rule is like that.");
}

function showMachine() {
  const lost = (port) => (port.kernel.rx_dropped ?? 0) + (port.kernel.rx_ring_full ?? 0) + (port.gate_no_socket ?? 0) + (port.gate_stale ?? 0);
  table("ports", Object.entries(status.ports).map(([name, port]) => ({
    key: name,
    cells: [
      [`${port.interface} (${name})`], [port.balanced ? "✓ all accounted for" : "… counting", port.balanced ? "good" : "soft"], [`${port.mode}, ${count(port.queues)} ${port.queues === 1 ? "queue" : "queues"}`],
      [count(port.rx), "n"], [bytes(port.rx_bytes), "n"], [count(port.forwarded), "n"], [count(sum(Object.values(port.dropped))), "n"], [count(port.rejected), "n"],
      [count(port.to_host_stack), "n"], [count(port.tx_failed), "n"], [count(lost(port)), "n"],
    ],
  })));
  table("workers", status.workers.map((worker, at) => {
    const turns = worker.heartbeat_ms <= 1000;
    return {
      key: `${at}`,
      cells: [
        [`worker ${at}`], [turns ? "✓ turns" : "✕ stands still", turns ? "good" : "bad"], [count(worker.core), "n"], [turns ? `${count(worker.heartbeat_ms)} ms ago` : `${span(worker.heartbeat_ms / 1000)} ago`, "n"],
        [count(worker.rx), "n"], [count(worker.busy_turns), "n"],
      ],
    };
  }));
  table("sinks", Object.entries(status.sinks).map(([name, sink]) => {
    const ok = sink.state === "ok";
    return {
      key: name,
      cells: [
        [name], [ok ? "✓ ok" : `✕ ${sink.state}${sink.last_error ? `: ${sink.last_error}` : ""}`, ok ? "good" : "bad"],
        [count(sink.sent), "n"], [count(sink.waiting), "n"], [count(sink.lost), "n"],
      ],
    };
  }));
  const facts = [
    ["Runs for", span(status.uptime_s)],
    ["Version", status.version],
    ["Config", status.config.file || "–"],
    ["Config SHA-256", status.config.sha256.slice(0, 16) || "–"],
    ["Policies since the start", count(status.generation)],
    ["Alert lines", `${count(status.alerts)}, ${count(status.alerts_lost)} lost`],
  ];
  for (const [name, set] of Object.entries(status.sets)) facts.push([`Set ${name}`, `${count(set.entries)} entries, ${set.error ? `not as its file is: ${set.error}` : "as its file is"}`]);
  const { decoys, inband } = status;
  if (decoys?.begun || ruleList().some((rule) => rule.action === "decoy")) facts.push(["Conversations of decoys", `${count(decoys.open)} open, ${count(decoys.begun)} begun, ${count(decoys.refused + decoys.refused_host)} refused`]);
  if (inband) facts.push(["Address of the box", `${inband.addresses.join(", ")} port ${inband.port}: ${count(inband.open)} connections, ${count(inband.received)} frames received, ${count(inband.sent)} sent`]);
  if (status.evidence) facts.push(["Evidence", `${count(status.evidence.captures)} captures, ${bytes(status.evidence.bytes)}`]);
  const list = $("facts");
  const text = JSON.stringify(facts.slice(1));
  if (list.dataset.made !== text) {
    list.dataset.made = text;
    list.replaceChildren(...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  }
  say(list.querySelector("dd"), facts[0][1]);
}

/* Incidents */

const LEVELS = { high: "▲\u00a0high", medium: "◆\u00a0medium", low: "▽\u00a0low" };
const level = (name) => LEVELS[name] ?? name;
const FEW = 8;
/** As many as the gate keeps. */
const REMEMBERED = 200;
let incidents = [];
let allIncidents = false;

// EVE's +0000, which not every browser takes.
const when = (text) => new Date(text.replace(/([+-]\d\d)(\d\d)$/, "$1:$2"));
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

function moment(text) {
  const at = when(text);
  const today = at.toDateString() === new Date().toDateString();
  return (today ? "" : `${day.format(at)} `) + clock.format(at);
}

function place(address, port) {
  if (!address) return "";
  if (port === undefined) return address;
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** What the payload has shown, and what a detector has counted: pairs of a name and a text. */
function shown(line) {
  const pairs = (object) => (object && typeof object === "object" ? Object.entries(object).map(([k, v]) => [k.replaceAll("_", " "), `${v}`]) : []);
  return [...pairs(line.app_proto && line[line.app_proto]), ...pairs(line.behaviour)];
}

/** What the client has said to a decoy; undefined where it has said nothing. */
function conversation(decoy) {
  if (!decoy) return undefined;
  const told = [`Spoke ${decoy.protocol} with a decoy for ${decoy.seconds < 1 ? "less than 1 s" : span(decoy.seconds)}: ${decoy.ended}.`, `${bytes(decoy.client_bytes)} from it, ${bytes(decoy.decoy_bytes)} to it.`];
  if (decoy.conversations > 1) told.push(`The last of ${count(decoy.conversations)} conversations.`);
  return { told: told.join(" "), said: [...(decoy.transcript ?? []), ...(decoy.cut ? ["(more was said than is kept here)"] : [])] };
}

function outcome(alert) {
  const word = { drop: "dropped", reject: "rejected", decoy: "answered by a decoy", forward: "passed" }[alert.verdict] ?? alert.verdict;
  if (alert.action === "blocked") return [alert.verdict === "decoy" ? `⇄\u00a0${word}` : `✕\u00a0${word}`, "bad"];
  return alert.shadow ? [`▲\u00a0passed; would be ${word}`, "warn"] : ["✓\u00a0passed, alert only", "warn"];
}

/** The packet of an incident as `explain` takes it; undefined where it cannot be asked about. */
function packetOf(line) {
  const proto = { TCP: "tcp", UDP: "udp", ICMP: "icmp", "IPv6-ICMP": "icmpv6", SCTP: "sctp" }[line.proto];
  if (!proto || !line.src_ip || !line.dest_ip || line.behaviour) return undefined;
  const packet = { direction: line.direction, proto, src: place(line.src_ip, line.src_port), dst: place(line.dest_ip, line.dest_port), src_mac: line.src_mac };
  if (line.icmp_type !== undefined) Object.assign(packet, { icmp_type: `${line.icmp_type}`, icmp_code: `${line.icmp_code}` });
  if (line.vlan?.length) packet.vlan = `${line.vlan[0]}`;
  if (line.app_proto && (proto === "tcp" || proto === "udp")) packet.app = line.app_proto;
  return packet;
}

function incidentRow(line) {
  const alert = line.alert;
  const made = (of, make) => ({ of: JSON.stringify(of), make });
  const [word, kind] = outcome(alert);
  const to = place(line.dest_ip, line.dest_port) || line.ether?.dest_mac || "";
  const others = alert.destinations > 1 ? `and ${alert.more_destinations ? "more than " : ""}${count(alert.destinations - 1)} other${alert.destinations > 2 ? "s" : ""}` : "";
  const pairs = shown(line);
  const held = conversation(line.decoy);
  const name = alert.evidence?.split("/").at(-1);
  const record = line.decoy?.evidence?.split("/").at(-1);
  const packet = packetOf(line);
  const told = alert.host_name ?? alert.host;
  return {
    key: alert.incident,
    cells: [
      [made([alert.last_seen, alert.first_seen], () => [el("span", {}, el("time", { datetime: when(alert.last_seen).toISOString() }, moment(alert.last_seen)), el("span", { class: "sub" }, `since ${moment(alert.first_seen)}`))]), "", "Last seen"],
      [made([alert.host, alert.host_name], () => (alert.host_name ? [el("span", {}, alert.host_name, el("span", { class: "sub" }, alert.host))] : [alert.host])), "host", "Host"],
      [made([alert.signature, alert.level], () => [el("span", {}, el("strong", {}, alert.signature), el("span", { class: "sub" }, level(alert.level)))]), "", "Rule"],
      [word, `${kind} word`, "Outcome"],
      [count(alert.packets), "n", "Packets"],
      [made([to, line.proto, others], () => [el("span", {}, to, el("span", { class: "sub" }, [line.proto, others].filter(Boolean).join(", ")))]), "to", "To"],
      [made([pairs, line.app_proto, alert.hint, held], () => {
        const list = pairs.length ? el("dl", { class: "shown" }, ...pairs.flatMap(([k, v]) => [el("dt", {}, k), el("dd", {}, v)])) : "";
        const head = line.app_proto && !pairs.length ? el("span", {}, line.app_proto) : "";
        const talk = held ? el("p", { class: "hint" }, held.told) : "";
        const said = held?.said.length ? el("details", { class: "said" }, el("summary", {}, "What was said"), el("pre", { tabindex: "0", role: "region", "aria-label": `What ${told} said to the decoy of ${alert.signature}` }, held.said.join("\n"))) : "";
        return [el("div", {}, head, list, talk, said, alert.hint ? el("p", { class: "hint" }, alert.hint) : "")];
      }), pairs.length || line.app_proto || alert.hint || held ? "" : "empty", "Payload"],
      [made([name, record, packet], () => {
        const doors = el("div", { class: "doors" });
        if (name) doors.append(el("a", { href: `/evidence/${encodeURIComponent(name)}`, download: name, "aria-label": `Capture of ${alert.signature} by ${told}` }, "Capture"));
        if (record) doors.append(el("a", { href: `/evidence/${encodeURIComponent(record)}`, download: record, "aria-label": `Transcript of ${alert.signature} by ${told}` }, "Transcript"));
        if (packet) {
          const why = el("button", { type: "button", class: "plain", "aria-label": `Explain ${alert.signature} by ${told}` }, "Explain");
          why.addEventListener("click", () => explainThis(packet));
          doors.append(why);
        }
        return [doors];
      }), name || record || packet ? "" : "empty", "More"],
    ],
  };
}

function showIncidents() {
  const shownNow = allIncidents ? incidents : incidents.slice(0, FEW);
  const node = $("incidents-table");
  node.hidden = incidents.length === 0;
  $("incidents-none").hidden = incidents.length > 0;
  rows(node.tBodies[0], shownNow.map(incidentRow), 1);
  const more = $("incidents-more");
  more.hidden = incidents.length <= FEW;
  say(more, allIncidents ? "Show fewer" : `Show all ${count(incidents.length)}`);
  say($("incident-count"), incidents.length < REMEMBERED ? count(incidents.length) : `${count(REMEMBERED)} or more`);
  const of = (name) => incidents.filter((line) => line.alert.level === name).length;
  say($("incident-levels"), incidents.length ? ["high", "medium", "low"].map((name) => `${count(of(name))} ${name}`).join(", ") : "none since the start");
}

/* Explain */

const form = $("explain-form");
const answer = $("explain-answer");
let asked = 0;

function explainThis(packet) {
  form.reset();
  for (const [name, value] of Object.entries(packet)) form.elements[name].value = value;
  form.querySelector("details").open = ["app", "icmp_type", "vlan"].some((name) => packet[name] !== undefined);
  form.scrollIntoView({ block: "start" });
  form.elements.direction.focus({ preventScroll: true });
  explain();
}

async function explain() {
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value.trim()) query.append(name, value.trim());
  for (const field of form.elements) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-describedby");
  }
  const mine = ++asked;
  let said;
  try {
    const got = await fetch(url(`/api/explain?${query}`));
    said = await got.json();
  } catch {
    said = { error: "the gate does not answer", help: "try again" };
  }
  // An answer that a later question has overtaken.
  if (mine !== asked) return;
  answer.replaceChildren(...(said.error ? wrong(said) : explained(said)));
}

function wrong(said) {
  const field = said.field && form.elements[said.field];
  if (field) {
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-describedby", "explain-wrong");
    const more = field.closest("details");
    if (more) more.open = true;
    field.focus();
  }
  return [el("p", { id: "explain-wrong" }, el("strong", { class: "bad" }, `✕ ${said.error}`), said.help ? `: ${said.help}` : "")];
}

function explained(said) {
  const kind = KINDS[said.verdict] ?? "";
  const nodes = [el("p", { class: "verdict" }, el("strong", { class: kind }, SIGNS[said.verdict] ?? said.verdict), " by rule ", el("strong", {}, said.rule))];
  const line = (name, text) => text && nodes.push(el("p", {}, el("span", { class: "soft" }, `${name}: `), text));
  line("Why", said.why.replaceAll("`", ""));
  line("Reason", said.reason);
  line("Alert", said.alert && level(said.alert));
  line("Besides", said.marks.join(", "));
  line("Note", said.note);
  line("Matched before it, in shadow and not enforced", said.in_shadow.join(", "));
  line("Once its payload is known, instead", said.once_known?.join(", "));
  line("Would have matched after it", said.also.join(", "));
  const near = said.misses.filter((miss) => miss.fields.length === 1);
  const FEWEST = 8;
  if (near.length) {
    nodes.push(el("p", { class: "soft" }, "Rules before it that miss by one field:"));
    const item = (miss) => el("li", {}, el("strong", {}, miss.rule), ` (${miss.origin}): ${miss.fields[0].field} wants ${short(miss.fields[0].wants)}, has ${miss.fields[0].has}`);
    nodes.push(el("ul", {}, ...near.slice(0, FEWEST).map(item)));
  }
  const far = said.misses.length + said.misses_left_out - Math.min(near.length, FEWEST);
  if (far > 0) nodes.push(el("p", { class: "soft" }, `${count(far)} other rule${far === 1 ? "" : "s"} before it ${far === 1 ? "does" : "do"} not match.`));
  return nodes;
}

const short = (text) => (text.length > 60 ? `${text.slice(0, 57)}…` : text);

/* The connection */

const LATE_MS = 5000;
const AGAIN_MS = 3000;
let source;
let heard = 0;
let again;

function tell(text, kind) {
  const node = $("state");
  say(node, text);
  node.dataset.kind = kind;
  document.title = kind === "good" ? "Portcullis" : `${text} – Portcullis`;
}

function connect() {
  clearTimeout(again);
  source?.close();
  source = new EventSource(url("/api/events"));
  source.addEventListener("status", (event) => {
    heard = performance.now();
    show(JSON.parse(event.data));
    const still = status.workers.filter((worker) => worker.heartbeat_ms > 1000).length;
    if (!status.healthy) tell(still === 1 ? "A worker stands still" : `${still} workers stand still`, "bad");
    else if (status.shadow) tell("Shadow: nothing is enforced", "warn");
    else tell("Filtering", "good");
  });
  source.addEventListener("incidents", (event) => {
    incidents = JSON.parse(event.data).incidents;
    showIncidents();
  });
  source.addEventListener("error", () => {
    lost();
    // What the server refused the browser does not ask for again.
    if (source.readyState === EventSource.CLOSED) again = setTimeout(connect, AGAIN_MS);
  });
}

function lost() {
  if (document.hidden) return;
  tell("Connection lost, trying again", "bad");
  forget();
}

function pause() {
  clearTimeout(again);
  source?.close();
  source = undefined;
  forget();
  tell("Paused while hidden", "wait");
}

document.addEventListener("visibilitychange", () => (document.hidden ? pause() : connect()));
setInterval(() => {
  if (source && heard && performance.now() - heard > LATE_MS && !document.hidden) {
    heard = performance.now();
    lost();
    connect();
  }
}, 1000);

form.addEventListener("submit", (event) => {
  event.preventDefault();
  explain();
});
$("rules-find").addEventListener("input", () => status && showRules());
$("rules-hit").addEventListener("change", () => status && showRules());
$("incidents-more").addEventListener("click", () => {
  allIncidents = !allIncidents;
  showIncidents();
});

if (!document.hidden) connect();
