/** The index of a token after each step of window_partition; the last is Block's. */
const steps = (image, row, column, [height, width], [h, w]) => {
  const [rows, columns] = [height / h, width / w];
  const [down, right] = [Math.floor(row / h), Math.floor(column / w)];
  const [y, x] = [row % h, column % w];
  const window = image * rows * columns + down * columns + right;
  return [
    ["map", "(B, H, W)", [image, row, column]],
    ["reshape", "(B, rows, h, columns, w)", [image, down, y, right, x]],
    ["transpose", "(B, rows, columns, h, w)", [image, down, right, y, x]],
    ["reshape", "(B·M, h, w)", [window, y, x]],
    ["reshape", "(B·M, N)", [window, y * w + x]],
  ];
};

start("window_partition", (figure, data) => {
  const [height, width] = data.map;
  const size = height * width;
  const state = { choice: 0, token: data.token, isBack: false };

  /** From the map to the windows, in words. */
  const forward = (index, h, w) => {
    const [[image, row, column], [, down, y, right, x], , , [window, place]] = index;
    const [across, number] = [width / w, (height / h) * (width / w)];
    return (
      `Image ${image}, row ${row}, column ${column}. Row ${row} = ${down} · ${h} + ${y}, column ${column} = ${right} · ${w} + ${x}. ` +
      `So it is in window m = ${down} · ${across} + ${right} = ${down * across + right} of its image, ` +
      `which is ${image} · ${number} + ${down * across + right} = ${window} of the batch, at place i = ${y} · ${w} + ${x} = ${place}.`
    );
  };
  /** From the windows to the map. */
  const back = (index, h, w) => {
    const [[image, row, column], [, down, y, right, x], , , [window, place]] = index;
    const [across, number] = [width / w, (height / h) * (width / w)];
    return (
      `Window ${window}, place ${place}. Window ${window} = ${image} · ${number} + ${window % number}, so it is of image ${image}; ` +
      `${window % number} = ${down} · ${across} + ${right}, and place ${place} = ${y} · ${w} + ${x}. ` +
      `So the token is at row ${down} · ${h} + ${y} = ${row}, column ${right} · ${w} + ${x} = ${column}.`
    );
  };

  const draw = () => {
    const { window, tokens, places } = data.choices[state.choice];
    const place = places[state.token];
    const inWindow = window[0] * window[1];
    const isSame = (other) => Math.floor(other / inWindow) === Math.floor(place / inWindow);
    map.show(state.token, (token) => token, (token) => isSame(places[token]));
    windows.show(place, (other) => tokens[other], isSame);
    const image = Math.floor(state.token / size);
    const row = Math.floor((state.token % size) / width);
    const index = steps(image, row, state.token % width, data.map, window);
    say(figure, (state.isBack ? back : forward)(index.map(([, , numbers]) => numbers), ...window));
    const lines = index.map(([step, axes, numbers], i) => {
      const line = document.createElement("tr");
      const cells = [step, axes, `[${numbers.join(", ")}]`, i < 2 ? state.token : place];
      for (const text of cells) line.appendChild(document.createElement("td")).textContent = text;
      if (i === 2 && place !== state.token) line.className = "moved";
      return line;
    });
    figure.querySelector("tbody").replaceChildren(...lines);
  };
  const choose = (token, isBack) => {
    Object.assign(state, { token, isBack });
    draw();
  };
  const chooseWindow = (choice) => {
    state.choice = choice;
    const [h, w] = data.choices[choice].window;
    const names = (svg, count, high, name) => {
      for (let i = 0; i < count; i++) add(svg, "text", { x: -6, y: (i + 0.5) * 20 * high, class: "name" }, `${name} ${i}`);
    };
    const images = data.choices[choice].tokens.length / size;
    map.resize(images * height, width, 50);
    names(mapSvg, images, height, "image");
    for (let y = 0; y < images * height; y += h)
      for (let x = 0; x < width; x += w)
        add(mapSvg, "rect", { x: 20 * x, y: 20 * y, width: 20 * w, height: 20 * h, class: "window" });
    const count = (images * size) / (h * w);
    windows.resize(count, h * w, 56);
    names(windowsSvg, count, 1, "window");
    draw();
  };

  const [mapSvg, windowsSvg] = figure.querySelectorAll("svg");
  const map = makeTable(mapSvg, (token) => choose(token, false));
  const windows = makeTable(windowsSvg, (place) => choose(data.choices[state.choice].tokens[place], true));
  menu(figure, "window", data.choices.map(({ window }) => window.join("×")), chooseWindow);
  chooseWindow(0);
});
