// Live updates of pages, the editor of plans, and copy buttons. Pages work without this script, but do
// not update themselves.
"use strict";

(() => {
  // Shortest time between two updates of a page.
  const GAP_MS = 1000;
  const RETRY_MS = 2000;
  // The server sends a message every ten seconds: after so long without one, it has gone.
  const SILENCE_MS = 25000;
  const RESPONSE_MS = 10000;

  let source = null;
  let lastHeard = 0;
  let isAway = false;
  let hasMissed = false;
  let isOutdated = false;
  let changed = new Set();
  let timer = null;
  let lastFetch = 0;

  const follows = () => document.body.dataset.follow;

  // ---- live updates

  function follow() {
    if (source || isOutdated || document.hidden || !follows()) return;
    source = new EventSource(follows());
    lastHeard = Date.now();
    source.addEventListener("hello", (event) => {
      lastHeard = Date.now();
      const [version] = event.data.split(" ");
      // reloading the page here would lose what is being typed
      if (version !== document.body.dataset.seen.split(" ")[0]) {
        isOutdated = true;
        return showLine(`The server was upgraded to version ${version}. Reload this page when it has no unsaved input.`);
      }
      // catch up with what was missed; progress of a flash is not counted by events
      if (hasMissed || event.data !== document.body.dataset.seen) addTopic("all");
      hasMissed = false;
      if (isAway) showAway(false);
    });
    source.addEventListener("changed", (event) => {
      lastHeard = Date.now();
      event.data.split(" ").forEach(addTopic);
    });
    source.addEventListener("still", () => (lastHeard = Date.now()));
    source.onerror = disconnected;
  }

  // A server that is cut off does not refuse connections: only a timeout notices it.
  const fetchPage = () => fetch(location.href, { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(RESPONSE_MS) });

  async function disconnected() {
    leave();
    if (document.hidden || (await isLoggedOut())) return;
    showAway(true);
    setTimeout(follow, RETRY_MS);
  }

  // When the session has ended, the server redirects to the log-in.
  async function isLoggedOut(given) {
    const response = given ?? (await fetchPage().catch(() => null));
    if (!response?.redirected || !new URL(response.url).pathname.endsWith("/ui/login")) return false;
    isOutdated = true;
    showLine("You are no longer logged in. Log in in another tab, then reload this page.");
    return true;
  }

  function leave() {
    if (source) hasMissed = true;
    source?.close();
    source = null;
  }

  function showAway(is) {
    isAway = is;
    showLine(is ? "The server does not answer. This page may be out of date; trying again." : "");
  }

  // Shows a line at the top. It is kept when another page is swapped in.
  let shownText = "";
  function showLine(text = shownText) {
    shownText = text;
    const line = document.getElementById("offline");
    if (line) line.textContent = text;
  }

  function addTopic(topic) {
    if (isOutdated) return;
    changed.add(topic);
    if (timer) return;
    timer = setTimeout(refresh, Math.max(0, lastFetch + GAP_MS - Date.now()));
  }

  const isAffected = (region, topics) =>
    topics.has("all") || region.dataset.live.split(" ").some((topic) => topics.has(topic));

  const morphing = {
    morphStyle: "outerHTML",
    ignoreActiveValue: true,
    callbacks: {
      // keep what a person has opened or checked
      beforeAttributeUpdated: (name, node) =>
        !((name === "open" && node.tagName === "DETAILS") || (name === "checked" && node.type === "checkbox")),
    },
  };

  async function refresh() {
    const topics = changed;
    changed = new Set();
    const find = () => [...document.querySelectorAll("[data-live]")].filter((region) => isAffected(region, topics));
    if (find().length) {
      const at = location.href;
      try {
        const response = await fetchPage();
        if (await isLoggedOut(response)) return;
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        // unless the operator is on another page by now
        if (response.ok && at === location.href) find().forEach((region) => replaceRegion(region, page));
      } catch {
        // the stream notices when the server is back
      }
    }
    lastFetch = Date.now();
    timer = null;
    if (changed.size) timer = setTimeout(refresh, GAP_MS);
  }

  function replaceRegion(region, page) {
    const fresh = page.getElementById(region.id);
    if (!fresh) return;
    const id = region.id;
    Idiomorph.morph(region, fresh, morphing);
    htmx.process(document.getElementById(id));
  }

  setInterval(() => {
    if (source && Date.now() - lastHeard > SILENCE_MS) disconnected();
  }, 5000);

  // a hidden page closes its stream: browsers allow few connections to one server
  document.addEventListener("visibilitychange", () => (document.hidden ? leave() : follow()));
  addEventListener("pagehide", leave);
  addEventListener("pageshow", follow);

  // ---- pages that are swapped in

  document.addEventListener("htmx:afterSettle", (event) => {
    showLine();
    editor();
    // moves the focus, so that screen readers announce the new page
    if (event.detail.boosted) document.getElementById("main")?.focus({ preventScroll: true });
  });
  document.addEventListener("htmx:sendError", () => showAway(true));

  // A response that is on its way does not have this character, and would remove it; the form sends
  // another request.
  document.addEventListener("input", (event) => {
    const form = event.target.closest?.("form[data-hx-sync]");
    if (form) htmx.trigger(form, "htmx:abort");
  });

  // ---- the editor of plans: line numbers, and marks at lines with problems

  function editor() {
    const text = document.getElementById("source");
    const gutter = document.getElementById("gutter");
    if (!text || !gutter) return;
    const lines = text.value.split("\n").length;
    const wrong = new Set([...document.querySelectorAll("#problems [data-line]")].map((item) => Number(item.dataset.line)));
    const row = (_, i) => {
      const line = document.createElement("span");
      line.textContent = `${i + 1}\n`;
      if (wrong.has(i + 1)) line.className = "wrong";
      return line;
    };
    gutter.replaceChildren(...Array.from({ length: lines }, row));
    gutter.scrollTop = text.scrollTop;
    if (text.dataset.watched) return;
    text.dataset.watched = "yes";
    text.addEventListener("input", editor);
    text.addEventListener("scroll", () => (gutter.scrollTop = text.scrollTop));
  }

  function goTo(line) {
    const text = document.getElementById("source");
    const before = text.value.split("\n").slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
    const end = text.value.indexOf("\n", before);
    text.focus();
    text.setSelectionRange(before, end < 0 ? text.value.length : end);
    text.scrollTop = (line - 4) * (text.scrollHeight / text.value.split("\n").length);
  }

  // ---- buttons

  async function copy(button) {
    const from = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(from.textContent);
    } catch {
      // over plain HTTP, browsers allow pages to copy only a selection
      getSelection().selectAllChildren(from);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (button) copy(button);
    const line = event.target.closest?.("#problems [data-line] button");
    if (line) goTo(Number(line.closest("[data-line]").dataset.line));
  });

  document.addEventListener("change", (event) => {
    const all = event.target.closest?.("[data-all]");
    if (!all) return;
    document.querySelectorAll(`input[type=checkbox][name="${all.dataset.all}"]`).forEach((box) => (box.checked = all.checked));
  });

  document.addEventListener("DOMContentLoaded", () => {
    editor();
    follow();
  });
})();
