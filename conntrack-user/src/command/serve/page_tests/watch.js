// Runs before the page's own scripts, and watches them.

const ask = Response.prototype.json;
Response.prototype.json = async function () {
  return strict(await ask.call(this), new URL(this.url).pathname);
};

// `value`, of which only fields that are there can be read without a complaint.
function strict(value, path) {
  if (value === null || typeof value !== "object") return value;
  return new Proxy(value, {
    get(target, key) {
      if (typeof key === "symbol" || key in target) return strict(target[key], `${path}.${String(key)}`);
      // Whoever waits for a value asks it for this.
      if (key !== "then") console.error(`there is no ${path}.${key}`);
      return undefined;
    },
  });
}

globalThis.alert = (text) => console.error(`alert: ${text}`);

const watch = {
  // Elements with text of their own that is seen.
  *texts() {
    for (const element of document.body.querySelectorAll("*")) {
      const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
      const { width, height } = element.getBoundingClientRect();
      if (hasText && width > 2 && height > 2 && !this.isCutOut(element)) yield element;
    }
  },

  // Whether it is for those who listen only.
  isCutOut(element) {
    return element !== null && (getComputedStyle(element).clipPath !== "none" || this.isCutOut(element.parentElement));
  },

  // Texts that stand out of the window at a side.
  tooWide() {
    const out = ({ left, right }) => left < -1 || right > innerWidth + 1;
    return [...this.texts()].filter((element) => out(element.getBoundingClientRect())).map((element) => element.textContent);
  },

  // Texts with less contrast to what is behind than 4.5:1 (WCAG 2.2, AA).
  tooPale() {
    const light = ([r, g, b]) => {
      const [x, y, z] = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
      return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const colour = (text) => text.match(/[\d.]+/g).map(Number);
    const behind = (element) => {
      const own = colour(getComputedStyle(element).backgroundColor);
      return own[3] === 0 ? behind(element.parentElement) : own;
    };
    return [...this.texts()].flatMap((element) => {
      const style = getComputedStyle(element);
      const ink = colour(element.namespaceURI.endsWith("svg") ? style.fill : style.color);
      const [a, b] = [light(ink), light(behind(element))].sort((a, b) => b - a);
      const contrast = (a + 0.05) / (b + 0.05);
      return contrast < 4.5 ? [`${element.textContent}: ${contrast.toFixed(1)}`] : [];
    });
  },
};
globalThis.watch = watch;
