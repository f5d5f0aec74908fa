// Heat maps with a cursor that the pointer or the arrow keys move. Row 0 is at the top unless `isUpward`.

/** The position of the cursor in a matrix. */
class Cursor {
  constructor() {
    this.row = this.column = 0;
    this.isShown = false;
  }

  /** Move by an arrow key, Home or End; return whether the key was one. */
  press(key, nRows, nColumns, isUpward) {
    const down = isUpward ? -1 : 1;
    const moves = { ArrowUp: [-down, 0], ArrowDown: [down, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -nColumns], End: [0, nColumns] };
    if (!(key in moves)) return false;
    const [rows, columns] = this.isShown ? moves[key] : [0, 0];
    this.isShown = true;
    this.moveTo(this.row + rows, this.column + columns, nRows, nColumns);
    return true;
  }

  moveTo(row, column, nRows, nColumns) {
    this.row = Math.min(Math.max(row, 0), nRows - 1);
    this.column = Math.min(Math.max(column, 0), nColumns - 1);
  }
}

const MAGMA = ["#000004", "#1d1147", "#51127c", "#822681", "#b73779", "#e75263", "#fc8961", "#fec488", "#fcfdbf"].map((colour, i) => [i / 8, colour]);

/** Return the outline of a cell. */
function outline(row, column, colour, width = 2.5) {
  return { type: "rect", x0: column - 0.5, x1: column + 0.5, y0: row - 0.5, y1: row + 0.5, line: { color: colour, width } };
}

/** Return an outline with lines through its row and column, as cells may be tiny. */
function crosshair(row, column, nRows, nColumns, colour) {
  const line = { color: translucent(colour, 0.75), width: 1 };
  return [
    { type: "line", x0: -0.5, x1: nColumns - 0.5, y0: row, y1: row, line },
    { type: "line", x0: column, x1: column, y0: -0.5, y1: nRows - 0.5, line },
    outline(row, column, colour),
  ];
}

const isNarrow = (width) => width < 460;
const matrixHeight = (width) => (isNarrow(width) ? width + 110 : width); // more than is needed; the rest is cut off

/** Return a heat map; in a narrow window its colour bar lies above. */
function heatmap(z, [zmin, zmax], title, colours, colorscale, narrow) {
  const place = narrow ? { orientation: "h", y: 1.02, yanchor: "bottom", thickness: 10, title: { text: title, side: "top" } } : { thickness: 12, title: { text: title, side: "right" } };
  return { type: "heatmap", z, zmin, zmax, colorscale, hoverinfo: "none", hoverongaps: true, colorbar: { outlinewidth: 0, tickcolor: colours.ink, ...place } };
}
