// The worker of the page `live`: it fetches nano and what runs it, resizes
// pictures as gcvit.preprocess does, and answers. So the page never waits.

const SIDE = 64; // of nano's images, in pixels
const STRIP = 256; // rows of a picture that are read at once

// === Resizing, to the last digit as TensorFlow does it for gcvit.preprocess ===

const METHODS = {
  bicubic: {
    radius: 2,
    antialias: true,
    kernel: (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0),
  },
  // What many pipelines do instead: a mistake, for nano.
  bilinear: { radius: 1, antialias: false, kernel: (x) => Math.max(1 - x, 0) },
};

/** The middle of a picture, as large as it can be: a square. */
const middle = (width, height) => {
  const side = Math.min(width, height);
  return { side, left: Math.floor((width - side) / 2), top: Math.floor((height - side) / 2) };
};

/** Which of `size` pixels each of SIDE new ones is made of, and with which weights. */
const spans = (size, { radius, antialias, kernel }) => {
  // Positions are rounded to float32, or else those of wide pictures would differ.
  const round = Math.fround;
  const step = round(1 / round(SIDE / size));
  const width = antialias ? Math.max(step, 1) : 1;
  const reach = round(radius * width);
  const inside = (place) => Math.min(Math.max(place, 0), size - 1);
  return Array.from({ length: SIDE }, (_, i) => {
    const center = round((i + 0.5) * step);
    const first = inside(Math.ceil(round(round(center - reach) - 0.5)));
    const last = inside(Math.floor(round(round(center + reach) - 0.5)));
    const places = Array.from({ length: last - first + 1 }, (_, j) => first + j);
    const weights = places.map((place) => kernel(Math.abs(round(place + 0.5 - center)) / width));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
};

/** Add a strip of rows, RGBA, to the new rows that they belong to. */
const addRows = (tall, rows, strip, top, side) => {
  rows.forEach(({ first, weights }, i) => {
    const from = Math.max(first, top);
    const to = Math.min(first + weights.length, top + strip.length / (4 * side));
    for (let row = from; row < to; row++) {
      const weight = weights[row - first];
      let source = 4 * side * (row - top);
      for (let target = 3 * side * i; target < 3 * side * (i + 1); source++)
        for (let channel = 0; channel < 3; channel++) tall[target++] += weight * strip[source++];
    }
  });
};

/** Mix the columns of what is SIDE rows high already, and clip: bicubic overshoots. */
const mixColumns = (tall, columns, side) => {
  const pixels = new Float32Array(SIDE * SIDE * 3);
  for (let row = 0; row < SIDE; row++)
    columns.forEach(({ first, weights }, i) => {
      for (let channel = 0; channel < 3; channel++) {
        const start = 3 * (side * row + first) + channel;
        const value = weights.reduce((sum, weight, j) => sum + weight * tall[start + 3 * j], 0);
        pixels[3 * (SIDE * row + i) + channel] = Math.min(Math.max(value, 0), 255);
      }
    });
  return pixels;
};

/** Resize a square in each way; read(top, rows) gives a strip of it, RGBA. */
const resized = (side, read) => {
  const ways = Object.entries(METHODS).map(([name, method]) => [name, spans(side, method)]);
  const talls = ways.map(() => new Float32Array(SIDE * side * 3));
  for (let top = 0; top < side; top += STRIP) {
    const strip = read(top, Math.min(STRIP, side - top));
    ways.forEach(([, span], i) => addRows(talls[i], span, strip, top, side));
  }
  return Object.fromEntries(ways.map(([name, span], i) => [name, mixColumns(talls[i], span, side)]));
};

/** Resize a picture, on white paper where it is transparent. */
const prepare = (bitmap) => {
  const { side, left, top } = middle(bitmap.width, bitmap.height);
  const canvas = new OffscreenCanvas(side, Math.min(STRIP, side));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  const pixels = resized(side, (from, rows) => {
    context.fillRect(0, 0, side, rows);
    context.drawImage(bitmap, -left, -top - from);
    return context.getImageData(0, 0, side, rows).data;
  });
  bitmap.close();
  return pixels;
};

// === Fetching ===

const CACHE = "gcvit-live-";

/** A file of the site: from the cache, or piece by piece; it is kept if it is whole. */
const fetchFile = async ({ address, bytes, digest }, heard) => {
  // Without https there is no cache; then the file is fetched each time.
  const cache = self.caches && (await caches.open(CACHE + digest));
  const kept = await cache?.match(address);
  if (kept) {
    heard(bytes);
    return kept.arrayBuffer();
  }
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address} is missing: ${response.status}`);
  const whole = new Uint8Array(bytes);
  let arrived = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    whole.set(value, arrived); // an error, if there is more than there should be
    arrived += value.length;
    heard(value.length);
  }
  if (arrived !== bytes) throw new Error(`${address} ended early`);
  // Where there is no room to keep it, it still answers.
  await cache?.put(address, new Response(whole)).catch(() => {});
  return whole.buffer;
};

/** Throw away what an earlier edition of the book has kept. */
const forgetOthers = async (files) => {
  const names = self.caches ? await caches.keys() : [];
  const current = files.map(({ digest }) => CACHE + digest);
  const old = names.filter((name) => name.startsWith(CACHE) && !current.includes(name));
  await Promise.all(old.map((name) => caches.delete(name)));
};

let runtime, session;

const load = async ({ model, engine, script }) => {
  let arrived = 0;
  const heard = (bytes) => postMessage({ kind: "progress", arrived: (arrived += bytes) });
  const bytes = await Promise.all([fetchFile(model, heard), fetchFile(engine, heard)]);
  runtime = await import(script);
  postMessage({ kind: "arrived" });
  Object.assign(runtime.env.wasm, { wasmBinary: bytes[1], numThreads: 1 });
  session = await runtime.InferenceSession.create(bytes[0], {
    executionProviders: ["wasm"],
    // More would join one of the two GELUs, and lose a product that both need.
    graphOptimizationLevel: "basic",
  });
  await forgetOthers([model, engine]);
};

// === Answering ===

const pictures = []; // the pixels of the two places, resized in each way

const run = async ({ mistakes, method, queryOf }) => {
  const pixels = new Float32Array(2 * SIDE * SIDE * 3);
  pictures.forEach((picture, place) => pixels.set(picture[method], place * SIDE * SIDE * 3));
  const outputs = await session.run({
    pixels: new runtime.Tensor("float32", pixels, [2, SIDE, SIDE, 3]),
    mistakes: new runtime.Tensor("float32", Float32Array.from(mistakes), [mistakes.length]),
    query_of: new runtime.Tensor("int32", Int32Array.from(queryOf), [2]),
  });
  return Object.fromEntries(Object.entries(outputs).map(([name, { data, dims }]) => [name, { data, dims }]));
};

const ACTIONS = {
  load: async ({ files }) => {
    await load(files);
    return {};
  },
  picture: async ({ place, bitmap }) => {
    pictures[place] = prepare(bitmap);
    return {};
  },
  answer: async ({ settings }) => ({ outputs: await run(settings) }),
};

/** Each message has a number, and its answer the same one. */
self.onmessage = async ({ data: { number, action, ...rest } }) => {
  try {
    postMessage({ kind: "done", number, ...(await ACTIONS[action](rest)) });
  } catch (error) {
    postMessage({ kind: "failed", number, message: `${error?.message ?? error}` });
  }
};
