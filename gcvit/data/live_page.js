// === The files of the site, and the worker that runs the model ===

const FOLDER = "../_static/live/";
const MEGAPIXELS = 40;

const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

/** What a browser needs and may lack: a module that uses one instruction of SIMD. */
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];

/** Why the model cannot run here; nothing if it can. */
const obstacle = () => {
  if (location.protocol === "file:")
    return "This page was opened as a file, and a browser lets no file fetch another. Serve the book: python -m http.server -d _build/html";
  if (!self.WebAssembly || !self.Worker || !self.OffscreenCanvas)
    return "This browser cannot run the model: it lacks WebAssembly, workers or canvases for them. The figure above shows two answers.";
  if (!WebAssembly.validate(Uint8Array.from(SIMD)))
    return "This browser's WebAssembly lacks SIMD, which the model's runtime needs. The figure above shows two answers.";
};

/** Send messages to the worker; each send is a promise of its answer. */
const startWorker = (heard) => {
  const worker = new Worker(FOLDER + "worker.js");
  const waiting = new Map();
  let number = 0;
  worker.onmessage = ({ data }) => {
    const { resolve, reject } = waiting.get(data.number) ?? {};
    waiting.delete(data.number);
    if (data.kind === "done") resolve(data);
    else if (data.kind === "failed") reject(new Error(data.message));
    else heard(data);
  };
  worker.onerror = ({ message }) => {
    for (const { reject } of waiting.values()) reject(new Error(message || "the worker stopped"));
    waiting.clear();
  };
  return (action, rest, transfer = []) =>
    new Promise((resolve, reject) => {
      waiting.set(++number, { resolve, reject });
      worker.postMessage({ number, action, ...rest }, transfer);
    });
};

/** A sentence on why the model did not come, and whether another try is of no use. */
const whyNot = (message, arrived, total) => {
  const got = `${megabytes(arrived)} of ${megabytes(total)} MB`;
  if (/missing|fetch|network|load failed|ended early|import/i.test(message))
    return { text: `The connection broke off after ${got}. A file that arrived whole is kept: press the button again.`, isFinal: false };
  const reason = /memory|allocat/i.test(message) ? "There is not enough memory for the model" : `The model did not start: ${message}`;
  return { text: `${reason}. Close other pages, and load this one again. The figure above shows two answers.`, isFinal: true };
};

// === Pictures ===

class Sentence extends Error {}

/** A picture's width and height as it is seen, before anything of it is decoded. */
const sizeOf = (blob) =>
  new Promise((resolve, reject) => {
    const image = new Image();
    const address = URL.createObjectURL(blob);
    const end = (settle) => () => {
      URL.revokeObjectURL(address);
      settle([image.naturalWidth, image.naturalHeight]);
    };
    image.onload = end(resolve);
    image.onerror = end(reject);
    image.src = address;
  });

/** Decode a file as Pillow does: turned as the camera says, its colours as they are. */
const decode = async (blob, name) => {
  const unreadable = new Sentence(`${name} is no picture that this browser can read. The picture stays as it was.`);
  const [width, height] = await sizeOf(blob).catch(() => {
    throw unreadable;
  });
  const size = (width * height) / 1e6;
  if (size > MEGAPIXELS)
    throw new Sentence(
      `${name} has ${size.toFixed(0)} megapixels, and this page takes up to ${MEGAPIXELS}. Shrink it, or ask gcvit.classify, which takes it. The picture stays as it was.`
    );
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none" };
  return createImageBitmap(blob, options).catch(() => {
    throw unreadable;
  });
};

/** The middle of a picture, as an address that an image can show. */
const preview = (bitmap) => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 320 });
  const { width, height } = bitmap;
  const side = Math.min(width, height);
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, 320, 320);
  context.drawImage(bitmap, (width - side) >> 1, (height - side) >> 1, side, side, 0, 0, 320, 320);
  return canvas.toDataURL("image/jpeg", 0.9);
};

/** Let the menu of pictures show the one that is there, also one that it does not offer. */
const nameIn = (menu, name) => {
  menu.querySelector(".own")?.remove();
  if (![...menu.options].some(({ value }) => value === name)) menu.add(Object.assign(new Option(name, name), { className: "own" }));
  menu.value = name;
};

// === Numbers ===

const softmax = (logits) => {
  const powers = logits.map((logit) => Math.exp(logit - Math.max(...logits)));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
};

/** The logits of the picture at a place. */
const logitsOf = (outputs, place) => {
  const { data, dims } = outputs.logits;
  return [...data.slice(place * dims[1], (place + 1) * dims[1])];
};

const percent = (share) => `${Math.round(100 * share)} %`;
const largest = (values) => values.indexOf(Math.max(...values));
const furthest = (values, others) => Math.max(...values.map((value, i) => Math.abs(value - others[i])));

/** The weights with which a token attends to one of the places of a window. */
const weightOf = ({ data, dims }, { windows, head, place }, window, token, key) => {
  const [, heads, size] = dims;
  return data[(((place * windows + window) * heads + head) * size + token) * size + key];
};

/** The channels of one head in the global query of a picture, a row for each place. */
const queryOfHead = ({ data, dims }, place, head, heads) => {
  const [, height, width, channels] = dims;
  const depth = channels / heads;
  return Array.from({ length: height * width }, (_, token) => {
    const start = (place * height * width + token) * channels + head * depth;
    return [...data.slice(start, start + depth)];
  });
};

/** Cells of a heat map: blue above zero, red below, as in the book's other figures. */
const drawCells = (canvas, rows) => {
  const scale = Math.max(...rows.flat().map(Math.abs)) || 1;
  Object.assign(canvas, { width: rows[0].length, height: rows.length });
  const context = canvas.getContext("2d");
  rows.forEach((row, y) =>
    row.forEach((value, x) => {
      const strength = Math.abs(value) / scale;
      const [red, green, blue] = (value < 0 ? [184, 72, 58] : [42, 111, 196]).map((c) => 255 + (c - 255) * strength);
      context.fillStyle = `rgb(${red} ${green} ${blue})`;
      context.fillRect(x, y, 1, 1);
    })
  );
};

// === The figure ===

start("live_page", (figure, data) => {
  const find = (selector) => figure.querySelector(selector);
  const state = { level: 0, block: 1, head: 0, row: 5, column: 5, queryOf: [0, 1], shown: "query" };
  const wrong = new Set();
  const news = (text) => (find(".news").textContent = text);
  let send, site, outputs, exact;

  // --- What is drawn ---

  const panels = [0, 1].map((place) => {
    const panel = document.createElement("div");
    panel.className = "panel";
    panel.innerHTML = `
<svg tabindex="0" role="application" aria-label="Picture ${place + 1}, with the attention of a token. Arrow keys choose the token; the text below says what it attends to." viewBox="-0.6 -0.6 101.2 101.2"></svg>
<video hidden muted playsinline></video>
<p><label>picture <select class="choose"></select></label>
<label class="file">Choose a file<input type="file" accept="image/*"></label>
<button type="button" class="camera">Camera</button></p>
<ol class="bars"></ol><p class="distance"></p>
<p><label>asked by the query of <select class="query"></select></label></p>
<button type="button" class="give">Give its own query to the other picture</button>
<canvas role="img" hidden></canvas><p class="what"></p>`;
    find(".panels").append(panel);
    const part = (selector) => panel.querySelector(selector);
    const svg = part("svg");
    const image = add(svg, "image", { width: 100, height: 100 });
    const [cells, outlines] = [add(svg, "g", {}), add(svg, "g", {})];
    part(".query").append(...["this picture", "the other one", "nobody"].map((text) => new Option(text, text)));
    const bars = data.classes.map((name) => {
      const item = document.createElement("li");
      item.innerHTML = `<span>${name}</span><span class="track"><span class="bar" style="display:block;width:0"></span><span class="exact" hidden></span></span><span class="share"></span>`;
      part(".bars").append(item);
      return item;
    });
    return { panel, part, svg, image, cells, outlines, bars, place, name: "", ticket: 0 };
  });

  const frame = (parent, row, column, side, kind) => {
    const unit = 100 / data.levels[state.level].map;
    const [x, y, width, height] = [column, row, side, side].map((value) => value * unit);
    return add(parent, "rect", { x, y, width, height, class: kind });
  };

  const drawGrid = () => {
    const { map } = data.levels[state.level];
    for (const { cells } of panels) {
      cells.replaceChildren();
      for (let i = 0; i < map * map; i++) frame(cells, Math.floor(i / map), i % map, 1, "cell").style.fillOpacity = 0;
    }
  };

  /** Colour what the token attends to; give the largest weight in its own window. */
  const drawAttention = ({ cells, outlines, place }) => {
    const { map, window } = data.levels[state.level];
    const [across, size, isGlobal] = [map / window, window * window, state.block % 2 === 1];
    const windowOf = (row, column) => Math.floor(row / window) * across + Math.floor(column / window);
    const placeIn = (row, column) => (row % window) * window + (column % window);
    const own = windowOf(state.row, state.column);
    const attention = outputs?.[`attention_${state.level}_${state.block}`];
    const from = { windows: across * across, head: state.head, place };
    const most = { weight: -1 };
    [...cells.children].forEach((cell, i) => {
      const [row, column] = [Math.floor(i / map), i % map];
      const here = windowOf(row, column);
      if (!attention || !(isGlobal || here === own)) return (cell.style.fillOpacity = 0);
      const weight = weightOf(attention, from, here, placeIn(state.row, state.column), placeIn(row, column));
      cell.style.fillOpacity = Math.min((weight * size) / 4, 1); // full colour is four times an even share
      if (here === own && weight > most.weight) Object.assign(most, { weight, row, column });
    });
    outlines.replaceChildren();
    for (let row = 0; row < map; row += window)
      for (let column = 0; column < map; column += window) frame(outlines, row, column, window, "window");
    frame(outlines, state.row - (state.row % window), state.column - (state.column % window), window, "own");
    frame(outlines, state.row, state.column, 1, "token");
    return most;
  };

  const drawToken = () => {
    const { window } = data.levels[state.level];
    const found = panels.map(drawAttention);
    if (!outputs) return;
    const kind = state.block % 2 ? "global: the token of the global query at this place asks" : "local: the token asks its own window";
    const texts = found.map(({ weight, row, column }, i) => `${panels[i].name}: row ${row}, column ${column}, with ${percent(weight)}`);
    find(".said").textContent =
      `Row ${state.row}, column ${state.column}, block ${state.block}, ${kind}. In this window most goes to, in ` +
      `${texts.join("; in ")}. An even share would be ${(100 / window ** 2).toFixed(1)} %.`;
  };

  const drawNumbers = ({ part, place, name }) => {
    const canvas = part("canvas");
    const { heads } = data.levels[state.level];
    let [rows, what] = [[], ""];
    if (state.shown === "query") {
      rows = queryOfHead(outputs[`query_${state.level}`], place, state.head, heads);
      what = `The global query of level ${state.level} that ${name} gets, head ${state.head}: a row for each place of a window, a column for each channel.`;
    } else {
      const { data: weights, dims } = outputs[state.shown];
      const channels = dims.at(-1);
      const own = [...weights.slice(place * channels, (place + 1) * channels)];
      rows = Array.from({ length: channels / 32 }, (_, i) => own.slice(32 * i, 32 * i + 32));
      what = `Weights from ${Math.min(...own).toFixed(2)} to ${Math.max(...own).toFixed(2)} of ${channels} channels in ${name}, from left to right and from top to bottom.`;
    }
    drawCells(canvas, rows);
    canvas.hidden = false;
    canvas.style.maxHeight = `${rows.length}rem`;
    canvas.setAttribute("aria-label", what);
    part(".what").textContent = what;
  };

  const nameOf = (place) => panels[place].name;

  const drawAnswer = ({ bars, part, place, name }) => {
    const [logits, right] = [outputs, exact].map((answer) => logitsOf(answer, place));
    const [shares, exactShares] = [softmax(logits), softmax(right)];
    bars.forEach((item, i) => {
      item.querySelector(".bar").style.width = `${100 * shares[i]}%`;
      item.querySelector(".share").textContent = percent(shares[i]);
      const mark = item.querySelector(".exact");
      mark.hidden = false;
      mark.style.left = `calc(${100 * exactShares[i]}% - 1px)`;
    });
    const far = furthest(logits, right);
    const best = largest(shares);
    const owner = state.queryOf[place];
    const asker = owner === place ? "" : `, asked by ${owner === 2 ? "nobody" : `the query of ${nameOf(owner)}`}`;
    const answer = `${name}${asker}: ${data.classes[best]}, ${percent(shares[best])}`;
    part(".distance").textContent = far ? `${far.toPrecision(2)} is the most that a logit is off` : "each logit is exact";
    part(".distance").dataset.logits = JSON.stringify(logits);
    return far ? `${answer} (${far.toPrecision(2)} from the exact logits)` : answer;
  };

  const draw = () => {
    news(`${panels.map(drawAnswer).join(". ")}.`);
    panels.forEach(drawNumbers);
    drawToken();
  };

  // --- What is asked: one question at a time, and the last one is not forgotten ---

  const exactly = { mistakes: data.switches.filter(({ isInModel }) => isInModel).map(() => 0), method: "bicubic", queryOf: [0, 1] };
  const settings = () => ({
    mistakes: data.switches.filter(({ isInModel }) => isInModel).map(({ name }) => Number(wrong.has(name))),
    method: wrong.has("bilinear") ? "bilinear" : "bicubic",
    queryOf: state.queryOf,
  });
  let [isAsking, isStale, isReady] = [false, false, false];

  const ask = async (isNew) => {
    if (isNew) exact = undefined;
    isStale = true;
    if (isAsking || !isReady || panels.some(({ name }) => !name)) return;
    isAsking = true;
    try {
      while (isStale) {
        isStale = false;
        const started = performance.now();
        const answer = await send("answer", { settings: settings() });
        // What the tests of the site measure.
        figure.dataset.milliseconds = performance.now() - started;
        exact ??= (await send("answer", { settings: exactly })).outputs;
        outputs = answer.outputs;
      }
      draw();
    } catch (error) {
      news(`No answer: ${/memory|allocat/i.test(error.message) ? "there is not enough memory" : error.message}. The figure stays as it was.`);
    }
    isAsking = false;
    figure.dataset.answers = Number(figure.dataset.answers ?? 0) + 1;
  };

  // --- Pictures ---

  const show = async (panel, bitmap, name) => {
    const address = preview(bitmap);
    await send("picture", { place: panel.place, bitmap }, [bitmap]);
    panel.image.setAttribute("href", address);
    panel.name = name;
    nameIn(panel.part(".choose"), name);
    // All of them: what comes last is not always what was chosen last.
    const here = panels.filter(({ name }) => name).map(({ name }) => `${name} is here.`);
    if (!isReady) news(`${here.join(" ")} Answers come with the model.`);
    await ask(true);
  };

  /** Take a picture from wherever; whichever comes last for its place wins. */
  const take = async (panel, name, give) => {
    const ticket = ++panel.ticket;
    try {
      const bitmap = await give();
      if (ticket === panel.ticket) await show(panel, bitmap, name);
      else bitmap.close();
    } catch (error) {
      news(error instanceof Sentence ? error.message : `${name} did not come: ${error.message}. The picture stays as it was.`);
    }
  };

  const takeFile = (panel, file) => take(panel, file.name, () => decode(file, file.name));

  const takeStored = (panel, name) =>
    take(panel, name, async () => {
      const response = await fetch(`${FOLDER}${name}.png`);
      if (!response.ok) throw new Error(response.status);
      return decode(await response.blob(), name);
    });

  const stopCamera = ({ part }) => {
    const video = part("video");
    video.srcObject?.getTracks().forEach((track) => track.stop());
    Object.assign(video, { srcObject: null, hidden: true });
    part(".camera").textContent = "Camera";
  };

  const useCamera = async (panel) => {
    const video = panel.part("video");
    if (video.srcObject) {
      await take(panel, "your photograph", () => createImageBitmap(video));
      return stopCamera(panel);
    }
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: true });
      Object.assign(video, { srcObject: stream, hidden: false });
      await video.play();
      panel.part(".camera").textContent = "Take the picture";
    } catch (error) {
      stopCamera(panel);
      const why = error.name === "NotAllowedError" ? "The camera was refused" : "No camera can be used here";
      news(`${why}. The picture stays as it was; a file works as well.`);
    }
  };

  // --- Queries ---

  const setQuery = (place, owner) => {
    state.queryOf[place] = owner;
    panels[place].part(".query").selectedIndex = owner === 2 ? 2 : Number(owner !== place);
    ask();
  };

  /** Drag the query's button or its numbers onto the other picture, with whatever points. */
  const dragQuery = (handle, { place }) => {
    const other = panels[1 - place];
    const isOver = ({ clientX, clientY }) => other.panel.contains(document.elementFromPoint(clientX, clientY));
    let from;
    handle.addEventListener("pointerdown", (event) => {
      from = [event.clientX, event.clientY];
      handle.releasePointerCapture?.(event.pointerId);
    });
    addEventListener("pointermove", (event) => {
      if (!from) return;
      handle.style.transform = `translate(${event.clientX - from[0]}px, ${event.clientY - from[1]}px)`;
      handle.style.pointerEvents = "none";
      other.panel.classList.toggle("over", isOver(event));
    });
    const end = (event) => {
      if (!from) return;
      if (event.type === "pointerup" && isOver(event)) setQuery(1 - place, place);
      from = undefined;
      handle.style.transform = handle.style.pointerEvents = "";
      other.panel.classList.remove("over");
    };
    addEventListener("pointerup", end);
    addEventListener("pointercancel", end);
  };

  // --- Controls ---

  const move = (row, column) => {
    const { map } = data.levels[state.level];
    const before = `${state.row} ${state.column}`;
    Object.assign(state, { row: within(row, map), column: within(column, map) });
    if (before !== `${state.row} ${state.column}`) drawToken();
  };
  const redraw = () => {
    if (outputs) panels.forEach(drawNumbers);
    drawToken();
  };
  const choose = (name) => (value) => {
    state[name] = value;
    redraw();
  };
  const chooseLevel = (level) => {
    const { map, heads } = data.levels[level];
    const scale = map / data.levels[state.level].map;
    Object.assign(state, { level, head: 0, row: Math.floor(state.row * scale), column: Math.floor(state.column * scale) });
    headMenu.replaceChildren(...Array.from({ length: heads }, (_, head) => new Option(head, head)));
    drawGrid();
    redraw();
  };
  menu(figure, "level", data.levels.map(({ map }, i) => `${i}: ${map}×${map} tokens`), chooseLevel);
  const blockMenu = menu(figure, "block", ["0: local", "1: global"], choose("block"));
  const headMenu = menu(figure, "head", ["0"], choose("head"));
  const shown = ["query", ...data.channels];
  const labels = ["the global query", ...data.channels.map((name) => name.replaceAll("_", " "))];
  menu(figure, "numbers", labels, (i) => choose("shown")(shown[i]));
  blockMenu.selectedIndex = 1;

  const addSwitch = ({ name, text, accuracy, changed }) => {
    const row = document.createElement("tr");
    row.innerHTML = `<th scope="row"><label><input type="checkbox" value="${name}"> <span></span></label></th><td>${accuracy}</td><td>${changed}</td>`;
    row.querySelector("span").textContent = text;
    row.querySelector("input").addEventListener("change", ({ target }) => {
      wrong[target.checked ? "add" : "delete"](name);
      ask();
    });
    find("tbody").append(row);
  };
  data.switches.forEach(addSwitch);
  find(".accuracy").textContent = data.accuracy;
  find(".exactly").addEventListener("click", () => {
    wrong.clear();
    figure.querySelectorAll("tbody input").forEach((input) => (input.checked = false));
    panels.forEach(({ place }) => setQuery(place, place));
  });

  const takeDrop = (panel, { dataTransfer: { files } }) => {
    if (files.length === 1) return takeFile(panel, files[0]);
    news(
      files.length
        ? `${files.length} files came at once: drop one on each picture. The pictures stay as they were.`
        : "What was dropped is no file. The picture stays as it was."
    );
  };

  const listenTo = (panel) => {
    const { part, svg, place } = panel;
    const inMap = (value) => (value / 100) * data.levels[state.level].map;
    listen(
      svg,
      (x, y) => move(inMap(y), inMap(x)),
      (down, right) => move(state.row + down, state.column + right)
    );
    part(".choose").addEventListener("change", ({ target }) => takeStored(panel, target.value));
    part("input").addEventListener("change", ({ target }) => target.files[0] && takeFile(panel, target.files[0]));
    part(".camera").addEventListener("click", () => useCamera(panel));
    part(".query").addEventListener("change", ({ target }) => setQuery(place, [place, 1 - place, 2][target.selectedIndex]));
    part(".give").addEventListener("click", () => setQuery(1 - place, place));
    for (const handle of [part(".give"), part("canvas")]) dragQuery(handle, panel);
    for (const type of ["dragover", "dragleave", "drop"])
      panel.panel.addEventListener(type, (event) => {
        event.preventDefault();
        panel.panel.classList.toggle("over", type === "dragover");
        if (type === "drop") takeDrop(panel, event);
      });
  };
  panels.forEach(listenTo);
  // A file that misses both pictures would replace the page.
  for (const type of ["dragover", "drop"])
    addEventListener(type, (event) => {
      if (find(".running").hidden || event.defaultPrevented || !event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      if (type === "drop") news("Drop it on one of the two pictures. They stay as they were.");
    });
  drawGrid();
  drawToken();

  // --- The start ---

  const button = find(".fetch");
  const bar = find("progress");

  let arrived = 0;
  const heard = (message) => {
    if (message.kind === "progress") bar.value = (arrived = message.arrived) / Number(bar.dataset.total);
    if (message.kind === "arrived") figure.dataset.arrived = performance.now();
  };

  const begin = async () => {
    const total = site.files.model.bytes + site.files.engine.bytes;
    bar.dataset.total = total;
    button.disabled = true;
    bar.hidden = find(".running").hidden = false;
    news("The model is on its way. You can choose pictures meanwhile.");
    send ??= startWorker(heard);
    for (const panel of panels.filter(({ ticket }) => !ticket)) takeStored(panel, panel.part(".choose").value);
    try {
      await send("load", { files: site.files });
      isReady = true;
      button.hidden = bar.hidden = true;
      await ask();
      figure.dataset.first = performance.now();
    } catch (error) {
      const { text, isFinal } = whyNot(error.message, arrived, total);
      news(text);
      bar.hidden = true;
      button.disabled = isFinal;
    }
  };

  const prepare = async () => {
    const reason = obstacle();
    if (reason) return news(reason);
    const response = await fetch(`${FOLDER}files.json`);
    site = await response.json();
    if (!site.files)
      return news(
        "This copy of the book was built without the model's runtime, so nothing runs here: the figure above shows two answers. With it, nano would answer your own pictures."
      );
    const { model, engine } = site.files;
    button.textContent = `Fetch nano and what runs it, ${megabytes(model.bytes + engine.bytes)} MB, from this site`;
    button.disabled = false;
    panels.forEach(({ part }, place) => {
      part(".choose").append(...site.pictures.map((name) => new Option(name, name)));
      part(".choose").selectedIndex = place;
    });
    news("Nothing is fetched before you press the button, and your pictures never leave this page.");
  };
  button.addEventListener("click", begin);
  prepare().catch(() => news("Here nothing can be fetched. In the published book nano answers your own pictures on this page."));
});
