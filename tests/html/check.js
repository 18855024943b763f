// Returns what is wrong with the document, which may have only these elements and has to have these texts as text.
(elements, literals) => {
  const found = [];
  const all = [...document.querySelectorAll("*")];
  const ids = all.map((element) => element.id).filter(Boolean);
  for (const element of all) {
    const { localName, outerHTML } = element;
    if (!elements.includes(localName)) found.push(`element ${localName}: ${outerHTML.slice(0, 80)}`);
    for (const { name } of element.attributes) {
      if (/^on|pwned|^style$|^src/.test(name)) found.push(`attribute ${name} of ${localName}`);
    }
  }
  if ("pwned" in window) found.push("a script ran");
  if (!document.head.querySelector('meta[http-equiv="Content-Security-Policy"][content^="default-src \'none\'"]')) {
    found.push("no content security policy");
  }
  ids.filter((id, index) => ids.indexOf(id) !== index).forEach((id) => found.push(`id twice: ${id}`));
  const targets = new Set(ids);
  for (const link of document.querySelectorAll("a")) {
    const address = link.getAttribute("href") ?? "";
    if (address.startsWith("#")) {
      if (!targets.has(decodeURIComponent(address.slice(1)))) found.push(`no target: ${address}`);
    } else if (!address.startsWith("https://")) {
      found.push(`link ${address}`);
    }
  }
  for (const element of document.querySelectorAll("[aria-labelledby]")) {
    const id = element.getAttribute("aria-labelledby");
    if (!targets.has(id)) found.push(`no label: ${id}`);
  }
  document.querySelectorAll("details").forEach((details) => (details.open = true));
  const text = document.documentElement.textContent;
  literals.filter((literal) => !text.includes(literal)).forEach((literal) => found.push(`text is missing: ${literal}`));
  const width = window.innerWidth;
  if (document.documentElement.scrollWidth > width) {
    const style = (element) => getComputedStyle(element);
    const parent = (element) => (style(element).position === "absolute" ? element.offsetParent : element.parentElement);
    const scrolls = (element) => {
      const outer = parent(element);
      return outer && (/auto|scroll|hidden/.test(style(outer).overflowX) || scrolls(outer));
    };
    const wide = all.filter((element) => element.getBoundingClientRect().right > width + 1 && !scrolls(element));
    const name = (element) => `${element.localName}.${element.className}: ${element.textContent.slice(0, 40)}`;
    const names = wide.slice(0, 3).map(name).join(" | ");
    found.push(`wider than ${width}: ${document.documentElement.scrollWidth} pixels; ${names}`);
  }
  return found;
}
