"use strict";
// Point at a patch of the large image: every map shows what that patch attends to. For the data see maps_html.py.
const shared = JSON.parse(document.getElementById("shared").textContent);

async function unpack(text) {  // base64 of deflated bytes
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function start(section) {
  const data = JSON.parse(section.querySelector("script").textContent);
  const { rows, columns, prefix, layers, heads } = data;
  const patches = rows * columns, queries = prefix.length + patches + 1;  // the last one is the mean of all patches
  const levels = await unpack(data.levels);  // maps x queries x patches
  const maximum = new Float32Array((await unpack(data.maximum)).buffer);  // maps x queries: largest weight of a patch
  const prefixShare = new Float32Array((await unpack(data.prefix_share)).buffer);  // maps x queries: on prefix tokens
  const large = section.querySelector(".large"), cursor = large.querySelector(".cursor");
  const status = section.querySelector(".status"), maps = [...section.querySelectorAll(".map")];
  let query = data.initial, chosen = (layers - 1) * heads, target = null, pinned = false;

  function draw(canvas, map) {
    canvas.width = columns;
    canvas.height = rows;
    const pen = canvas.getContext("2d"), image = pen.createImageData(columns, rows);
    const base = (map * queries + query) * patches;
    for (let patch = 0; patch < patches; patch++)
      for (let channel = 0; channel < 4; channel++)
        image.data[4 * patch + channel] = shared.colormap[4 * levels[base + patch] + channel];
    pen.putImageData(image, 0, 0);
  }

  const position = (patch) => `row ${Math.floor(patch / columns) + 1}, column ${patch % columns + 1}`;
  const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
  const name = (map) => map === layers * heads ? "rollout through all layers"
    : `layer ${Math.floor(map / heads) + 1}, attention head ${map % heads + 1}`;

  function describe() {
    const at = chosen * queries + query, row = levels.subarray(at * patches, (at + 1) * patches);
    const token = query === queries - 1 ? "The mean of all patches" : query < prefix.length
      ? `The ${prefix[query]}` : `The patch in ${position(query - prefix.length)}`;
    const attended = target === null ? row.indexOf(255) : target;
    const share = maximum[at] * row[attended] / 255;
    const what = target === null ? `most to the patch in ${position(attended)}` : `to the patch in ${position(attended)}`;
    const rest = prefix.length ? ` ${percent(prefixShare[at])} goes to the ${prefix.join(", ")}.` : "";
    status.textContent = `${token} gives ${what}: ${percent(share)} (${name(chosen)}).${rest}`;
  }

  function show() {
    maps.forEach((map, number) => {
      draw(map.querySelector("canvas"), number);
      map.setAttribute("aria-pressed", number === chosen);
    });
    draw(large.querySelector("canvas"), chosen);
    const patch = query - prefix.length, inside = patch >= 0 && patch < patches;
    cursor.hidden = !inside;
    cursor.style.left = `${100 * (patch % columns) / columns}%`;
    cursor.style.top = `${100 * Math.floor(patch / columns) / rows}%`;
    large.classList.toggle("pinned", pinned);
    section.querySelectorAll(".token").forEach((button) =>
      button.setAttribute("aria-pressed", Number(button.dataset.query) === query));
    describe();
  }

  function at(event) {
    const box = large.getBoundingClientRect();
    const row = Math.floor(rows * (event.clientY - box.top) / box.height);
    const column = Math.floor(columns * (event.clientX - box.left) / box.width);
    return Math.min(Math.max(row, 0), rows - 1) * columns + Math.min(Math.max(column, 0), columns - 1);
  }

  large.addEventListener("pointermove", (event) => {
    if (pinned) { target = at(event); describe(); return; }
    query = prefix.length + at(event);
    show();
  });
  large.addEventListener("pointerleave", () => { target = null; describe(); });
  large.addEventListener("click", (event) => {
    pinned = !pinned;
    target = null;
    query = prefix.length + at(event);
    show();
  });
  large.addEventListener("keydown", (event) => {
    const step = { ArrowUp: -columns, ArrowDown: columns, ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const patch = query - prefix.length;
    query = prefix.length + (patch < 0 || patch >= patches ? 0 : (patch + step + patches) % patches);
    pinned = true;
    show();
  });
  section.querySelectorAll(".token").forEach((button) => button.addEventListener("click", () => {
    query = Number(button.dataset.query);
    pinned = true;
    show();
  }));
  maps.forEach((map, number) => map.addEventListener("click", () => { chosen = number; show(); }));

  const link = location.hash.match(/^#(\d+),(\d+),(\d+)$/);  // image, row, column, counted from 1
  if (link && Number(link[1]) === data.number && link[2] >= 1 && link[2] <= rows
      && link[3] >= 1 && link[3] <= columns) {
    query = prefix.length + (link[2] - 1) * columns + (link[3] - 1);
    pinned = true;
  }
  show();
}

document.querySelectorAll("section.image").forEach(start);
