// What the page can do besides its links and forms. Nothing here makes HTML out of text.
"use strict";

document.documentElement.classList.add("js");

document.addEventListener("DOMContentLoaded", () => {
  if (!document.getElementById("list")) return;

  const $ = (id) => document.getElementById(id);
  const language = document.documentElement.lang;
  const words = JSON.parse(document.body.dataset.words);
  const problems = JSON.parse(document.body.dataset.problems);
  const here = document.body.dataset.folder;

  // Texts.

  const say = (key, values = {}) => (words[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
  const plural = (key, n, values = {}) => (words[key + "One"] && n === 1)
    ? say(key + "One", { n: number(n), ...values })
    : say(key + "Many", { n: number(n), ...values });
  const number = (n) => new Intl.NumberFormat(language).format(n);

  function size(bytes) {
    if (bytes < 1000) return `${bytes} B`;
    const units = ["kB", "MB", "GB", "TB", "PB", "EB"];
    let unit = 0;
    let value = bytes / 1000;
    while (value >= 999.5 && unit + 1 < units.length) {
      value /= 1000;
      unit += 1;
    }
    const shown = value < 99.95 ? String(Math.round(value * 10) / 10) : String(Math.round(value));
    return `${shown} ${units[unit]}`;
  }

  function span(seconds) {
    if (seconds < 60) return say("seconds", { n: Math.max(1, Math.round(seconds)) });
    if (seconds < 5400) return say("minutes", { n: Math.round(seconds / 60) });
    return say("hours", { n: Math.round(seconds / 3600) });
  }

  let silence = 0;

  // Says something; aloud only, if it is seen anyway.
  function tell(text, isSeen = false) {
    $("told").replaceChildren(make("p", { textContent: text, className: isSeen ? "quiet" : "" }));
    clearTimeout(silence);
    silence = setTimeout(() => $("told").replaceChildren(), 10000);
  }

  // What is fetched has a whole address: a relative one would take over the password of a page at http://name:password@host/,
  // and browsers refuse that. The history wants a relative one, for the same reason.
  const addressOf = (path) => location.origin + path;
  // In a path, all but slashes is encoded.
  const pathOf = (name) => addressOf("/files/" + name.split("/").map(encodeURIComponent).join("/"));
  const leafOf = (name) => name.replace(/\/$/, "").split("/").pop();

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  // Why an answer is no success.
  function why(status, text) {
    if (status === 0) return say("unreachable");
    try {
      const { error, message } = JSON.parse(text);
      if (message) return problems[error] ?? message;
    } catch {
      // It is not from this server, or cut.
    }
    return say("status", { status });
  }

  // The list.

  const format = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
  const exact = new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "long" });
  const collate = new Intl.Collator(language, { numeric: true, sensitivity: "base" });
  const isComplete = () => document.body.dataset.complete === "yes";

  function localize() {
    for (const time of document.querySelectorAll("time")) {
      const date = new Date(time.dateTime);
      time.textContent = format.format(date);
      time.title = exact.format(date);
    }
  }

  const rows = () => [...document.querySelectorAll("#table tbody tr")];

  function compare(a, b, by, sign) {
    const kind = (a.dataset.kind === "file") - (b.dataset.kind === "file");
    if (kind) return kind;
    const byName = collate.compare(a.dataset.name, b.dataset.name) || (a.dataset.name < b.dataset.name ? -1 : 1);
    if (by === "name") return sign * byName;
    if (a.dataset.kind === "folder") return byName;
    const value = (row) => (by === "class" ? (row.dataset.class === "deep" ? 1 : 0) : Number(row.dataset[by]));
    return sign * (value(a) - value(b)) || byName;
  }

  function sortBy(link) {
    const head = link.closest("th");
    const by = link.dataset.sort;
    const isUp = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", isUp ? "ascending" : "descending");
    $("table").tBodies[0].append(...rows().sort((a, b) => compare(a, b, by, isUp ? 1 : -1)));
    // So that it stays when the page is loaded again, and is the way back for the link.
    history.replaceState(null, "", `?sort=${isUp ? "" : "-"}${by}`);
    link.href = `?sort=${isUp ? "-" : ""}${by}`;
    tell(say("sorted", { column: link.textContent }), true);
  }

  let telling = 0;

  function filter(isTold) {
    const field = $("find");
    // What was searched for is not what the list is filtered by.
    const text = field.value === field.defaultValue ? "" : field.value.trim().toLowerCase();
    let n = 0;
    for (const row of rows()) {
      const shown = row.dataset.name.slice(here.length).replace(/\/$/, "").toLowerCase();
      row.hidden = !shown.includes(text);
      n += !row.hidden;
    }
    if (!isTold || !$("table")) return;
    // Not at each key.
    clearTimeout(telling);
    telling = setTimeout(() => {
      if (!text) return tell("");
      tell(n === 0 ? say("filteredNone") : plural("filtered", n), n > 0);
    }, 400);
  }

  // Takes the list as it is now; what else is on the page stays.
  async function refresh() {
    const address = new URL(location.href);
    for (const name of ["done", "n"]) address.searchParams.delete(name);
    history.replaceState(null, "", address.pathname + address.search);
    // Who has just emptied a folder sees it empty, and not that it is gone.
    address.searchParams.set("done", "removed");
    let answer;
    try {
      answer = await fetch(addressOf(address.pathname + address.search), { headers: { Accept: "text/html" }, cache: "no-store" });
    } catch {
      return;
    }
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const list = page.getElementById("list");
    if (!list) return;
    const field = $("find");
    const [value, isFocused] = [field.value, document.activeElement === field];
    document.body.dataset.complete = page.body.dataset.complete;
    $("list").replaceChildren(...[...list.childNodes].map((node) => document.importNode(node, true)));
    $("find").value = value;
    if (isFocused) $("find").focus();
    localize();
    filter(false);
  }

  $("list").addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || event.button) return;
    if (link.dataset.sort && isComplete()) {
      event.preventDefault();
      sortBy(link);
    } else if (link.classList.contains("delete")) {
      event.preventDefault();
      remove(link);
    }
  });
  $("list").addEventListener("input", (event) => {
    if (event.target.id === "find") filter(true);
  });

  // Questions.

  // What is chosen in a dialog; empty if it is left.
  function choose(dialog) {
    return new Promise((resolve) => {
      dialog.returnValue = "";
      dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
      dialog.showModal();
    });
  }

  // One at a time.
  let asking = Promise.resolve();

  function ask(question) {
    const answer = asking.then(question);
    asking = answer.catch(() => undefined);
    return answer;
  }

  async function doomed(row) {
    const { kind, name } = row.dataset;
    if (kind === "file") return say("confirmFile", { name: leafOf(name), size: size(Number(row.dataset.size)) });
    const answer = await fetch(`${pathOf(name)}?delimiter=&limit=1000`, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(why(answer.status, await answer.text()));
    const { entries, next } = await answer.json();
    if (next) return say("confirmFolderMore", { name: leafOf(name), n: number(entries.length) });
    const bytes = entries.reduce((sum, entry) => sum + entry.size, 0);
    return plural("confirmFolder", entries.length, { name: leafOf(name), size: size(bytes) });
  }

  async function remove(link) {
    const row = link.closest("tr");
    const { kind, name } = row.dataset;
    try {
      const text = await doomed(row);
      const answer = await ask(() => {
        $("confirm-title").textContent = kind === "file" ? say("confirmFileTitle") : say("confirmFolderTitle");
        $("confirm-text").textContent = text;
        return choose($("confirm"));
      });
      if (answer !== "yes") return link.focus();
      const done = await fetch(pathOf(name) + (kind === "file" ? "" : "?recursive"), {
        method: "DELETE",
        headers: { Accept: "application/json" },
      });
      if (!done.ok) throw new Error(why(done.status, await done.text()));
      tell(say("deleted", { name: leafOf(name) }));
      const shown = rows().filter((other) => !other.hidden);
      const at = shown.indexOf(row);
      const next = (shown[at + 1] ?? shown[at - 1])?.dataset.name;
      await refresh();
      // Those who use the keyboard go on where they were.
      const again = rows().find((other) => other.dataset.name === next);
      (again?.querySelector("a") ?? $("list")).focus();
    } catch (error) {
      const text = error instanceof TypeError ? say("unreachable") : error.message;
      tell(say("notDeleted", { name: leafOf(name), why: text }));
      link.focus();
    }
  }

  // Uploads.

  const AT_ONCE = 3;
  const items = [];
  // What was said for all, as long as uploads go on: replace, keep or nothing.
  let forAll = "";
  let isRefreshNeeded = false;

  class Item {
    constructor(file, path, storageClass) {
      Object.assign(this, { file, storageClass, loaded: 0, state: "waiting" });
      this.name = here + path;
      const name = leafOf(path);
      this.bar = make("progress", { max: Math.max(1, file.size), value: 0 });
      this.bar.setAttribute("aria-label", say("progressNamed", { name }));
      this.text = make("span", { className: "state" });
      this.button = make("button", { type: "button" });
      this.button.addEventListener("click", () => (this.isRunning() ? this.cancel() : this.retry()));
      const label = make("bdi", { textContent: path, className: "file" });
      this.element = make("li", {}, label, this.bar, this.text, this.button);
      this.label = name;
      $("items").append(this.element);
      this.show("waiting");
    }

    isRunning() {
      return this.state === "waiting" || this.state === "running";
    }

    show(state, text = say("waiting")) {
      this.state = state;
      this.element.className = state;
      this.text.textContent = text;
      const isOver = state === "stored" || state === "kept";
      this.button.hidden = isOver;
      this.bar.hidden = !this.isRunning();
      if (isOver) return;
      this.button.textContent = this.isRunning() ? say("cancel") : say("retry");
      const name = this.label;
      this.button.setAttribute("aria-label", this.isRunning() ? say("cancelNamed", { name }) : say("retryNamed", { name }));
    }

    progress(loaded) {
      this.loaded = loaded;
      this.bar.value = this.file.size ? loaded : 1;
      const isWhole = loaded >= this.file.size;
      const { file } = this;
      this.text.textContent = isWhole ? say("finishing") : say("progress", { done: size(loaded), total: size(file.size) });
    }

    cancel() {
      this.request?.abort();
      this.end("cancelled", say("cancelled"));
    }

    retry() {
      this.loaded = 0;
      this.show("waiting");
      begin();
    }

    end(state, text) {
      if (!this.isRunning()) return;
      this.request = null;
      if (state === "stored") this.loaded = this.file.size;
      isRefreshNeeded ||= state === "stored";
      this.show(state, text);
      begin();
    }

    async run() {
      this.show("running");
      this.progress(0);
      try {
        // Whoever would be refused is asked before the whole file is sent.
        let mayReplace = false;
        if (await isThere(this.name)) {
          if (!this.isRunning()) return;
          mayReplace = await this.mayReplace();
          if (!mayReplace) return this.end("kept", say("kept"));
        }
        while (this.isRunning()) {
          const { status, text } = await this.send(mayReplace);
          if (!this.isRunning()) return;
          if (status === 412 && !mayReplace) {
            // Somebody was faster.
            mayReplace = await this.mayReplace();
            if (!mayReplace) return this.end("kept", say("kept"));
          } else if (status === 200 || status === 201) {
            return this.end("stored", status === 200 ? say("replaced") : say("stored"));
          } else {
            return this.end("failed", say("failed", { why: why(status, text) }));
          }
        }
      } catch (error) {
        const text = error instanceof TypeError ? say("unreachable") : error.message;
        this.end("failed", say("failed", { why: text }));
      }
    }

    mayReplace() {
      // It would be refused.
      if (document.body.dataset.replaces === "no") return false;
      return ask(async () => {
        if (!this.isRunning()) return false;
        if (!forAll) {
          $("ask-text").textContent = say("exists", { name: this.name.slice(here.length) });
          $("ask-all").checked = false;
          const answer = (await choose($("ask"))) || "keep";
          if ($("ask-all").checked) forAll = answer;
          return answer === "replace";
        }
        return forAll === "replace";
      });
    }

    send(mayReplace) {
      return new Promise((resolve) => {
        const request = new XMLHttpRequest();
        this.request = request;
        request.open("PUT", pathOf(this.name));
        request.setRequestHeader("Accept", "application/json");
        request.setRequestHeader("Content-Type", "application/octet-stream");
        request.setRequestHeader("Storage-Class", this.storageClass);
        if (this.file.lastModified > 0) {
          request.setRequestHeader("X-OC-Mtime", (this.file.lastModified / 1000).toFixed(3));
        }
        if (!mayReplace) request.setRequestHeader("If-None-Match", "*");
        request.upload.addEventListener("progress", (event) => this.isRunning() && this.progress(event.loaded));
        request.addEventListener("loadend", () => resolve({ status: request.status, text: request.responseText }));
        request.send(this.file);
      });
    }
  }

  // Whether there is an object of this name; it is the first of all that begin with it.
  async function isThere(name) {
    const at = name.lastIndexOf("/") + 1;
    const query = new URLSearchParams({ limit: "1", prefix: name.slice(at) });
    const address = `${pathOf(name.slice(0, at))}?${query}`;
    const answer = await fetch(address, { headers: { Accept: "application/json" }, cache: "no-store" });
    // Who may write without reading is told when the file is there.
    if (answer.status === 403) return false;
    if (!answer.ok) throw new Error(why(answer.status, await answer.text()));
    const { entries } = await answer.json();
    return entries.some((entry) => entry.name === name);
  }

  function begin() {
    let running = items.filter((item) => item.state === "running").length;
    for (const item of items) {
      if (running >= AT_ONCE) break;
      if (item.state !== "waiting") continue;
      running += 1;
      item.run();
    }
    total();
    if (running === 0) over();
  }

  function over() {
    clearInterval(clock);
    clock = 0;
    forAll = "";
    const count = (state) => items.filter((item) => item.state === state && !item.isTold).length;
    const [stored, failed] = [count("stored"), count("failed")];
    for (const item of items) item.isTold = item.state !== "failed" || item.isTold;
    const texts = [];
    if (stored) texts.push(plural("over", stored));
    if (failed) texts.push(say("overFailed", { n: number(failed) }));
    tell(texts.join(" "));
    if (isRefreshNeeded) {
      isRefreshNeeded = false;
      refresh();
    }
  }

  // Rate and time left, over the last seconds.
  let clock = 0;
  let marks = [];

  function total() {
    const counted = items.filter((item) => item.state !== "cancelled" && item.state !== "kept");
    const sum = (of) => counted.reduce((n, item) => n + of(item), 0);
    const [all, done] = [sum((item) => item.file.size), sum((item) => item.loaded)];
    const stored = counted.filter((item) => item.state === "stored").length;
    const failed = counted.filter((item) => item.state === "failed").length;
    const isRunning = items.some((item) => item.isRunning());
    $("all").max = Math.max(1, all);
    $("all").value = all || !counted.length ? done : 1;
    const now = performance.now();
    marks = marks.filter((mark) => now - mark.at < 6000 && mark.done <= done);
    marks.push({ at: now, done });
    const texts = counted.length ? [say("summary", { done: number(stored), n: number(counted.length) })] : [];
    if (failed) texts.push(say("summaryFailed", { failed: number(failed) }));
    if (isRunning) {
      texts.push(say("progress", { done: size(done), total: size(all) }));
      const seconds = (now - marks[0].at) / 1000;
      const rate = seconds > 0.5 ? (done - marks[0].done) / seconds : 0;
      if (rate > 0) {
        texts.push(say("rate", { rate: size(Math.round(rate)) }));
        texts.push(say("left", { time: span((all - done) / rate) }));
      }
    }
    $("all-text").textContent = texts.join(" · ");
    $("cancel-all").hidden = !isRunning;
    $("clear").hidden = isRunning;
  }

  // Takes files: each with the path that it has in what was chosen.
  function take(found) {
    if (!found.length) return tell(say("empty"));
    const below = $("into").value.trim().replace(/^\/+|\/+$/g, "");
    // The browser would go up a folder before anything is sent.
    if (below.split("/").some((part) => part === "." || part === "..")) return tell(say("noFolder"));
    const storageClass = document.querySelector("#upload input[name=class]:checked").value;
    $("uploads").hidden = false;
    marks = items.some((item) => item.isRunning()) ? marks : [];
    for (const { file, path } of found) {
      items.push(new Item(file, (below ? `${below}/` : "") + path, storageClass));
    }
    tell(plural("begun", found.length), true);
    clock ||= setInterval(total, 500);
    begin();
  }

  // A name of a file has no parts: a slash in it is a character, for which there is one that looks so.
  const plainName = (file) => file.name.replaceAll("/", "\u2215");

  function chosen(input) {
    take([...input.files].map((file) => ({ file, path: file.webkitRelativePath || plainName(file) })));
    // So that the same can be chosen again.
    input.value = "";
  }

  // All files below an entry of what was dropped.
  async function walk(entry, above, found) {
    const path = above + entry.name.replaceAll("/", "\u2215");
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject)).catch(() => null);
      if (file) found.push({ file, path });
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      // A part at a time; nothing when all is read.
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)).catch(() => []);
      if (!some.length) return;
      for (const below of some) await walk(below, `${path}/`, found);
    }
  }

  async function dropped(data) {
    const found = [];
    // Entries can be asked for only before the first wait.
    const entries = [...data.items]
      .filter((item) => item.kind === "file")
      .map((item) => ({ entry: item.webkitGetAsEntry?.(), file: item.getAsFile() }));
    for (const { entry, file } of entries) {
      if (entry?.isDirectory) await walk(entry, "", found);
      else if (file) found.push({ file, path: plainName(file) });
    }
    take(found);
  }

  const stamp = () => new Date().toISOString().slice(0, 19).replace(/[-:]/g, "").replace("T", "-");

  function offerUploads() {
    $("files").addEventListener("change", (event) => chosen(event.target));
    const folderInput = make("input", { type: "file", multiple: true, webkitdirectory: true, hidden: true, id: "folder-files" });
    $("upload").append(folderInput);
    folderInput.addEventListener("change", (event) => chosen(event.target));
    $("choose-folder").addEventListener("click", () => folderInput.click());
    $("upload").addEventListener("submit", (event) => event.preventDefault());
    $("cancel-all").addEventListener("click", () => {
      // First those that wait, so that none of them begins.
      for (const item of items.filter((item) => item.state === "waiting")) item.show("cancelled", say("cancelled"));
      for (const item of items) if (item.isRunning()) item.cancel();
      $("files").focus();
    });
    $("clear").addEventListener("click", () => {
      items.splice(0);
      $("items").replaceChildren();
      $("uploads").hidden = true;
      $("files").focus();
    });

    const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
    let depth = 0;
    const mark = (change) => {
      depth = Math.max(0, change);
      document.body.classList.toggle("dropping", depth > 0);
    };
    document.addEventListener("dragenter", (event) => hasFiles(event) && mark(depth + 1));
    document.addEventListener("dragleave", (event) => hasFiles(event) && mark(depth - 1));
    document.addEventListener("dragover", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = "copy";
    });
    document.addEventListener("drop", (event) => {
      mark(0);
      if (!hasFiles(event)) return;
      event.preventDefault();
      dropped(event.dataTransfer);
    });
    document.addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (!files.length) return;
      event.preventDefault();
      // Browsers call each pasted picture the same.
      const named = (file, at) => /^image\.\w+$/.test(file.name)
        ? `pasted-${stamp()}${at ? `-${at + 1}` : ""}.${file.name.split(".").pop()}`
        : plainName(file);
      take(files.map((file, at) => ({ file, path: named(file, at) })));
    });
    window.addEventListener("beforeunload", (event) => {
      if (!items.some((item) => item.isRunning())) return;
      event.preventDefault();
      event.returnValue = say("leave");
    });
  }

  localize();
  // It is not there for who may not upload.
  if ($("upload")) offerUploads();
  // The browser would show a file that is dropped in the place of the page.
  else for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());
  if ($("told").firstChild) tell($("told").textContent);
});
