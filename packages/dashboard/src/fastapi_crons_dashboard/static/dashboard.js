// Keeps relative times fresh, shows times in the zone that was chosen, remembers colours, copies texts, asks for live pages again.
const root = document.documentElement;
const content = document.getElementById("content");
const stored = (name) => { try { return localStorage.getItem(`crons-${name}`) ?? ""; } catch { return ""; } };
const store = (name, value) => { try { localStorage.setItem(`crons-${name}`, value); } catch { /* a browser that keeps nothing */ } };

function wireTheme() {
  const choice = document.getElementById("theme-switch");
  const apply = (theme) => { if (theme) root.dataset.theme = theme; else delete root.dataset.theme; };
  choice.value = stored("theme");
  apply(choice.value);
  choice.addEventListener("change", () => { store("theme", choice.value); apply(choice.value); });
}

// The same words as the server’s, in words/times.py.
const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
function duration(seconds) {
  for (let i = 0; i < UNITS.length; i += 1) {
    const [size, unit] = UNITS[i];
    if (seconds < size && size > 1) continue;
    const [smaller, name] = UNITS[i + 1] ?? [1, ""];
    const rest = size > 1 ? Math.floor((seconds % size) / smaller) : 0;
    return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${name}` : ""}`;
  }
  return "";
}
function relative(instant, now) {
  const away = (instant - now) / 1000;
  if (Math.abs(away) < 1) return "now";
  const shown = duration(Math.round(Math.abs(away)));
  return away > 0 ? `in ${shown}` : `${shown} ago`;
}

// The server's clock: that of this machine may be wrong.
const ahead = Number(document.querySelector('meta[name="now"]')?.content ?? Date.now()) - Date.now();

const two = (number) => String(number).padStart(2, "0");
const formats = new Map();
function formatOf(zone) {
  if (!formats.has(zone)) {
    formats.set(zone, new Intl.DateTimeFormat("en-GB", {
      timeZone: zone, timeZoneName: "short", hourCycle: "h23",
      year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
    }));
  }
  return formats.get(zone);
}
function inZone(date, zone) {
  const of = Object.fromEntries(formatOf(zone).formatToParts(date).map(({ type, value }) => [type, value]));
  return `${of.year}-${of.month}-${of.day} ${two(of.hour)}:${of.minute}:${of.second} ${of.timeZoneName}`;
}

function freshen() {
  const now = Number(root.dataset.lost ?? Date.now()) + ahead;
  for (const time of document.querySelectorAll("time:not(.exact)")) {
    const text = relative(Date.parse(time.dateTime), now);
    if (time.textContent !== text) time.textContent = text;
  }
}

// What the server wrote is kept beside, to come back to.
const written = new WeakMap();
function showZone(within = document) {
  const choice = stored("zone") || "page";
  const zone = choice === "local" ? undefined : choice;
  for (const time of within.querySelectorAll("time")) {
    const exact = time.classList.contains("exact");
    const before = written.get(time);
    const shown = exact ? time.textContent : time.title;
    const own = before && before.shown === shown && before.at === time.dateTime ? before.own : shown;
    let text = own;
    if (choice !== "page") {
      text = inZone(new Date(time.dateTime), zone);
      if (time.closest(".line")) text = text.slice(11, 19) + own.slice(8);
    }
    written.set(time, { own, shown: text, at: time.dateTime });
    if (text === shown) continue;
    if (exact) time.textContent = text; else time.title = text;
  }
}

const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
function showAxis() {
  const choice = stored("zone") || "page";
  for (const label of document.querySelectorAll(".axis text")) {
    if (choice === "page") { label.textContent = label.dataset.text; continue; }
    const shown = inZone(new Date(label.dataset.at), choice === "local" ? undefined : choice);
    const day = `${DAYS[new Date(shown.slice(0, 10)).getUTCDay()]} ${shown.slice(8, 10)}`;
    label.textContent = shown.slice(11, 16) === "00:00" ? day : shown.slice(11, 16);
  }
  const own = choice === "local" ? Intl.DateTimeFormat().resolvedOptions().timeZone : choice;
  for (const said of document.querySelectorAll("[data-zone]")) said.textContent = choice === "page" ? said.dataset.zone : own;
}

// A field for a time is on the clock that times are shown on, and its form says which that is. What was typed stays.
function showFields() {
  const choice = stored("zone") || "page";
  const name = choice === "local" ? Intl.DateTimeFormat().resolvedOptions().timeZone : choice;
  for (const field of document.querySelectorAll("input[type=datetime-local]")) {
    const { zone } = field.form.elements;
    zone.disabled = choice === "page";
    if (!zone.disabled) zone.value = name;
    const { instant } = field.dataset;
    if (!instant) continue;
    const text = zone.disabled ? field.defaultValue : inZone(new Date(instant), name).slice(0, 19).replace(" ", "T");
    const ours = [written.get(field) ?? field.value, field.defaultValue].map((each) => Date.parse(each));
    if (!ours.includes(Date.parse(field.value))) continue;
    field.value = text;
    written.set(field, text);
  }
}

function wireZone() {
  const choice = document.getElementById("zone-switch");
  choice.value = stored("zone") || "page";
  choice.addEventListener("change", () => { store("zone", choice.value); showZone(); showAxis(); showFields(); });
}

function showButtons() {
  for (const button of document.querySelectorAll(":is([data-copies], [data-chooses], [data-closes])[hidden]")) button.hidden = false;
}
document.addEventListener("change", ({ target }) => {
  if (!target.dataset?.chooses) return;
  for (const box of target.form.querySelectorAll(`[name="${target.dataset.chooses}"]`)) box.checked = target.checked;
});
async function copy(button) {
  const text = document.getElementById(button.dataset.copies).textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch { // without https, browsers have no clipboard for pages
    getSelection().selectAllChildren(document.getElementById(button.dataset.copies));
    button.textContent = "Selected: press Ctrl+C";
  }
}
document.addEventListener("click", (event) => {
  // The second click of a double click is not for the button that has taken the place of the first.
  if (event.detail > 1 && event.target.closest?.("form[method=post] :is(button, [type=submit])")) event.preventDefault();
  const button = event.target.closest?.("[data-copies]");
  if (button) copy(button);
  if (event.target.closest?.("[data-closes]")) event.target.closest(".notice").remove();
});

// Nor is a key that is still held down.
document.addEventListener("keydown", (event) => {
  if (event.repeat && event.key === "Enter" && event.target.closest?.("form[method=post]")) event.preventDefault();
});

// What is said once is not said again when the page is loaded again.
function forgetSaid() {
  const here = new URL(location.href);
  if (!here.searchParams.has("said")) return;
  here.searchParams.delete("said");
  here.searchParams.delete("n");
  history.replaceState(history.state, "", here);
}

// The note of a form that was sent when the session had ended is in the form again when one has signed in.
const SENT = "crons-sent";
const sent = (note) => { try { sessionStorage.setItem(SENT, JSON.stringify(note)); } catch { /* as above */ } };
function bringNote() {
  let note;
  try { note = JSON.parse(sessionStorage.getItem(SENT)); } catch { return; }
  const isUndone = new URL(location.href).searchParams.has("undone");
  if (document.querySelector(".sign-in")) return isUndone && note ? sent({ ...note, isUndone }) : undefined;
  sent(null);
  const form = note?.isUndone && [...document.forms].find((each) => each.getAttribute("action") === note.action);
  const field = form?.elements.namedItem("note");
  if (!field) return;
  field.value = note.text;
  field.closest("details")?.setAttribute("open", "");
}
document.addEventListener("submit", ({ target: form }) => {
  if (form.method === "post" && !form.closest(".sign-in")) {
    sent({ action: form.getAttribute("action"), text: form.elements.namedItem("note")?.value ?? "" });
  }
}, true);

// What was followed stays on the page, although not all of it may be kept; it is not followed again.
document.addEventListener("ended", ({ target }) => target.removeAttribute("hx-sse:connect"), true);

// A job may log hundreds of lines a second: those that have come are added together a few times a second, and of those that
// were added only the newest stay. The end of the log stays in view, unless one has scrolled away from it.
const TOGETHER = 250, MOST_LINES = 2_000;
function followLog() {
  const log = document.querySelector(".log[hx-sse\\:connect]");
  if (!log) return;
  const most = log.children.length + MOST_LINES;
  let follows = true;
  let lines = [];
  let waiting;
  function add() {
    clearTimeout(waiting);
    waiting = undefined;
    const added = document.createRange().createContextualFragment(lines.slice(-most).join(""));
    const over = log.children.length + lines.length - most;
    lines = [];
    showZone(added);
    log.append(added);
    if (over > 0) {
      for (const line of [...log.children].slice(0, -most)) line.remove();
      document.getElementById("cut").hidden = false;
    }
    if (follows) log.scrollTop = log.scrollHeight;
  }
  log.scrollTop = log.scrollHeight;
  log.addEventListener("scroll", () => { follows = log.scrollTop + log.clientHeight > log.scrollHeight - 20; });
  log.addEventListener("htmx:sse:before:message", (event) => {
    const { data, event: named } = event.detail.message;
    if (named) return;
    event.preventDefault();
    lines.push(data);
    waiting ??= setTimeout(add, TOGETHER);
  });
  log.addEventListener("ended", add);
}

// A page is loaded anew after something has happened, and every few seconds: never before it has rested as long as the
// server said. Where no answer comes it keeps what it shows, says since when that is, and asks again.
const EVERY = 10_000, AGAIN = 2_000, PATIENCE = 10_000;
const lost = document.getElementById("lost");
let asked = performance.now();
let answered = Date.now();
let failures = 0;
let timer;
function refreshAfter(rest) {
  clearTimeout(timer);
  if (content.dataset.pace) timer = setTimeout(refresh, Math.max(0, asked + rest - performance.now()));
}
function refreshSoon() { refreshAfter(failures ? AGAIN : content.dataset.pace * 1000); }
function refresh() {
  if (document.hidden) return;
  asked = performance.now();
  timer = setTimeout(sayLost, PATIENCE);
  content.dispatchEvent(new Event("refresh"));
}
function wasAnswered() {
  failures = 0;
  answered = Date.now();
  lost.replaceChildren();
  delete root.dataset.lost;
  refreshAfter(Math.max(EVERY, content.dataset.pace * 1000));
}
function wasNotAnswered(why) {
  failures += 1;
  if (failures > 1) sayLost(why); // a server that is started anew is back before that
  refreshAfter(AGAIN);
}
function sayLost(why) {
  if ("problem" in content.dataset) return; // it says itself what is wrong
  const zone = stored("zone") === "UTC" ? "UTC" : undefined;
  const [now, then] = [Date.now(), answered].map((instant) => inZone(new Date(instant + ahead), zone));
  const since = then.slice(0, 10) === now.slice(0, 10) ? then.slice(11) : then;
  const text = why ? `${why}. What is shown is from ${since}.` : `No answer since ${since}. What is shown is from then.`;
  root.dataset.lost = answered;
  freshen();
  if (lost.textContent === text) return;
  const notice = document.createElement("p");
  notice.className = "notice held";
  notice.textContent = text;
  lost.replaceChildren(notice);
}
// Only an answer that is a page of ours takes the place of the page.
document.addEventListener("htmx:after:request", (event) => {
  const { sourceElement, response, text } = event.detail.ctx;
  if (text?.includes('class="sign-in"')) { // it is not a part of a page
    event.preventDefault();
    location.assign(response.raw.url);
    return;
  }
  if (sourceElement !== content) return;
  if (response.status < 400 && text.includes('id="content"')) return;
  event.preventDefault();
  const page = new DOMParser().parseFromString(text, "text/html");
  wasNotAnswered(page.querySelector("[data-problem] .detail")?.textContent.replace(/\.$/, ""));
});
document.addEventListener("htmx:error", ({ detail }) => {
  const source = detail.ctx?.sourceElement;
  if (source === content) wasNotAnswered();
  else if (source?.closest("form[method=post]")) sayLost();
});
// A page holds one stream, as browsers have few connections for a site: that of its log, where it follows one.
const live = document.querySelector("[hx-sse\\:connect]");
for (const kind of ["run", "missed", "ended"]) live?.addEventListener(kind, refreshSoon);
// The stream ends with the server; what happened before it is back is not in it.
for (const when of ["before", "after"]) {
  live?.addEventListener(`htmx:sse:${when}:connection`, ({ detail }) => { if (detail.connection.attempt) refreshSoon(); });
}
document.addEventListener("visibilitychange", refreshSoon);

function all() { freshen(); showZone(); showAxis(); showFields(); showButtons(); }

for (const switches of document.querySelectorAll(".switches")) switches.hidden = false;
wireTheme();
wireZone();
forgetSaid();
bringNote();
followLog();
all();
refreshAfter(Math.max(EVERY, content.dataset.pace * 1000));
setInterval(freshen, 1000);
let wasWithin = false;
document.addEventListener("htmx:before:swap", () => {
  wasWithin = document.activeElement !== document.body;
});
document.addEventListener("htmx:after:swap", (event) => {
  const { sourceElement: source, target, response } = event.detail?.ctx ?? {};
  if (target === content && response?.status < 400) wasAnswered();
  all();
  // A form that was sent, and not refused, begins anew: its note is not for the next change.
  const form = source?.closest?.("form[method=post]");
  if (form && response?.status < 400) form.reset();
  // Of many jobs, those that refused stay chosen.
  const by = form && document.querySelector("#said [data-refused-by]")?.dataset.refusedBy;
  if (by) for (const box of form.querySelectorAll("[name=job]:checked")) box.checked = JSON.parse(by).includes(box.value);
  // What had the focus may be gone: go on from the content, not from the top of the page.
  if (wasWithin && document.activeElement === document.body) content.focus({ preventScroll: true });
});

// A narrow page begins its timeline with now, which is in the middle.
for (const timeline of document.querySelectorAll(".timeline")) {
  const region = timeline.parentElement;
  region.scrollLeft = (region.scrollWidth - region.clientWidth) / 2;
}
