// Downloads: CSV, pictures, and the objects of a PDF.

function save(name, type, ...parts) {
  const url = URL.createObjectURL(new Blob(parts, { type }));
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

const fileName = (text, kind) => `${text.replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[-.]+|[-.]+$/g, "").slice(0, 100) || "chart"}.${kind}`;

/** Return a field of CSV. An apostrophe precedes text that a spreadsheet would read as a formula. */
function field(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "string") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
}

function saveCsv(name, { columns, rows }) {
  const lines = [columns, ...rows].map((row) => row.map(field).join(","));
  save(fileName(name, "csv"), "text/csv", `${lines.join("\n")}\n`);
}

function bytesOfUrl(url) {
  const comma = url.indexOf(",");
  const data = url.slice(comma + 1);
  return url.slice(0, comma).endsWith(";base64") ? bytesOf(data) : new TextEncoder().encode(decodeURIComponent(data));
}

function joined(objects) {
  const encoder = new TextEncoder(), parts = [], places = [];
  let length = 0;
  const put = (part) => {
    const bytes = typeof part === "string" ? encoder.encode(part) : part;
    parts.push(bytes);
    length += bytes.length;
  };
  put("%PDF-1.4\n");
  objects.forEach((object, i) => {
    places.push(length);
    [`${i + 1} 0 obj\n`, ...object, "\nendobj\n"].forEach(put);
  });
  const start = length;
  const entries = places.map((place) => `${String(place).padStart(10, "0")} 00000 n \n`).join("");
  put(`xref\n0 ${objects.length + 1}\n0000000000 65535 f \n${entries}`);
  put(`trailer\n<< /Size ${objects.length + 1} /Root 1 0 R >>\nstartxref\n${start}\n%%EOF\n`);
  return new Blob(parts);
}

/** Return a canvas with an image on a white background. */
async function canvasOf(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = el("canvas", { width: image.naturalWidth, height: image.naturalHeight });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0);
  return canvas;
}

/** Return one button per file format; `named` names the chart for screen readers. */
function saveButtons(named, actions) {
  const buttons = Object.entries(actions).map(([kind, act]) =>
    el("button", { type: "button", "data-save": kind.toLowerCase(), "aria-label": `${kind} of ${named}`, click: act }, kind));
  return el("div", { class: "buttons", role: "group", "aria-label": `Save ${named}` }, ...buttons);
}
