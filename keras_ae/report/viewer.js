"use strict";
(() => {
  const element = (id) => document.getElementById(id);
  const data = JSON.parse(element("viewer-data").textContent);
  const [viewer, panes, slider, divider] = ["viewer", "panes", "budget", "divider"].map(element);
  const compare = element("compare");
  const errors = element("errors");
  const state = { image: 0, budget: data.chosen, left: "original", split: 0.5, zoom: 1, x: 0.5, y: 0.5 };
  let shown = null; // The pictures in the panes: left, right, error.
  let requests = 0;

  // Each picture is stored once in the page, and decoded once.
  const decoded = new Map();
  const load = (id) => {
    if (!decoded.has(id)) {
      const image = new Image();
      image.src = element(id).getAttribute("href");
      decoded.set(id, image.decode().then(() => image));
    }
    return decoded.get(id);
  };

  const coloured = new Map();
  const colour = (id, image) => {
    if (coloured.has(id)) return coloured.get(id);
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < pixels.data.length; i += 4) pixels.data.set(data.colours[pixels.data[i]], i);
    context.putImageData(pixels, 0, 0);
    coloured.set(id, canvas);
    return canvas;
  };

  // The position of the image in a canvas, in pixels of the canvas.
  const entry = () => data.images[state.image];
  const fit = (canvas) => Math.min(canvas.width / entry().shown[1], canvas.height / entry().shown[0]);
  const density = () => window.devicePixelRatio || 1;
  const maxZoom = () => Math.max(1, (24 * density()) / fit(compare));
  const clamped = (centre, canvasSide, imageSide) => {
    const half = canvasSide / (2 * imageSide);
    return half >= 0.5 ? 0.5 : Math.min(1 - half, Math.max(half, centre));
  };
  const position = (canvas) => {
    const scale = fit(canvas) * state.zoom;
    const [height, width] = entry().shown.map((side) => side * scale);
    state.x = clamped(state.x, canvas.width, width);
    state.y = clamped(state.y, canvas.height, height);
    const left = Math.round(canvas.width / 2 - state.x * width);
    const top = Math.round(canvas.height / 2 - state.y * height);
    return { left, top, width, height, scale };
  };

  const paint = (canvas, layers) => {
    const context = canvas.getContext("2d");
    const { left, top, width, height, scale } = position(canvas);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingEnabled = scale < 2;
    context.imageSmoothingQuality = "high";
    for (const [picture, from, to] of layers) {
      context.save();
      context.beginPath();
      context.rect(from, 0, to - from, canvas.height);
      context.clip();
      context.drawImage(picture, left, top, width, height);
      context.restore();
    }
    canvas.dataset.position = [left, top, scale].join(" ");
  };

  const draw = () => {
    if (!shown || !compare.width) return;
    const edge = Math.round(state.split * compare.width);
    paint(compare, [[shown.left, 0, edge], [shown.right, edge, compare.width]]);
    paint(errors, [[shown.error, 0, errors.width]]);
    divider.style.left = `${100 * state.split}%`;
    const share = Math.round(100 * state.split);
    divider.setAttribute("aria-valuenow", share);
    divider.setAttribute("aria-valuetext", `${share} % ${leftName()}, ${100 - share} % reconstruction`);
    element("zoom-text").value = `${(fit(compare) * state.zoom / density() * ratio() * 100).toPrecision(2) * 1} %`;
    panes.classList.toggle("zoomed", state.zoom > 1);
  };

  const leftName = () => (state.left === "original" ? "original" : "PCA floor");
  const ratio = () => entry().shown[1] / entry().width;
  const format = (value, digits, unit = "", sign = false) =>
    value === null ? "\u2013" : `${sign && value >= 0 ? "+" : ""}${value.toFixed(digits)}${unit}`;
  const epochs = () => `${data.budgets[state.budget].toLocaleString("en")} epoch${data.budgets[state.budget] === 1 ? "" : "s"}`;

  const showTexts = () => {
    const { name, rank, height, width, floor_psnr: floor, budgets } = entry();
    const { psnr, ssim } = budgets[state.budget];
    const chosen = state.budget === data.chosen ? ", chosen" : "";
    slider.value = state.budget;
    slider.setAttribute("aria-valuetext", epochs() + chosen);
    element("budget-text").value = data.budgets[state.budget].toLocaleString("en") + chosen;
    element("image-name").textContent = name + (rank ? ` (${rank})` : "");
    const percent = Math.round(100 * ratio());
    element("image-size").textContent = `${width} x ${height} pixels` +
      (percent < 100 ? `, shown at ${percent} % of its size` : "");
    element("psnr").textContent = format(psnr, 2, " dB");
    element("ssim").textContent = format(ssim, 4);
    element("floor-psnr").textContent = format(floor, 2, " dB");
    element("gain").textContent = format(psnr === null || floor === null ? null : psnr - floor, 2, " dB", true);
    element("left-tag").textContent = leftName();
    element("right-tag").textContent = epochs();
    compare.setAttribute("aria-label", `${name}: ${leftName()} on the left, ${epochs()} on the right`);
    errors.setAttribute("aria-label", `${name}: error at ${epochs()}`);
  };

  const show = async () => {
    showTexts();
    const request = ++requests;
    const { image, budget, left } = state;
    const at = entry().budgets[budget];
    const [leftPicture, right, error] = await Promise.all([load(entry()[left]), load(at.image), load(at.error)]);
    if (request !== requests) return;
    shown = { left: leftPicture, right, error: colour(at.error, error) };
    draw();
    viewer.dataset.shown = `${image} ${data.budgets[budget]} ${left}`;
    for (const other of entry().budgets) load(other.image);
  };

  // Both panes share the state of zoom and pan.
  const zoomTo = (zoom, canvas = compare, fx = 0.5, fy = 0.5) => {
    const before = position(canvas);
    const x = (fx * canvas.width - before.left) / before.width;
    const y = (fy * canvas.height - before.top) / before.height;
    state.zoom = Math.min(maxZoom(), Math.max(1, zoom));
    const scale = fit(canvas) * state.zoom;
    state.x = x - ((fx - 0.5) * canvas.width) / (entry().shown[1] * scale);
    state.y = y - ((fy - 0.5) * canvas.height) / (entry().shown[0] * scale);
    draw();
  };
  const pan = (dx, dy) => {
    const { width, height } = position(compare);
    state.x -= (dx * density()) / width;
    state.y -= (dy * density()) / height;
    draw();
  };
  const move = (split) => {
    state.split = Math.min(1, Math.max(0, split));
    draw();
  };

  const STEP = 40;
  const paneKeys = {
    ArrowLeft: () => pan(STEP, 0), ArrowRight: () => pan(-STEP, 0),
    ArrowUp: () => pan(0, STEP), ArrowDown: () => pan(0, -STEP),
    "+": () => zoomTo(state.zoom * 1.5), "=": () => zoomTo(state.zoom * 1.5),
    "-": () => zoomTo(state.zoom / 1.5), 0: () => zoomTo(1),
  };
  const dividerKeys = {
    ArrowLeft: () => move(state.split - 0.02), ArrowRight: () => move(state.split + 0.02),
    ArrowDown: () => move(state.split - 0.02), ArrowUp: () => move(state.split + 0.02),
    PageDown: () => move(state.split - 0.1), PageUp: () => move(state.split + 0.1),
    Home: () => move(0), End: () => move(1),
  };
  const onKeys = (target, keys) => target.addEventListener("keydown", (event) => {
    const act = keys[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  });

  const watch = (pane, canvas) => {
    onKeys(pane, paneKeys);
    const pointers = new Map();
    const spread = () => {
      const [a, b] = [...pointers.values()];
      return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
    };
    const share = (event) => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    pane.addEventListener("pointerdown", (event) => {
      if (event.target === divider) return;
      pointers.set(event.pointerId, event);
      pane.setPointerCapture(event.pointerId);
    });
    pane.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      if (pointers.size === 2) {
        const distance = spread();
        pointers.set(event.pointerId, event);
        if (distance > 0) zoomTo((state.zoom * spread()) / distance, canvas, ...share(event));
      } else {
        pan(event.clientX - before.clientX, event.clientY - before.clientY);
        pointers.set(event.pointerId, event);
      }
    });
    for (const end of ["pointerup", "pointercancel"]) {
      pane.addEventListener(end, (event) => pointers.delete(event.pointerId));
    }
    // Without focus on a pane, the wheel scrolls the page.
    pane.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey && !panes.contains(document.activeElement)) return;
      event.preventDefault();
      zoomTo(state.zoom * Math.exp(-event.deltaY / (event.ctrlKey ? 100 : 400)), canvas, ...share(event));
    }, { passive: false });
    new ResizeObserver(() => {
      canvas.width = Math.round(pane.clientWidth * density());
      canvas.height = Math.round(pane.clientHeight * density());
      draw();
    }).observe(pane);
  };

  divider.addEventListener("pointerdown", (event) => divider.setPointerCapture(event.pointerId));
  divider.addEventListener("pointermove", (event) => {
    if (!divider.hasPointerCapture(event.pointerId)) return;
    const box = compare.getBoundingClientRect();
    move((event.clientX - box.left) / box.width);
  });
  onKeys(divider, dividerKeys);
  slider.addEventListener("input", () => {
    state.budget = Number(slider.value);
    show();
  });
  viewer.addEventListener("change", (event) => {
    if (event.target.name === "left") state.left = event.target.value;
    else if (event.target.name === "image") Object.assign(state, { image: Number(event.target.value), zoom: 1, x: 0.5, y: 0.5 });
    else return;
    show();
  });
  element("zoom-in").addEventListener("click", () => zoomTo(state.zoom * 1.5));
  element("zoom-out").addEventListener("click", () => zoomTo(state.zoom / 1.5));
  element("zoom-reset").addEventListener("click", () => zoomTo(1));

  // Browsers may restore the choices of an earlier visit, which the page does not show.
  for (const input of viewer.querySelectorAll("input[type=radio]")) input.checked = input.defaultChecked;
  viewer.hidden = false;
  element("static").hidden = true;
  watch(element("compare-pane"), compare);
  watch(element("errors-pane"), errors);
  show();
})();
