// What pages do beyond plain links and forms. Without this script they are whole, and stand still.
"use strict";

(() => {
  // A page that fetches itself again does so at most once in this time.
  const GAP_MS = 1000;
  const RETRY_MS = 2000;
  // A server that says nothing for so long has gone: it says something every ten seconds.
  const SILENCE_MS = 25000;
  const ANSWER_MS = 10000;

  let source = null;
  let lastHeard = 0;
  let isAway = false;
  let wasAway = false;
  let isOld = false;
  let wanted = new Set();
  let timer = null;
  let lastFetch = 0;

  const follows = () => document.body.dataset.follow;

  // ---- what happens on the server

  function follow() {
    if (source || isOld || document.hidden || !follows()) return;
    source = new EventSource(follows());
    lastHeard = Date.now();
    source.addEventListener("hello", (event) => {
      lastHeard = Date.now();
      const [version] = event.data.split(" ");
      // loading it again by itself would lose what is being typed
      if (version !== document.body.dataset.seen.split(" ")[0]) {
        isOld = true;
        return say(`The server is version ${version} now. Load this page again when nothing in it is unsaved.`);
      }
      // what was missed meanwhile; how far a flash is, is no event
      if (wasAway || event.data !== document.body.dataset.seen) want("all");
      wasAway = false;
      if (isAway) tellAway(false);
    });
    source.addEventListener("changed", (event) => {
      lastHeard = Date.now();
      event.data.split(" ").forEach(want);
    });
    source.addEventListener("still", () => (lastHeard = Date.now()));
    source.onerror = lose;
  }

  // A server that is cut off does not refuse: it never answers.
  const look = () => fetch(location.href, { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(ANSWER_MS) });

  async function lose() {
    leave();
    if (document.hidden || (await isOutside())) return;
    tellAway(true);
    setTimeout(follow, RETRY_MS);
  }

  // The session has ended: the server answers, and leads to the log-in.
  async function isOutside(given) {
    const response = given ?? (await look().catch(() => null));
    if (!response?.redirected || !new URL(response.url).pathname.endsWith("/ui/login")) return false;
    isOld = true;
    say("You are no longer logged in. Log in in another tab, then load this page again.");
    return true;
  }

  function leave() {
    if (source) wasAway = true;
    source?.close();
    source = null;
  }

  function tellAway(is) {
    isAway = is;
    say(is ? "The server does not answer. What is shown is from before; it is tried again." : "");
  }

  // The line at the top, which stays when another page is swapped in.
  let said = "";
  function say(text = said) {
    said = text;
    const line = document.getElementById("offline");
    if (line) line.textContent = text;
  }

  function want(topic) {
    if (isOld) return;
    wanted.add(topic);
    if (timer) return;
    timer = setTimeout(refresh, Math.max(0, lastFetch + GAP_MS - Date.now()));
  }

  const isWanted = (region, topics) =>
    topics.has("all") || region.dataset.live.split(" ").some((topic) => topics.has(topic));

  const morphing = {
    morphStyle: "outerHTML",
    ignoreActiveValue: true,
    callbacks: {
      // what a person has opened or ticked stays so
      beforeAttributeUpdated: (name, node) =>
        !((name === "open" && node.tagName === "DETAILS") || (name === "checked" && node.type === "checkbox")),
    },
  };

  async function refresh() {
    const topics = wanted;
    wanted = new Set();
    const find = () => [...document.querySelectorAll("[data-live]")].filter((region) => isWanted(region, topics));
    if (find().length) {
      const at = location.href;
      try {
        const response = await look();
        if (await isOutside(response)) return;
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        // the operator may have gone on meanwhile
        if (response.ok && at === location.href) find().forEach((region) => renew(region, page));
      } catch {
        // the stream tells when the server is back
      }
    }
    lastFetch = Date.now();
    timer = null;
    if (wanted.size) timer = setTimeout(refresh, GAP_MS);
  }

  function renew(region, page) {
    const fresh = page.getElementById(region.id);
    if (!fresh) return;
    const id = region.id;
    Idiomorph.morph(region, fresh, morphing);
    htmx.process(document.getElementById(id));
  }

  setInterval(() => {
    if (source && Date.now() - lastHeard > SILENCE_MS) lose();
  }, 5000);

  // a page that nobody sees keeps no connection: browsers have few for one server
  document.addEventListener("visibilitychange", () => (document.hidden ? leave() : follow()));
  addEventListener("pagehide", leave);
  addEventListener("pageshow", follow);

  // ---- pages that are swapped in

  document.addEventListener("htmx:afterSettle", (event) => {
    say();
    editor();
    // readers of screens hear of the new page
    if (event.detail.boosted) document.getElementById("main")?.focus({ preventScroll: true });
  });
  document.addEventListener("htmx:sendError", () => tellAway(true));

  // An answer that is still on its way knows nothing of this character, and would take it away; the form asks again.
  document.addEventListener("input", (event) => {
    const form = event.target.closest?.("form[data-hx-sync]");
    if (form) htmx.trigger(form, "htmx:abort");
  });

  // ---- the editor of plans: numbers beside lines, marks where something is wrong

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
      // plain HTTP: browsers let pages copy only what is selected
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
