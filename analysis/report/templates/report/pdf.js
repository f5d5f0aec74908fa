// A chart as PDF: its SVG is drawn again with the operators of a PDF page. Lines stay lines, and text stays text.

const WIN_ANSI = { "\u2013": 150, "\u2014": 151, "\u2212": 150, "\u2026": 133, "\u2018": 145, "\u2019": 146, "\u201c": 147, "\u201d": 148, "\u2022": 149, "\u20ac": 128 };

/** Return a text as a string of the font of a PDF; a character that it lacks becomes an escape such as \u4e2d. */
function pdfText(text) {
  const codes = Array.from(text).flatMap((letter) => {
    const code = letter.codePointAt(0);
    const known = WIN_ANSI[letter] ?? ((code >= 32 && code < 127) || (code >= 160 && code < 256) ? code : undefined);
    return known === undefined ? Array.from(`\\u${code.toString(16).padStart(4, "0")}`, (each) => each.charCodeAt(0)) : [known];
  });
  return `<${codes.map((code) => code.toString(16).padStart(2, "0")).join("")}>`;
}

const COUNTS = { M: 2, L: 2, H: 1, V: 1, C: 6, S: 4, Q: 4, T: 2, A: 7, Z: 0 };
const short = (number) => String(Number(number.toFixed(3)));
const operation = (name, ...numbers) => `${numbers.map(short).join(" ")} ${name}`;

/** Return the commands of an SVG path, [letter, numbers], one for each repetition. */
function pathCommands(text) {
  const commands = [];
  for (const [, letter, rest] of text.matchAll(/([MLHVCSQTAZ])([^MLHVCSQTAZ]*)/gi)) {
    const pattern = letter.toUpperCase() === "A" ? null : /[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?/gi;
    const numbers = pattern ? (rest.match(pattern) ?? []).map(Number) : arcNumbers(rest);
    const n = COUNTS[letter.toUpperCase()];
    for (let at = 0; at === 0 || at < numbers.length; at += n || 1) {
      const next = { M: "L", m: "l" }[letter];
      commands.push([at && next ? next : letter, numbers.slice(at, at + n)]);
    }
  }
  return commands;
}

/** The numbers of arcs, whose two flags may stand without a space. */
function arcNumbers(text) {
  const number = "([-+]?(?:\\d+\\.?\\d*|\\.\\d+)(?:e[-+]?\\d+)?)[\\s,]*";
  const arcs = text.matchAll(new RegExp(`${number}${number}${number}([01])[\\s,]*([01])[\\s,]*${number}${number}`, "gi"));
  return [...arcs].flatMap((found) => found.slice(1, 8).map(Number));
}

/** Return the operators of a PDF that draw an SVG path. */
function pathOperations(text) {
  const out = [];
  let [x, y, startX, startY, controlX, controlY] = [0, 0, 0, 0, 0, 0];
  const curve = (x1, y1, x2, y2, x3, y3) => {
    out.push(operation("c", x1, y1, x2, y2, x3, y3));
    [x, y, controlX, controlY] = [x3, y3, x2, y2];
  };
  const quadratic = (x1, y1, x3, y3) => {
    curve(x + (2 / 3) * (x1 - x), y + (2 / 3) * (y1 - y), x3 + (2 / 3) * (x1 - x3), y3 + (2 / 3) * (y1 - y3), x3, y3);
    [controlX, controlY] = [x1, y1];
  };
  for (const [letter, given] of pathCommands(text)) {
    const isRelative = letter !== letter.toUpperCase(), kind = letter.toUpperCase();
    const [ox, oy] = isRelative ? [x, y] : [0, 0];
    const n = kind === "H" ? [given[0] + ox] : kind === "V" ? [given[0] + oy] : kind === "A" ? [...given.slice(0, 5), given[5] + ox, given[6] + oy] : given.map((each, i) => each + (i % 2 ? oy : ox));
    if (kind === "M" || kind === "L" || kind === "H" || kind === "V") {
      [x, y] = kind === "H" ? [n[0], y] : kind === "V" ? [x, n[0]] : n;
      if (kind === "M") [startX, startY] = [x, y];
      out.push(operation(kind === "M" ? "m" : "l", x, y));
      [controlX, controlY] = [x, y];
    } else if (kind === "C") curve(...n);
    else if (kind === "S") curve(2 * x - controlX, 2 * y - controlY, ...n);
    else if (kind === "Q") quadratic(...n);
    else if (kind === "T") quadratic(2 * x - controlX, 2 * y - controlY, ...n);
    else if (kind === "A") arcCurves(x, y, ...n).forEach((each) => curve(...each));
    else {
      out.push("h");
      [x, y, controlX, controlY] = [startX, startY, startX, startY];
    }
  }
  return out.join("\n");
}

/** Return the Bezier curves of an elliptic arc from (x1, y1), after the implementation notes of SVG. */
function arcCurves(x1, y1, rx, ry, degrees, isLarge, isSweep, x2, y2) {
  if (rx === 0 || ry === 0) return [[x1, y1, x2, y2, x2, y2]];
  const turn = (degrees * Math.PI) / 180, cos = Math.cos(turn), sin = Math.sin(turn);
  const dx = (x1 - x2) / 2, dy = (y1 - y2) / 2;
  const u = cos * dx + sin * dy, v = cos * dy - sin * dx;
  const scale = Math.max(1, Math.hypot(u / rx, v / ry));
  const [a, b] = [Math.abs(rx) * scale, Math.abs(ry) * scale];
  const root = Math.sqrt(Math.max(0, (a * a * b * b - a * a * v * v - b * b * u * u) / (a * a * v * v + b * b * u * u || 1)));
  const side = Boolean(isLarge) === Boolean(isSweep) ? -root : root;
  const cu = (side * a * v) / b, cv = (-side * b * u) / a;
  const cx = cos * cu - sin * cv + (x1 + x2) / 2, cy = sin * cu + cos * cv + (y1 + y2) / 2;
  const from = Math.atan2((v - cv) / b, (u - cu) / a), to = Math.atan2((-v - cv) / b, (-u - cu) / a);
  let sweep = to - from;
  if (isSweep && sweep < 0) sweep += 2 * Math.PI;
  if (!isSweep && sweep > 0) sweep -= 2 * Math.PI;
  const n = Math.max(1, Math.ceil(Math.abs(sweep) / (Math.PI / 2) - 1e-9)), step = sweep / n, k = (4 / 3) * Math.tan(step / 4);
  const place = (s, t) => [cx + a * s * cos - b * t * sin, cy + a * s * sin + b * t * cos];
  return Array.from({ length: n }, (_, i) => {
    const p = from + i * step, q = p + step;
    return [
      ...place(Math.cos(p) - k * Math.sin(p), Math.sin(p) + k * Math.cos(p)),
      ...place(Math.cos(q) + k * Math.sin(q), Math.sin(q) - k * Math.cos(q)),
      ...(i === n - 1 ? [x2, y2] : place(Math.cos(q), Math.sin(q))),
    ];
  });
}

/** Return the operators that trace the outline of a shape. */
function outlineOf(node) {
  const of = (name) => Number.parseFloat(node.getAttribute(name) ?? 0) || 0;
  if (node.tagName === "path") return pathOperations(node.getAttribute("d") ?? "");
  if (node.tagName === "rect") return operation("re", of("x"), of("y"), of("width"), of("height"));
  if (node.tagName === "line") return `${operation("m", of("x1"), of("y1"))}\n${operation("l", of("x2"), of("y2"))}`;
  const rx = of("r") || of("rx"), ry = of("r") || of("ry"), [cx, cy] = [of("cx"), of("cy")];
  return pathOperations(`M${cx - rx},${cy}A${rx},${ry} 0 1 1 ${cx + rx},${cy}A${rx},${ry} 0 1 1 ${cx - rx},${cy}Z`);
}

/** Return red, green, blue from 0 to 1 and the opacity of a colour as the browser computes it; null without paint. */
function paintOf(text) {
  const parts = text.match(/[\d.]+/g)?.map(Number);
  if (text === "none" || !parts || !text.startsWith("rgb")) return null;
  return { rgb: parts.slice(0, 3).map((part) => part / 255), alpha: parts[3] ?? 1 };
}

/** The content of a page, with the pictures and opacities that it uses. */
class PdfPage {
  constructor(svg) {
    Object.assign(this, { svg, lines: [], pictures: [], opacities: new Map() });
  }

  async add(node, opacity) {
    const style = getComputedStyle(node);
    if (["defs", "clipPath", "style", "title"].includes(node.tagName) || style.display === "none" || style.visibility === "hidden") return;
    const own = opacity * Number(style.opacity);
    this.lines.push("q");
    this.clip(node);
    if (node.tagName === "text") this.text(node, own);
    else if (node.tagName === "image") await this.picture(node, own);
    else if (["path", "rect", "line", "circle", "ellipse"].includes(node.tagName)) this.shape(node, style, own);
    else for (const child of node.children) await this.add(child, own);
    this.lines.push("Q");
  }

  place(node) {
    const { a, b, c, d, e, f } = node.getCTM();
    return operation("cm", a, b, c, d, e, f);
  }

  clip(node) {
    const id = /#([^"')]+)/.exec(node.getAttribute("clip-path") ?? node.style.clipPath ?? "")?.[1];
    const shape = id && this.svg.querySelector(`clipPath[id="${id}"]`)?.firstElementChild;
    if (!shape) return;
    const { a, b, c, d, e, f } = node.getCTM(), back = new DOMMatrix([a, b, c, d, e, f]).inverse();
    this.lines.push(this.place(node), outlineOf(shape), "W n", operation("cm", back.a, back.b, back.c, back.d, back.e, back.f));
  }

  /** Set the opacities of filling and stroking. */
  setOpacity(fill, stroke) {
    const key = `${short(fill)} ${short(stroke)}`;
    if (key === "1 1") return;
    if (!this.opacities.has(key)) this.opacities.set(key, `G${this.opacities.size}`);
    this.lines.push(`/${this.opacities.get(key)} gs`);
  }

  shape(node, style, opacity) {
    const fill = node.tagName === "line" ? null : paintOf(style.fill), width = Number.parseFloat(style.strokeWidth);
    const stroke = width > 0 ? paintOf(style.stroke) : null;
    const alphas = [fill && fill.alpha * Number(style.fillOpacity) * opacity, stroke && stroke.alpha * Number(style.strokeOpacity) * opacity];
    const drawn = [fill && alphas[0] > 0, stroke && alphas[1] > 0];
    const outline = outlineOf(node);
    if (!outline || !(drawn[0] || drawn[1])) return;
    this.setOpacity(alphas[0] ?? 1, alphas[1] ?? 1);
    this.lines.push(this.place(node));
    if (drawn[0]) this.lines.push(operation("rg", ...fill.rgb));
    if (drawn[1]) {
      const dashes = (style.strokeDasharray.match(/[\d.]+/g) ?? []).map(Number);
      const join = { round: 1, bevel: 2 }[style.strokeLinejoin] ?? 0, cap = { round: 1, square: 2 }[style.strokeLinecap] ?? 0;
      this.lines.push(operation("RG", ...stroke.rgb), operation("w", width), `[${dashes.map(short).join(" ")}] 0 d ${join} j ${cap} J`);
    }
    const isEvenOdd = style.fillRule === "evenodd" ? "*" : "";
    this.lines.push(outline, drawn[0] ? `${drawn[1] ? "B" : "f"}${isEvenOdd}` : "S");
  }

  text(root, opacity) {
    let place = 0;
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const { data, parentElement } = walker.currentNode, style = getComputedStyle(parentElement), paint = paintOf(style.fill);
      const n = data.length;
      if (n && paint && data.trim() && place < root.getNumberOfChars()) {
        const { x, y } = root.getStartPositionOfChar(place), isBold = Number(style.fontWeight) >= 600;
        this.lines.push("q");
        this.setOpacity(paint.alpha * opacity, 1);
        this.lines.push(this.place(root), operation("rg", ...paint.rgb), "BT", `/${isBold ? "F2" : "F1"} ${short(Number.parseFloat(style.fontSize))} Tf`,
          operation("Tm", 1, 0, 0, -1, x, y), `${pdfText(data)} Tj`, "ET", "Q");
      }
      place += n;
    }
  }

  async picture(node, opacity) {
    const of = (name) => Number.parseFloat(node.getAttribute(name) ?? 0);
    const canvas = await canvasOf(node.getAttribute("href") ?? node.getAttribute("xlink:href"));
    const { data, width, height } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const rgb = new Uint8Array(width * height * 3);
    for (let i = 0, j = 0; i < data.length; i += 4) for (let part = 0; part < 3; part++) rgb[j++] = data[i + part];
    this.pictures.push({ width, height, data: await deflated(rgb) });
    this.setOpacity(opacity, opacity);
    this.lines.push(this.place(node), operation("cm", of("width"), 0, 0, -of("height"), of("x"), of("y") + of("height")), `/I${this.pictures.length - 1} Do`);
  }
}

async function deflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Return a PDF with one page that shows an SVG. Sizes are in pixels; a CSS pixel is 0.75 points. */
async function vectorPdf(text, size) {
  const svg = document.importNode(new DOMParser().parseFromString(text, "image/svg+xml").documentElement, true);
  const box = el("div", { class: "offscreen", "aria-hidden": "true" });
  box.append(svg);
  document.body.append(box);
  try {
    const page = new PdfPage(svg);
    for (const child of svg.children) await page.add(child, 1);
    return pdfOf(page, size);
  } finally {
    box.remove();
  }
}

/** Return the file of a page: its content, fonts, opacities and pictures. */
function pdfOf({ lines, pictures, opacities }, size) {
  const [width, height] = [size.width * 0.75, size.height * 0.75];
  const content = new TextEncoder().encode(`q ${operation("cm", 0.75, 0, 0, -0.75, 0, height)}\n${lines.join("\n")}\nQ`);
  const font = (name) => [`<< /Type /Font /Subtype /Type1 /BaseFont /${name} /Encoding /WinAnsiEncoding >>`];
  const states = [...opacities].map(([key, name]) => {
    const [fill, stroke] = key.split(" ");
    return `/${name} << /ca ${fill} /CA ${stroke} >>`;
  });
  const images = pictures.map((_, i) => `/I${i} ${7 + i} 0 R`);
  const resources = `<< /Font << /F1 5 0 R /F2 6 0 R >> /ExtGState << ${states.join(" ")} >> /XObject << ${images.join(" ")} >> >>`;
  return joined([
    ["<< /Type /Catalog /Pages 2 0 R >>"],
    ["<< /Type /Pages /Kids [3 0 R] /Count 1 >>"],
    [`<< /Type /Page /Parent 2 0 R /MediaBox [0 0 ${short(width)} ${short(height)}] /Resources ${resources} /Contents 4 0 R >>`],
    [`<< /Length ${content.length} >>\nstream\n`, content, "\nendstream"],
    font("Helvetica"), font("Helvetica-Bold"),
    ...pictures.map((picture) => [
      `<< /Type /XObject /Subtype /Image /Width ${picture.width} /Height ${picture.height} /ColorSpace /DeviceRGB /BitsPerComponent 8 /Filter /FlateDecode /Length ${picture.data.length} >>\nstream\n`,
      picture.data, "\nendstream",
    ]),
  ]);
}
