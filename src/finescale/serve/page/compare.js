// <compare-view>: two pictures of the same thing over each other, a divider between them, zoom and pan for both.

const MOST = 32; // screen pixels for one pixel of the result

class CompareView extends HTMLElement {
  #split = 0.5; #zoom = 1; #x = 0; #y = 0; #isFit = true; #pointers = new Map(); #size = [1, 1]; #load = 0;

  connectedCallback() {
    this.innerHTML = `
      <div class="side before"><img alt="Before"><span class="tag">Before</span></div>
      <div class="side after"><img alt="After"><span class="tag">After</span></div>
      <button type="button" class="handle" role="slider" aria-label="Divider between before and after"
        aria-valuemin="0" aria-valuemax="100"></button>`;
    this.before = this.querySelector(".before img");
    this.after = this.querySelector(".after img");
    this.handle = this.querySelector(".handle");
    this.handle.addEventListener("pointerdown", (event) => {
      event.stopPropagation();
      this.handle.setPointerCapture(event.pointerId);
    });
    this.handle.addEventListener("pointermove", (event) => {
      if (this.handle.hasPointerCapture(event.pointerId)) this.split = this.#place(event)[0] / this.clientWidth;
    });
    this.handle.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.02, ArrowRight: 0.02, PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1 }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      this.split += step;
    });
    this.addEventListener("pointerdown", (event) => {
      this.setPointerCapture(event.pointerId);
      this.#pointers.set(event.pointerId, this.#place(event));
    });
    this.addEventListener("pointermove", (event) => this.#drag(event));
    for (const end of ["pointerup", "pointercancel"])
      this.addEventListener(end, (event) => this.#pointers.delete(event.pointerId));
    this.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), this.#place(event));
    }, { passive: false });
    this.addEventListener("dblclick", (event) => {
      if (event.target !== this.handle) this.#isFit ? this.actual(this.#place(event)) : this.fit();
    });
    new ResizeObserver(() => this.#isFit ? this.fit() : this.#draw()).observe(this);
  }

  // Shows two pictures; both take the size of the result, in its pixels.
  async show(before, after, [height, width]) {
    const load = ++this.#load;
    this.#size = [height, width];
    this.split = 0.5;
    for (const [image, address] of [[this.before, before], [this.after, after]]) {
      image.src = address;
      image.style.width = `${width}px`;
      image.style.height = `${height}px`;
    }
    this.fit();
    await Promise.all([this.before.decode(), this.after.decode()]);
    if (load === this.#load) this.dispatchEvent(new Event("shown"));
  }

  get split() { return this.#split; }
  set split(value) { this.#split = Math.min(1, Math.max(0, value)); this.#draw(); }

  // Result pixels are shown as that many device pixels.
  get zoom() { return this.#zoom * devicePixelRatio; }

  fit() {
    const [height, width] = this.#size;
    this.#zoom = Math.min(this.clientWidth / width, this.clientHeight / height, 4 / devicePixelRatio) || 1;
    this.#x = (this.clientWidth - width * this.#zoom) / 2;
    this.#y = (this.clientHeight - height * this.#zoom) / 2;
    this.#isFit = true;
    this.#draw();
  }

  actual(place) { this.zoomBy(1 / this.zoom, place); }

  zoomBy(factor, [x, y] = [this.clientWidth / 2, this.clientHeight / 2]) {
    const least = Math.min(1 / devicePixelRatio, this.clientWidth / this.#size[1], this.clientHeight / this.#size[0]);
    const zoom = Math.min(MOST, Math.max(least, this.#zoom * factor));
    this.#x = x - (x - this.#x) * zoom / this.#zoom;
    this.#y = y - (y - this.#y) * zoom / this.#zoom;
    this.#zoom = zoom;
    this.#isFit = false;
    this.#draw();
  }

  pan(dx, dy) { this.#x += dx; this.#y += dy; this.#isFit = false; this.#draw(); }

  #place(event) {
    const frame = this.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  }

  #drag(event) {
    const last = this.#pointers.get(event.pointerId);
    if (!last) return;
    const place = this.#place(event);
    const other = [...this.#pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.#pointers.set(event.pointerId, place);
    if (!other) { this.pan(place[0] - last[0], place[1] - last[1]); return; }
    const distance = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]);
    this.zoomBy(distance(place) / Math.max(1, distance(last)), [(place[0] + other[0]) / 2, (place[1] + other[1]) / 2]);
    this.pan((place[0] - last[0]) / 2, (place[1] - last[1]) / 2);
  }

  #draw() {
    if (!this.handle) return;
    const [height, width] = this.#size.map((side) => side * this.#zoom);
    const clamp = (at, size, room) => size <= room ? (room - size) / 2 : Math.min(0, Math.max(room - size, at));
    this.#x = clamp(this.#x, width, this.clientWidth);
    this.#y = clamp(this.#y, height, this.clientHeight);
    const move = `translate(${this.#x}px, ${this.#y}px) scale(${this.#zoom})`;
    for (const image of [this.before, this.after]) {
      image.style.transform = move;
      image.classList.toggle("pixels", this.zoom >= 3);
    }
    const at = this.#split * 100;
    this.querySelector(".before").style.clipPath = `inset(0 ${100 - at}% 0 0)`;
    this.querySelector(".after").style.clipPath = `inset(0 0 0 ${at}%)`;
    this.handle.style.left = `${at}%`;
    this.handle.setAttribute("aria-valuenow", String(Math.round(at)));
    this.dispatchEvent(new Event("view"));
  }
}

customElements.define("compare-view", CompareView);
