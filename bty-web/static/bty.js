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

  // ---- lists of choices, narrowed while their search is typed

  document.addEventListener("input", (event) => {
    const search = event.target.closest?.("[data-narrows]");
    if (!search) return;
    const text = search.value.trim().toLowerCase();
    for (const choice of document.getElementById(search.dataset.narrows).children)
      choice.hidden = !choice.textContent.toLowerCase().includes(text);
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

  // ---- uploads of images: the protocol tus 1.0, in chunks that proxies let through. An interrupted
  // upload continues, also when the same file is chosen again in a new page.

  const CHUNK_BYTES = 8 << 20;
  const UPLOAD_RETRIES_MAX = 30;
  let uploading = null;

  // Returns the response of a request to the server; null without an answer.
  function exchange(method, url, { headers = {}, body = null, onProgress, request = new XMLHttpRequest() } = {}) {
    return new Promise((done) => {
      request.open(method, url);
      Object.entries({ "Tus-Resumable": "1.0.0", ...headers }).forEach(([name, value]) => request.setRequestHeader(name, value));
      if (onProgress) request.upload.onprogress = (event) => onProgress(event.loaded);
      request.onload = () => done(request);
      request.onerror = request.onabort = () => done(null);
      request.send(body);
    });
  }

  const detailOf = (response) => {
    try {
      return JSON.parse(response.responseText).detail;
    } catch {
      return `The server answered ${response.status}.`;
    }
  };

  const encoded = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));

  class Upload {
    constructor(form) {
      this.form = form;
      this.file = form.elements.file.files[0];
      this.root = form.dataset.upload;
      this.key = `bty-upload ${this.root} ${this.file.name} ${this.file.size} ${this.file.lastModified}`;
      this.begun = performance.now();
    }

    // Returns where the upload continues: its address, and the number of bytes that the server has.
    async start() {
      const known = localStorage.getItem(this.key);
      const response = known && (await exchange("HEAD", known));
      if (response?.status === 200) return [known, Number(response.getResponseHeader("Upload-Offset"))];
      const { name, description, arch } = this.form.elements;
      const metadata = Object.entries({ filename: this.file.name, name: name.value, description: description.value, arch: arch.value })
        .filter(([, value]) => value)
        .map(([key, value]) => `${key} ${encoded(value)}`);
      const created = await exchange("POST", this.root, { headers: { "Upload-Length": this.file.size, "Upload-Metadata": metadata.join(",") } });
      if (created?.status !== 201) throw new Error(created ? detailOf(created) : "The server does not answer. Try again.");
      const at = created.getResponseHeader("Location");
      localStorage.setItem(this.key, at);
      return [at, 0];
    }

    async run() {
      let [at, offset] = await this.start();
      const first = offset;
      let failures = 0;
      for (;;) {
        const body = this.file.slice(offset, offset + CHUNK_BYTES);
        this.request = new XMLHttpRequest();
        const headers = { "Upload-Offset": offset, "Content-Type": "application/offset+octet-stream" };
        const onProgress = (sent) => this.show(offset + sent, first);
        const response = await exchange("PATCH", at, { headers, body, onProgress, request: this.request });
        if (this.isCancelled) return this.cancel(at);
        if (response?.status === 204) {
          offset += body.size;
          failures = 0;
          if (offset >= this.file.size) break;
          continue;
        }
        // the server knows what has arrived; a conflict means that it knows better than this page
        if (response && response.status !== 409 && response.status < 500) throw this.refused(detailOf(response));
        failures += 1;
        if (failures > UPLOAD_RETRIES_MAX) throw new Error("The server does not answer. Choose the same file again to continue.");
        this.line("The connection was interrupted; continuing.");
        await new Promise((resume) => setTimeout(resume, Math.min(RETRY_MS * failures, 15000)));
        const status = await exchange("HEAD", at);
        if (status?.status === 200) offset = Number(status.getResponseHeader("Upload-Offset"));
        else if (status?.status === 404) throw this.refused(response ? detailOf(response) : "The connection ended with the upload. If the image is not in the list, choose it again.");
      }
      localStorage.removeItem(this.key);
    }

    refused(detail) {
      localStorage.removeItem(this.key);
      return new Error(detail);
    }

    async cancel(at) {
      await exchange("DELETE", at);
      throw this.refused("The upload is cancelled.");
    }

    show(done, first) {
      const { size } = this.file;
      const seconds = (performance.now() - this.begun) / 1000;
      const rate = (done - first) / Math.max(seconds, 0.1);
      const minutes = Math.ceil((size - done) / Math.max(rate, 1) / 60);
      const left = done >= size ? "The server is reading the image." : `${(rate / 1048576).toFixed(1)} MiB/s, ${minutes} min left`;
      const percent = Math.floor((100 * done) / Math.max(size, 1));
      const bar = this.form.querySelector("progress");
      bar.value = percent;
      this.line(`${percent} % · ${left}`);
    }

    line(text) {
      this.form.querySelector(".rates").textContent = text;
    }
  }

  async function startUpload(form) {
    if (uploading) return;
    const result = form.querySelector(".upload-result");
    const parts = [form.querySelector(".upload-progress"), form.querySelector("[data-upload-cancel]")];
    uploading = new Upload(form);
    parts.forEach((part) => (part.hidden = false));
    form.querySelector("button.main").disabled = true;
    result.className = "upload-result";
    result.textContent = "";
    try {
      await uploading.run();
      result.textContent = `${uploading.file.name} is in the catalog.`;
      form.reset();
    } catch (error) {
      result.classList.add("error");
      result.textContent = error.message;
    }
    uploading = null;
    parts.forEach((part) => (part.hidden = true));
    form.querySelector("button.main").disabled = false;
  }

  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form[data-upload]")) return;
    event.preventDefault();
    startUpload(event.target);
  });
  addEventListener("beforeunload", (event) => uploading && event.preventDefault());

  // ---- tiles of machines: one stop of the Tab key; arrow keys move between them

  const TILES_IN_A_ROW = 40;
  const TILE_MOVES = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -TILES_IN_A_ROW, ArrowDown: TILES_IN_A_ROW, Home: -Infinity, End: Infinity };

  document.addEventListener("keydown", (event) => {
    const tile = event.target.closest?.("[data-tiles] svg a");
    const move = TILE_MOVES[event.key];
    if (!tile || move === undefined) return;
    const tiles = [...tile.closest("[data-tiles]").querySelectorAll("svg a")];
    const next = tiles[Math.max(0, Math.min(tiles.length - 1, tiles.indexOf(tile) + move))];
    event.preventDefault();
    tiles.forEach((other) => other.setAttribute("tabindex", other === next ? "0" : "-1"));
    next.focus();
  });

  // ---- menus: one is open at a time, and closes with Escape or a click elsewhere

  function closeMenus(except) {
    document.querySelectorAll("details.menu[open]").forEach((menu) => menu.contains(except) || (menu.open = false));
  }
  document.addEventListener("click", (event) => {
    closeMenus(event.target);
    if (!event.target.closest?.("[data-upload-cancel]") || !uploading) return;
    uploading.isCancelled = true;
    uploading.request?.abort();
  });
  document.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && event.target.closest?.("details.menu[open]");
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });

  document.addEventListener("DOMContentLoaded", () => {
    editor();
    follow();
  });
})();
