/** The offset from key to query in rows and columns, each also from 0 on. */
const offsets = (query, key, [h, w]) => {
  const [rows, columns] = [Math.floor(query / w) - Math.floor(key / w), (query % w) - (key % w)];
  return { rows, columns, down: rows + h - 1, right: columns + w - 1 };
};

const signed = (offset) => `${offset}`.replace("-", "−");

start("relative_position_index", (figure, data) => {
  const state = { choice: 0, pair: data.pair };
  const svgs = figure.querySelectorAll("svg");

  const draw = () => {
    const { window, index } = data.choices[state.choice];
    const [h, w] = window;
    const number = index[state.pair];
    const [q, k] = [Math.floor(state.pair / (h * w)), state.pair % (h * w)];
    const { rows, columns, down, right } = offsets(q, k, window);
    const name = (token) => [token === q && "q", token === k && "k"].filter(Boolean).join("") || token;
    const never = () => false;
    query.show(q, name, never);
    key.show(k, name, never);
    table.show(number, (row) => row, (row) => row === number);
    matrix.show(state.pair, (pair) => index[pair], (pair) => index[pair] === number);
    const place = (token) => `row ${Math.floor(token / w)}, column ${token % w}`;
    const count = index.filter((other) => other === number).length;
    say(
      figure,
      `Query ${q} is at ${place(q)}, key ${k} at ${place(k)}. Query minus key: rows ${signed(rows)}, columns ${signed(columns)}. ` +
        `With ${h - 1} and ${w - 1} added, so that none is negative: ${down} and ${right}. ` +
        `So the pair reads row ${down} · ${2 * w - 1} + ${right} = ${number} of the table. Pairs that read it: ${count} of ${index.length}.`
    );
  };
  /** Number the rows and columns of a table, from minus the last two on. */
  const label = (svg, rows, columns, up, left) => {
    for (let row = 0; row < rows; row++) add(svg, "text", { x: -9, y: 20 * row + 10 }, signed(row - up));
    for (let column = 0; column < columns; column++) add(svg, "text", { x: 20 * column + 10, y: -9 }, signed(column - left));
  };
  const choose = (pair) => {
    state.pair = pair;
    draw();
  };
  const chooseWindow = (choice) => {
    state.choice = choice;
    const [h, w] = data.choices[choice].window;
    query.resize(h, w);
    key.resize(h, w);
    table.resize(2 * h - 1, 2 * w - 1, 16, 16);
    matrix.resize(h * w, h * w, 16, 16);
    label(svgs[2], 2 * h - 1, 2 * w - 1, h - 1, w - 1);
    label(svgs[3], h * w, h * w, 0, 0);
    choose(Math.min(state.pair, h * w * h * w - 1));
  };

  const tokens = () => data.choices[state.choice].window[0] * data.choices[state.choice].window[1];
  const [query, key, table, matrix] = [
    (token) => choose(token * tokens() + (state.pair % tokens())),
    (token) => choose(state.pair - (state.pair % tokens()) + token),
    (row) => choose(data.choices[state.choice].index.indexOf(row)),
    choose,
  ].map((chosen, i) => makeTable(svgs[i], chosen));
  menu(figure, "window", data.choices.map(({ window }) => window.join("×")), chooseWindow);
  chooseWindow(0);
});
