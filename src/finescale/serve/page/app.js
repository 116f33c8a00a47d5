// The page: chosen pictures are sent one by one, jobs live on the server and are followed by one stream of events.

import "/compare.js";

const $ = (id) => document.getElementById(id);
const jobs = new Map(); // id -> what the server says of it
const rows = new Map(); // id -> its row
const previews = new Map(); // id -> address of the picture sent from here, until the server has one to show
let chosen = []; // {file, address, size, row}
let models = { models: [], default: "", limits: {} };
let shown = null; // id of the job in the viewer

const LABELS = { "auto": "By each picture", "default": "Clean pictures", "default-photo": "Photos from the web" };
const FORMATS = { jpg: "JPEG", webp: "WebP", tif: "TIFF" };

const make = (tag, facts = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), facts);
  element.append(...children.filter((child) => child !== null));
  return element;
};
const announce = (text) => { $("announce").textContent = text; };
const pixels = (size) => size ? `${size[1].toLocaleString("en")} × ${size[0].toLocaleString("en")}` : "";
const bytes = (count) => count < 1e6 ? `${Math.max(1, Math.round(count / 1e3))} kB` : `${(count / 1e6).toFixed(count < 1e7 ? 1 : 0)} MB`;
const time = (seconds) => seconds < 1.5 ? "1 second" : seconds < 90 ? `${Math.round(seconds)} seconds`
  : seconds < 5400 ? `${Math.round(seconds / 60)} minutes` : `${(seconds / 3600).toFixed(1)} hours`;

// ---- settings

function network() { return models.models.find((model) => model.id === $("network").value) ?? models.models[0]; }
function scale() { return Number(document.querySelector("[name=scale]:checked")?.value); }
function offer() { return network()?.scales.find((one) => one.scale === scale()); }

function showNetworks() {
  const kept = $("network").value || models.default;
  $("network").replaceChildren(...models.models.map((model) => make("option", {
    value: model.id,
    textContent: LABELS[model.id] ?? model.id,
  })));
  $("network").value = models.models.some((model) => model.id === kept) ? kept : models.default;
  showScales();
}

function showScales() {
  const offered = network().scales.map((one) => one.scale);
  const kept = offered.includes(scale()) ? scale() : offered.includes(2) ? 2 : offered[0];
  $("scale").replaceChildren(...offered.map((one) => make("label", {},
    make("input", { type: "radio", name: "scale", value: one, checked: one === kept }), `${one}×`)));
  showFacts();
}

function showFacts() {
  const one = offer();
  $("network-facts").textContent = network().made_for;
  $("expert-facts").textContent = `Network ${network().id} (${network().family}), ${bytes(one.bytes)}, `
    + `${one.parameters.toLocaleString("en")} parameters. Licence: ${network().licence}.`;
  $("quality").disabled = !["jpg", "webp", "avif"].includes($("format").value);
  showEstimate();
}

function settings() {
  const values = { network: $("network").value, scale: scale(), format: $("format").value };
  if ($("ensemble").checked) values.ensemble = true;
  for (const name of ["quality", "long_side"]) if ($(name).value && !$(name).disabled) values[name] = $(name).value;
  return values;
}

function showEstimate() {
  $("waiting").hidden = !chosen.length;
  if (!chosen.length || !offer()) return;
  $("go").textContent = chosen.length === 1 ? "Enlarge" : `Enlarge ${chosen.length} pictures`;
  const known = chosen.filter((one) => one.size);
  const lr = known.reduce((sum, one) => sum + one.size[0] * one.size[1], 0);
  const longest = Number($("long_side").value);
  const final = ([height, width]) => {
    const factor = longest ? longest / Math.max(height, width) : scale();
    return [Math.round(height * factor), Math.round(width * factor)];
  };
  const sr = known.reduce((sum, one) => { const [height, width] = final(one.size); return sum + height * width; }, 0);
  const perPixel = { png: 1.7, jpg: 0.55, webp: 0.45, avif: 0.3, tif: 1.9, bmp: 3 }[$("format").value];
  const parts = [];
  if (known.length === 1) parts.push(`${pixels(known[0].size)} → ${pixels(final(known[0].size))} pixels`);
  if (sr) parts.push(`about ${bytes(sr * perPixel)}`);
  const rate = offer().seconds_per_megapixel;
  if (rate !== null && lr) parts.push(`about ${time(rate * lr / 1e6 * ($("ensemble").checked ? 8 : 1))}`);
  else parts.push("how long is not known yet");
  if (known.some((one) => one.size[0] * one.size[1] > models.limits.pixels)) parts.push("a picture is too large for this server");
  $("estimate").textContent = parts.join(" · ");
}

// ---- choosing

async function add(files) {
  for (const file of files) {
    if (!file.type.startsWith("image/") && !/\.(tiff?|hei[cf]|avif|bmp|webp|png|jpe?g|gif)$/i.test(file.name)) {
      addRefused(file.name, { message: "This is not a picture", hint: "Choose a PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF or HEIC file." });
      continue;
    }
    const one = { file, address: URL.createObjectURL(file), size: null };
    const image = make("img", { alt: "", src: one.address });
    const remove = make("button", { type: "button", textContent: "✕", ariaLabel: `Remove ${file.name}` });
    remove.addEventListener("click", () => drop(one));
    image.addEventListener("load", () => { one.size = [image.naturalHeight, image.naturalWidth]; showEstimate(); });
    image.addEventListener("error", () => image.replaceWith(make("div", { className: "blank" })));
    one.row = make("li", {}, image, make("span", { textContent: file.name, title: file.name }), remove);
    $("chosen").append(one.row);
    chosen.push(one);
  }
  announce(`${chosen.length} pictures chosen`);
  showEstimate();
  $("go").scrollIntoView({ block: "nearest" });
}

function drop(one, isSent = false) {
  if (!isSent) URL.revokeObjectURL(one.address);
  one.row.remove();
  chosen = chosen.filter((other) => other !== one);
  showEstimate();
}

async function send() {
  const values = settings();
  $("go").disabled = true;
  try {
    while (chosen.length) {
      const one = chosen[0];
      const form = new FormData();
      for (const [name, value] of Object.entries(values)) form.append(name, value);
      form.append("image", one.file, one.file.name || "pasted.png");
      const answer = await fetch("/v1/jobs", { method: "POST", body: form });
      if (answer.status === 429 || answer.status === 503) {
        $("estimate").textContent = "The server is busy; the next picture is sent as soon as there is room.";
        await new Promise((go) => setTimeout(go, 1000 * Math.min(5, Number(answer.headers.get("Retry-After") ?? 2))));
        continue;
      }
      const said = await answer.json();
      drop(one, answer.ok);
      if (!answer.ok) { addRefused(one.file.name, said.error); continue; }
      if (one.size) previews.set(said.id, one.address);
      if (jobs.has(said.id)) draw(jobs.get(said.id)); // the stream of events was faster
      else update(said);
    }
  } catch {
    $("estimate").textContent = "The server cannot be reached. Your pictures are still here; try again.";
  } finally {
    $("go").disabled = false;
  }
}

function addRefused(name, error) {
  const row = make("li", { className: "failed" }, make("div", { className: "thumb" }),
    make("div", {}, make("p", { className: "name", textContent: name }),
      make("p", { className: "said", textContent: `${error.message}. ${error.hint}` })));
  $("jobs").prepend(row);
  $("results").hidden = false;
}

// ---- jobs

function sentence(job) {
  if (job.status === "queued") return "Waiting";
  if (job.status === "running") {
    if (!job.tiles_total) return "Starting";
    const left = job.seconds_left ? `, about ${time(job.seconds_left)} left` : "";
    return job.tiles_total === 1 ? `Working${left}` : `Part ${job.tiles_done} of ${job.tiles_total}${left}`;
  }
  if (job.status === "done")
    return `${pixels(job.input_size)} → ${pixels(job.output_size)} · ${bytes(job.result_bytes)} · ${time(job.seconds)}`;
  return job.status === "cancelled" ? "Cancelled" : `${reason(job)}. ${job.error.hint}`;
}

const plain = (note) => note[0].toUpperCase() + note.slice(1).replace(/\bdefault-photo\b/, `“${LABELS["default-photo"]}”`);
const reason = (job) => plain(job.error.message.replace(`${job.name}: `, ""));

function update(job) {
  const before = jobs.get(job.id);
  jobs.set(job.id, job);
  if (!rows.has(job.id)) {
    rows.set(job.id, make("li"));
    $("jobs").prepend(rows.get(job.id));
  }
  if (before?.status !== job.status) draw(job);
  else showProgress(job);
  if (before && before.status !== job.status && ["done", "failed"].includes(job.status)) {
    announce(`${job.name}: ${job.status === "done" ? "done" : job.error.message}`);
    loadModels();
  }
  showBar();
}

function showProgress(job) {
  const row = rows.get(job.id);
  row.querySelector(".said").textContent = sentence(job);
  const bar = row.querySelector("progress");
  if (bar && job.tiles_total) { bar.max = job.tiles_total; bar.value = job.tiles_done; }
}

function forgetPreview(id) {
  if (previews.has(id)) URL.revokeObjectURL(previews.get(id));
  previews.delete(id);
}

function draw(job) {
  const row = rows.get(job.id);
  row.className = job.status;
  const isOver = !["queued", "running"].includes(job.status);
  const button = (text, act, label) => {
    const made = make("button", { type: "button", textContent: text, ariaLabel: label ?? `${text}: ${job.name}` });
    made.addEventListener("click", act);
    return made;
  };
  const canShow = job.status === "done" && job.viewable;
  if (canShow) forgetPreview(job.id);
  const preview = previews.get(job.id);
  const thumb = canShow
    ? make("button", { type: "button", className: "thumb", ariaLabel: `Compare: ${job.name}` },
      make("img", { src: `/v1/jobs/${job.id}/view/thumbnail`, alt: "", loading: "lazy" }))
    : make("div", { className: "thumb" }, preview ? make("img", { src: preview, alt: "" }) : null);
  if (canShow) thumb.addEventListener("click", () => view(job.id));
  const actions = make("div", { className: "buttons actions" });
  if (!isOver) actions.append(button("Cancel", () => act(job, "DELETE")));
  if (job.status === "done") {
    if (canShow) actions.append(button("Compare", () => view(job.id)));
    actions.append(make("a", { className: "button main", href: `/v1/jobs/${job.id}/result`, download: job.result_name, textContent: "Download" }));
  }
  if (["failed", "cancelled"].includes(job.status)) actions.append(button("Try again", () => act(job, "POST", "/retry")));
  if (isOver) {
    const remove = button("✕", () => act(job, "DELETE"), `Delete: ${job.name}`);
    remove.classList.add("delete");
    actions.append(remove);
  }
  row.replaceChildren(thumb,
    make("div", {}, make("p", { className: "name", textContent: job.name, title: job.name }),
      make("p", { className: "said" }), job.status === "running" ? make("progress", { ariaLabel: `Progress of ${job.name}` }) : null),
    actions);
  if (job.notes.length)
    row.append(make("ul", { className: "notes" }, ...job.notes.map((note) => make("li", { textContent: plain(note) }))));
  showProgress(job);
}

function forget(id) {
  forgetPreview(id);
  rows.get(id)?.remove();
  rows.delete(id);
  jobs.delete(id);
  if (shown === id) $("viewer").close();
  showBar();
}

function showBar() {
  $("results").hidden = !$("jobs").children.length;
  const all = [...jobs.values()];
  const numDone = all.filter((job) => job.status === "done").length;
  const isBusy = all.some((job) => ["queued", "running"].includes(job.status));
  $("count").textContent = isBusy && all.length > 1 ? `${numDone} of ${all.length} done` : "";
  $("all").hidden = numDone < 2;
}

async function act(job, method, more = "") {
  const answer = await fetch(`/v1/jobs/${job.id}${more}`, { method });
  if (method === "DELETE" && (answer.status === 404 || !["queued", "running"].includes(job.status))) forget(job.id);
}

// ---- viewer

function view(id) {
  const job = jobs.get(id);
  shown = id;
  $("viewer-name").textContent = job.name;
  $("viewer-size").textContent = `${pixels(job.input_size)} → ${pixels(job.output_size)}`;
  $("viewer-download").href = `/v1/jobs/${id}/result`;
  $("viewer-download").download = job.result_name;
  $("viewer-facts").replaceChildren(
    make("span", { textContent: `${job.input_format}, ${bytes(job.input_bytes)} → ${FORMATS[job.format] ?? job.format.toUpperCase()}, ${bytes(job.result_bytes)}` }),
    make("span", { textContent: `${job.depth} bits per channel, ${job.profile ? `colour profile ${job.profile}` : "no colour profile"}` }),
    make("span", { textContent: `Network ${job.computed_by ?? job.network}, ${job.scale}×` }),
    ...job.notes.map((note) => make("span", { className: "note", textContent: plain(note) })));
  if (!$("viewer").open) $("viewer").showModal();
  $("compare").show(`/v1/jobs/${id}/view/input`, `/v1/jobs/${id}/view/result`, job.output_size);
  $("compare").handle.focus();
}

$("compare").addEventListener("view", () => { $("zoom").textContent = `${Math.round(100 * $("compare").zoom)} %`; });
$("fit").addEventListener("click", () => $("compare").fit());
$("one").addEventListener("click", () => $("compare").actual());
$("in").addEventListener("click", () => $("compare").zoomBy(1.5));
$("out").addEventListener("click", () => $("compare").zoomBy(1 / 1.5));
$("close").addEventListener("click", () => $("viewer").close());
$("viewer").addEventListener("close", () => { shown = null; });
$("viewer").addEventListener("keydown", (event) => {
  const step = event.shiftKey ? 200 : 60;
  const keys = {
    "+": () => $("compare").zoomBy(1.5), "=": () => $("compare").zoomBy(1.5), "-": () => $("compare").zoomBy(1 / 1.5),
    "0": () => $("compare").fit(), "1": () => $("compare").actual(),
    ArrowLeft: () => $("compare").pan(step, 0), ArrowRight: () => $("compare").pan(-step, 0),
    ArrowUp: () => $("compare").pan(0, step), ArrowDown: () => $("compare").pan(0, -step),
  };
  if (keys[event.key] && !event.ctrlKey && !event.metaKey) { event.preventDefault(); keys[event.key](); }
});

// ---- what happens

$("choose").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", () => { add($("files").files); $("files").value = ""; });
$("go").addEventListener("click", send);
$("clear").addEventListener("click", () => [...chosen].forEach((one) => drop(one)));
$("network").addEventListener("change", showScales);
$("settings").addEventListener("input", showFacts);
$("settings").addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("paste", (event) => { if (event.clipboardData.files.length) add(event.clipboardData.files); });
document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dragging"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dragging"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  add(event.dataTransfer.files);
});

async function loadModels() {
  models = await (await fetch("/v1/models")).json();
  showNetworks();
}

function follow() {
  const stream = new EventSource("/v1/events");
  stream.addEventListener("open", () => { $("connection").hidden = true; loadModels(); });
  stream.addEventListener("jobs", (event) => {
    const known = JSON.parse(event.data).jobs;
    for (const id of [...jobs.keys()]) if (!known.some((job) => job.id === id)) forget(id);
    known.forEach(update);
  });
  stream.addEventListener("job", (event) => update(JSON.parse(event.data)));
  stream.addEventListener("deleted", (event) => forget(JSON.parse(event.data).id));
  stream.addEventListener("error", () => {
    $("connection").hidden = false;
    if (stream.readyState === EventSource.CLOSED) setTimeout(follow, 2000);
  });
}

loadModels().catch(() => { $("connection").hidden = false; });
follow();
