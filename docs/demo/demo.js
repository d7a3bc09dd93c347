// The whole protocol of the file: start every state at zero, feed each "….next" back.
import * as ort from "./built/ort.wasm.min.mjs";

const STEPS = 16;
const PAUSE = 350; // milliseconds between steps while playing
const SIDE = 28;
const byId = (id) => document.getElementById(id);

ort.env.wasm.wasmPaths = new URL("./built/", import.meta.url).href;
ort.env.wasm.numThreads = 1; // more need special headers of the server

const network = await (await fetch("./built/network.json")).json();
const session = await ort.InferenceSession.create("./built/network.snn.onnx", { executionProviders: ["wasm"] });

let pixels = new Float32Array(SIDE * SIDE);
let states, time, counted, playing = false, busy = false;
let run = 0; // counts restarts, so that an answer that comes too late is dropped

function zeros({ type, shape }) {
  const size = shape.reduce((a, b) => a * b, 1);
  const data = type === "int64" ? new BigInt64Array(size) : type === "int32" ? new Int32Array(size) : new Float32Array(size);
  return new ort.Tensor(type, data, shape);
}

function restart() {
  run += 1;
  states = Object.fromEntries(network.states.map((state) => [state.name, zeros(state)]));
  time = 0;
  counted = network.layers.map((layer) => states[layer.counts].data);
  showEvidence(new Array(network.classes.length).fill(0));
  network.layers.forEach((layer, index) => showSpikes(index, null));
  byId("status").textContent = "Ready. No step yet.";
}

async function step() {
  if (busy || time >= STEPS) return;
  busy = true;
  const mine = run;
  const picture = new ort.Tensor("float32", pixels, [1, 1, SIDE, SIDE]);
  const outputs = await session.run({ [network.input]: picture, ...states });
  busy = false;
  if (mine !== run) return;
  time += 1;
  for (const { name } of network.states) states[name] = outputs[`${name}.next`];
  const evidence = [...outputs[network.output].data];
  let total = 0;
  network.layers.forEach((layer, index) => {
    const now = states[layer.counts].data;
    const spikes = now.map((value, place) => Math.abs(value - counted[index][place]));
    counted[index] = now;
    total += showSpikes(index, spikes);
  });
  showEvidence(evidence);
  const best = evidence.indexOf(Math.max(...evidence));
  byId("status").textContent = `Step ${time}: ${network.classes[best]}, ${total.toLocaleString("en")} spikes in this step.`;
}

async function play() {
  playing = !playing;
  byId("play").textContent = playing ? "Pause" : "Play";
  if (playing && time >= STEPS) restart();
  while (playing && time < STEPS) {
    await step();
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
  playing = false;
  byId("play").textContent = "Play";
}

function showEvidence(evidence) {
  const low = Math.min(...evidence), high = Math.max(...evidence);
  [...byId("classes").tBodies[0].rows].forEach((row, index) => {
    const share = high > low ? (evidence[index] - low) / (high - low) : 0;
    row.querySelector(".bar div").style.width = `${100 * share}%`;
    row.querySelector(".value").textContent = evidence[index].toFixed(2);
    row.className = high > low && evidence[index] === high ? "first" : "";
  });
}

/** Draw the spikes of one layer, summed over channels; returns how many there are. */
function showSpikes(index, spikes) {
  const [channels, height, width] = network.layers[index].shape;
  const canvas = byId("layers").children[index].querySelector("canvas");
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const heat = new Float32Array(height * width);
  let total = 0;
  if (spikes) {
    for (let channel = 0; channel < channels; channel += 1) {
      for (let place = 0; place < heat.length; place += 1) heat[place] += spikes[channel * heat.length + place];
    }
    total = heat.reduce((a, b) => a + b, 0);
  }
  const top = Math.max(1, ...heat);
  heat.forEach((value, place) => {
    const share = value / top;
    image.data.set([255 * Math.min(1, 2 * share), 255 * Math.max(0, 2 * share - 1), 120 * share * (1 - share) * 2, 255], 4 * place);
  });
  context.putImageData(image, 0, 0);
  byId("layers").children[index].querySelector(".count").textContent = `${total.toLocaleString("en")} spikes`;
  return total;
}

function paint(canvas, values) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(SIDE, SIDE);
  values.forEach((value, place) => image.data.set([255 * value, 255 * value, 255 * value, 255], 4 * place));
  context.putImageData(image, 0, 0);
}

function show(values) {
  pixels = values;
  paint(byId("picture"), pixels);
  restart();
}

function build() {
  for (const name of network.classes) {
    const row = byId("classes").tBodies[0].insertRow();
    row.innerHTML = '<th scope="row"></th><td class="bar"><div></div></td><td class="value"></td>';
    row.cells[0].textContent = name;
  }
  for (const layer of network.layers) {
    const figure = document.createElement("figure");
    figure.innerHTML = '<canvas role="img"></canvas><figcaption><span class="name"></span><br><span class="count"></span></figcaption>';
    const canvas = figure.querySelector("canvas");
    [, canvas.height, canvas.width] = layer.shape;
    canvas.setAttribute("aria-label", `Spikes of ${layer.name}`);
    figure.querySelector(".name").textContent = layer.name;
    byId("layers").append(figure);
  }
  for (const sample of network.samples) {
    const values = Float32Array.from(atob(sample.pixels), (character) => character.charCodeAt(0) / 255);
    const button = document.createElement("button");
    button.type = "button";
    button.title = network.classes[sample.label];
    button.setAttribute("aria-label", `Sample: ${network.classes[sample.label]}`);
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = SIDE;
    paint(canvas, values);
    button.append(canvas);
    button.addEventListener("click", () => { playing = false; show(values.slice()); });
    byId("samples").append(button);
  }
  byId("play").addEventListener("click", play);
  byId("step").addEventListener("click", step);
  byId("reset").addEventListener("click", () => { playing = false; restart(); });
  byId("clear").addEventListener("click", () => { playing = false; show(new Float32Array(SIDE * SIDE)); });
  const picture = byId("picture");
  let from = null; // where the pen was
  const draw = (event) => {
    if (!(event.buttons & 1)) { from = null; return; }
    const box = picture.getBoundingClientRect();
    const to = [((event.clientX - box.left) / box.width) * SIDE - 0.5, ((event.clientY - box.top) / box.height) * SIDE - 0.5];
    from ??= to;
    const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
    const length = dx * dx + dy * dy || 1;
    for (let place = 0; place < pixels.length; place += 1) {
      const [x, y] = [(place % SIDE) - from[0], Math.floor(place / SIDE) - from[1]];
      const along = Math.min(1, Math.max(0, (x * dx + y * dy) / length));
      const distance = Math.hypot(x - along * dx, y - along * dy); // from the line just drawn
      pixels[place] = Math.max(pixels[place], Math.min(1, Math.max(0, 1.9 - distance)));
    }
    from = to;
    show(pixels);
  };
  picture.addEventListener("pointerdown", (event) => { from = null; draw(event); });
  picture.addEventListener("pointermove", draw);
}

build();
show(Float32Array.from(atob(network.samples[9].pixels), (character) => character.charCodeAt(0) / 255));
