// A box of lines that grows at its end: drawn once a frame, bounded, still while somebody reads above.

/** The most lines kept in the page; what is older can be had by its own way. */
export const MAX_LINES = 5000;
/** How close to the end counts as at the end, in pixels. */
const NEAR = 48;

export class Lines {
  #waiting = [];
  #frame = 0;
  #held = false;

  /** `onHold` is told whether new lines are shown (`false`) or wait (`true`), and how many wait. */
  constructor(box, onHold = () => {}) {
    this.box = box;
    this.onHold = onHold;
    this.count = 0;
    box.addEventListener("scroll", () => this.#scrolled(), { passive: true });
  }

  get following() {
    return !this.#held;
  }

  /** Adds lines, as HTML that the server made, to the end. */
  add(html, lines = 1) {
    this.#waiting.push(html);
    this.count += lines;
    if (this.#held) {
      this.onHold(true, this.#waiting.length);
      return;
    }
    // Without a frame for a while, as in a tab in the background, it must not grow for ever.
    if (document.hidden) this.#draw();
    else this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  /** Adds older lines to the beginning; what is looked at stays where it is. */
  prepend(html) {
    const { scrollHeight, scrollTop } = this.box;
    this.box.insertAdjacentHTML("afterbegin", html);
    this.box.scrollTop = scrollTop + this.box.scrollHeight - scrollHeight;
  }

  /** Stops or goes on with showing new lines. */
  hold(held) {
    if (this.#held === held) return;
    this.#held = held;
    if (!held) this.#draw();
    this.onHold(held, this.#waiting.length);
  }

  toEnd() {
    this.hold(false);
    this.box.scrollTop = this.box.scrollHeight;
  }

  clear() {
    this.#waiting = [];
    this.box.replaceChildren();
  }

  #draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (this.#waiting.length === 0) return;
    const atEnd = this.#atEnd();
    this.box.insertAdjacentHTML("beforeend", this.#waiting.join(""));
    this.#waiting = [];
    const surplus = this.box.childElementCount - MAX_LINES;
    if (surplus > 0) {
      const range = document.createRange();
      range.setStartBefore(this.box.firstChild);
      range.setEndBefore(this.box.children[surplus]);
      range.deleteContents();
    }
    if (atEnd) this.box.scrollTop = this.box.scrollHeight;
  }

  #atEnd() {
    return this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < NEAR;
  }

  #scrolled() {
    // Waiting lines are kept as text; whoever reads above is not pushed about.
    this.hold(!this.#atEnd());
  }
}
