"use strict";
// Point at a patch of the large picture: every map shows what that patch attends to. Data: see attention_page.py.
const shared = JSON.parse(document.getElementById("shared").textContent);

async function unpack(text) {  // base64 of deflated bytes
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function begin(section) {
  const about = JSON.parse(section.querySelector("script").textContent);
  const { rows, columns, prefix, layers, heads } = about;
  const patches = rows * columns, queries = prefix.length + patches + 1;  // the last one is the mean of all patches
  const levels = await unpack(about.levels);  // maps x queries x patches
  const most = new Float32Array((await unpack(about.most)).buffer);  // maps x queries: weight of the brightest patch
  const elsewhere = new Float32Array((await unpack(about.elsewhere)).buffer);  // maps x queries: on prefix tokens
  const large = section.querySelector(".large"), cursor = large.querySelector(".cursor");
  const said = section.querySelector(".said"), maps = [...section.querySelectorAll(".map")];
  let query = about.start, chosen = (layers - 1) * heads, target = null, pinned = false;

  function draw(canvas, map) {
    canvas.width = columns;
    canvas.height = rows;
    const pen = canvas.getContext("2d"), image = pen.createImageData(columns, rows);
    const base = (map * queries + query) * patches;
    for (let patch = 0; patch < patches; patch++)
      for (let channel = 0; channel < 4; channel++)
        image.data[4 * patch + channel] = shared.colours[4 * levels[base + patch] + channel];
    pen.putImageData(image, 0, 0);
  }

  const place = (patch) => `row ${Math.floor(patch / columns) + 1}, column ${patch % columns + 1}`;
  const per_cent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
  const name = (map) => map === layers * heads ? "rollout through all layers"
    : `layer ${Math.floor(map / heads) + 1}, attention head ${map % heads + 1}`;

  function tell() {
    const at = chosen * queries + query, row = levels.subarray(at * patches, (at + 1) * patches);
    const who = query === queries - 1 ? "The mean of all patches" : query < prefix.length
      ? `The ${prefix[query]}` : `The patch in ${place(query - prefix.length)}`;
    const seen = target === null ? row.indexOf(255) : target;
    const share = most[at] * row[seen] / 255;
    const what = target === null ? `most to the patch in ${place(seen)}` : `to the patch in ${place(seen)}`;
    const rest = prefix.length ? ` ${per_cent(elsewhere[at])} goes to the ${prefix.join(", ")}.` : "";
    said.textContent = `${who} gives ${what}: ${per_cent(share)} (${name(chosen)}).${rest}`;
  }

  function show() {
    maps.forEach((map, number) => {
      draw(map.querySelector("canvas"), number);
      map.setAttribute("aria-pressed", number === chosen);
    });
    draw(large.querySelector("canvas"), chosen);
    const patch = query - prefix.length, stands = patch >= 0 && patch < patches;
    cursor.hidden = !stands;
    cursor.style.left = `${100 * (patch % columns) / columns}%`;
    cursor.style.top = `${100 * Math.floor(patch / columns) / rows}%`;
    large.classList.toggle("pinned", pinned);
    section.querySelectorAll(".token").forEach((button) =>
      button.setAttribute("aria-pressed", Number(button.dataset.query) === query));
    tell();
  }

  function at(event) {
    const box = large.getBoundingClientRect();
    const row = Math.floor(rows * (event.clientY - box.top) / box.height);
    const column = Math.floor(columns * (event.clientX - box.left) / box.width);
    return Math.min(Math.max(row, 0), rows - 1) * columns + Math.min(Math.max(column, 0), columns - 1);
  }

  large.addEventListener("pointermove", (event) => {
    if (pinned) { target = at(event); tell(); return; }
    query = prefix.length + at(event);
    show();
  });
  large.addEventListener("pointerleave", () => { target = null; tell(); });
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

  const asked = location.hash.match(/^#(\d+),(\d+),(\d+)$/);  // picture, row, column, as one counts
  if (asked && Number(asked[1]) === about.number && asked[2] >= 1 && asked[2] <= rows
      && asked[3] >= 1 && asked[3] <= columns) {
    query = prefix.length + (asked[2] - 1) * columns + (asked[3] - 1);
    pinned = true;
  }
  show();
}

document.querySelectorAll("section.picture").forEach(begin);
