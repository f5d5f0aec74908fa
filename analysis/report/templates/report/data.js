// Data of the page, unpacked on first use: each text is base64 of a zlib stream.

let content;
const unpacked = new Map();

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function inflated(id) {
  const packed = bytesOf(document.getElementById(id).textContent.trim());
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const inflatedText = async (id) => new TextDecoder().decode(await inflated(id));

async function readArray(key) {
  const { bytes, low, high } = content.arrays[key];
  const raw = await inflated(`array-${key}`);
  if (bytes === 4) return new Float32Array(raw.buffer);
  const codes = bytes === 2 ? new Uint16Array(raw.buffer) : raw;
  const missing = 256 ** bytes - 1; // the largest code; the one before it stands for `high`
  const step = (high - low) / (missing - 1);
  return Float64Array.from(codes, (code) => (code === missing ? NaN : low + code * step));
}

/** Return a promise of the numbers of an array, NaN where they are missing. */
function numbers(key) {
  if (!unpacked.has(key)) unpacked.set(key, readArray(key));
  return unpacked.get(key);
}

/** Return the rows of a symmetric matrix; the diagonal is NaN for a stimulus without any distance. */
function square(condensed, n) {
  const rows = Array.from({ length: n }, () => new Float64Array(n));
  let place = 0;
  for (let i = 0; i < n; i++) for (let j = i + 1; j < n; j++) rows[i][j] = rows[j][i] = condensed[place++];
  rows.forEach((row, i) => {
    if (row.every((value, j) => j === i || Number.isNaN(value))) row[i] = NaN;
  });
  return rows;
}

/** Return the rows of a table as objects. */
function rowsOf(name) {
  const table = content.tables[name] ?? {};
  const columns = Object.keys(table);
  const n = columns.length ? table[columns[0]].length : 0;
  return Array.from({ length: n }, (_, i) => Object.fromEntries(columns.map((column) => [column, table[column][i]])));
}

function rangeOf(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : [0, 1];
}

const unique = (values) => [...new Set(values)];
const isKnown = (value) => typeof value === "number" && Number.isFinite(value);
const className = (stimulus) => content.stimuli.classes[content.stimuli.labels[stimulus]];

/** Return names without a prefix up to a dot that all of them share, such as "1" for "hidden.1". */
function shortNames(names) {
  const prefixes = unique(names.map((name) => name.slice(0, name.lastIndexOf(".") + 1)));
  return prefixes.length === 1 ? names.map((name) => name.slice(prefixes[0].length)) : names;
}
