// The page: sends one picture to /detect, and shows what was found. The slider and the class filter choose among the
// objects of one reply, so they need no further request.

// Objects below this confidence are never shown. It is the left end of the slider.
const LEAST_CONFIDENCE = 0.05;
const MAX_DETECTIONS = 300;
const SVG = "http://www.w3.org/2000/svg";
// Okabe and Ito's palette, in the order of the annotated pictures, and the text colour that is legible on each.
const PALETTE = [
  ["#e69f00", "#000"], ["#56b4e9", "#000"], ["#009e73", "#000"], ["#f0e442", "#000"],
  ["#0072b2", "#fff"], ["#d55e00", "#000"], ["#cc79a7", "#000"],
];

const element = (id) => document.getElementById(id);
const state = { name: "photo.jpg", report: null, hidden: new Set(), address: "", latest: 0 };

const percent = (confidence) => `${Math.round(confidence * 100)}%`;
const colours = (detection) => PALETTE[detection.class_id % PALETTE.length];
const threshold = () => Number(element("confidence").value) / 100;
const isShown = ({ label, confidence }) => confidence >= threshold() && !state.hidden.has(label);

function make(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function makeSvg(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function say(status, error = "") {
  element("status").textContent = status;
  element("error").textContent = error;
}

async function detect(picture) {
  const request = ++state.latest;
  state.name = picture.name || "photo.jpg";
  state.report = null;
  element("result").hidden = true;
  element("boxes").replaceChildren();
  say("Looking for objects …");
  await show(picture);
  try {
    const query = `min_confidence=${LEAST_CONFIDENCE}&max_detections=${MAX_DETECTIONS}`;
    const headers = { "content-type": "application/octet-stream", accept: "application/json" };
    const reply = await fetch(`detect?${query}`, { method: "POST", body: picture, headers });
    const answer = await reply.json();
    // A later picture may have been chosen in the meantime.
    if (request !== state.latest) return;
    if (!reply.ok) throw new Error(answer.error?.message ?? `the server replied ${reply.status}`);
    state.report = answer;
    state.hidden.clear();
    say("");
    listClasses();
    listTimings();
    element("result").hidden = false;
    update();
  } catch (error) {
    if (request === state.latest) say("", `The picture was not accepted: ${error.message}`);
  }
}

// Shows the picture itself. A browser that cannot shows none: the server may still read it.
async function show(picture) {
  URL.revokeObjectURL(state.address);
  state.address = URL.createObjectURL(picture);
  element("picture").src = state.address;
  element("figure").hidden = false;
  try {
    await element("picture").decode();
  } catch {
    element("figure").hidden = true;
  }
}

function update() {
  element("percent").textContent = `${element("confidence").value}%`;
  if (!state.report) return;
  const shown = state.report.detections.filter(isShown);
  drawBoxes(shown);
  const noun = shown.length === 1 ? "object" : "objects";
  element("summary").textContent = `${shown.length} ${noun} found`;
  element("objects").replaceChildren(...shown.map(describe));
  element("json").textContent = JSON.stringify({ ...state.report, detections: shown }, null, 2);
  element("curl").textContent = command();
}

function describe(detection) {
  const { x_min, y_min, x_max, y_max } = detection.box;
  const corners = [x_min, y_min, x_max, y_max].map(Math.round);
  return make(
    "li",
    `${detection.label} ${percent(detection.confidence)}, from ${corners[0]}, ${corners[1]} to ${corners[2]}, ${corners[3]}`,
  );
}

function drawBoxes(shown) {
  const { width, height } = state.report.image;
  const boxes = element("boxes");
  boxes.setAttribute("viewBox", `0 0 ${width} ${height}`);
  // Units of the picture for each pixel of the screen.
  const scale = width / (element("picture").clientWidth || width);
  const size = 14 * scale;
  const placed = [];
  // The most confident come last, so that they are on top.
  boxes.replaceChildren(...[...shown].reverse().map(outline));
  for (const detection of shown) boxes.append(...label(detection, size, { width, height }, placed));
}

function outline(detection) {
  const { x_min, y_min, x_max, y_max } = detection.box;
  return makeSvg("rect", {
    x: x_min, y: y_min, width: x_max - x_min, height: y_max - y_min,
    stroke: colours(detection)[0], "data-label": detection.label,
  });
}

function label(detection, size, picture, placed) {
  const [ground, ink] = colours(detection);
  const text = `${detection.label} ${percent(detection.confidence)}`;
  const area = { width: text.length * size * 0.6, height: size * 1.3 };
  Object.assign(area, place(area, detection.box, picture, placed));
  placed.push(area);
  const back = makeSvg("rect", { ...area, fill: ground, class: "label" });
  const words = makeSvg("text", {
    x: area.x + size * 0.2, y: area.y + size, fill: ink, "font-size": size,
    textLength: area.width - size * 0.4, lengthAdjust: "spacingAndGlyphs",
  });
  words.textContent = text;
  return [back, words];
}

// The first of several places near the box where the label covers no other.
function place({ width, height }, { x_min, y_min, x_max, y_max }, picture, placed) {
  const places = [
    [x_min, y_min - height], [x_min, y_max], [x_min, y_min], [x_min, y_max - height],
    [x_max, y_min], [x_min - width, y_min], [x_max - width, y_min - height], [x_max - width, y_max],
  ];
  for (let step = 1; step < 20; step += 1) {
    places.push([x_min, y_min + step * height], [x_min, y_min - (step + 1) * height]);
  }
  const inside = places
    .map(([x, y]) => ({ x: Math.max(0, Math.min(x, picture.width - width)), y }))
    .filter(({ y }) => y >= 0 && y + height <= picture.height);
  const isFree = ({ x, y }) => placed.every((other) =>
    x >= other.x + other.width || other.x >= x + width ||
    y >= other.y + other.height || other.y >= y + height);
  return inside.find(isFree) ?? inside[0] ?? { x: 0, y: 0 };
}

function listClasses() {
  const labels = new Map(state.report.detections.map((detection) => [detection.label, detection]));
  const choices = [...labels].map(([label, detection]) => {
    const choice = make("label", "");
    const box = make("input", "", { type: "checkbox", value: label });
    box.checked = true;
    box.addEventListener("change", () => {
      state.hidden[box.checked ? "delete" : "add"](label);
      update();
    });
    const swatch = make("span", "", { class: "swatch", "aria-hidden": "true" });
    swatch.style.background = colours(detection)[0];
    choice.append(box, " ", swatch, ` ${label}`);
    return choice;
  });
  element("classes").replaceChildren(...choices);
  if (choices.length === 0) element("classes").textContent = "none";
}

function listTimings() {
  const rows = Object.entries(state.report.timings_ms).map(([step, time]) => {
    const row = make("tr", "");
    row.append(make("td", step), make("td", time.toFixed(2)));
    return row;
  });
  element("timings").replaceChildren(...rows);
}

// The command that gets the objects that are shown.
function command() {
  const url = new URL("detect", document.baseURI);
  url.search = "";
  url.hash = "";
  url.searchParams.set("min_confidence", threshold());
  url.searchParams.set("max_detections", MAX_DETECTIONS);
  const labels = [...new Set(state.report.detections.map(({ label }) => label))];
  const wanted = labels.filter((label) => !state.hidden.has(label));
  if (wanted.length < labels.length && wanted.length > 0) {
    url.searchParams.set("classes", wanted.join(","));
  }
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  return `curl --data-binary ${quoted(`@${state.name}`)} -H 'Content-Type: application/octet-stream' ${quoted(url.href)}`;
}

async function openCamera() {
  if (!navigator.mediaDevices?.getUserMedia) {
    say("", "The camera cannot be used here: browsers allow it over HTTPS and on localhost only.");
    return;
  }
  try {
    const video = { facingMode: "environment" };
    element("video").srcObject = await navigator.mediaDevices.getUserMedia({ video });
    await element("video").play();
    say("");
    element("viewfinder").hidden = false;
    element("shoot").focus();
  } catch (error) {
    say("", `The camera cannot be used: ${error.message}`);
  }
}

function closeCamera() {
  for (const track of element("video").srcObject?.getTracks() ?? []) track.stop();
  element("video").srcObject = null;
  element("viewfinder").hidden = true;
  element("camera").focus();
}

async function takePicture() {
  const video = element("video");
  const canvas = make("canvas", "");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  const picture = await new Promise((done) => { canvas.toBlob(done, "image/jpeg", 0.92); });
  closeCamera();
  if (picture) detect(picture);
}

function takeFrom(transfer) {
  const [picture] = transfer?.files ?? [];
  if (picture) detect(picture);
  return Boolean(picture);
}

element("file").addEventListener("change", (event) => {
  takeFrom(event.target);
  // Choosing the same file again is a change too.
  event.target.value = "";
});
element("camera").addEventListener("click", openCamera);
element("close").addEventListener("click", closeCamera);
element("shoot").addEventListener("click", takePicture);
element("confidence").addEventListener("input", update);
element("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(element("curl").textContent);
    say("The command was copied.");
  } catch {
    getSelection().selectAllChildren(element("curl"));
    say("The command is selected: copy it with your keyboard.");
  }
});
document.addEventListener("paste", (event) => takeFrom(event.clipboardData) && event.preventDefault());
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  element("drop").classList.add("over");
});
for (const end of ["dragleave", "drop"]) {
  document.addEventListener(end, () => element("drop").classList.remove("over"));
}
document.addEventListener("drop", (event) => {
  event.preventDefault();
  takeFrom(event.dataTransfer);
});
window.addEventListener("resize", update);
