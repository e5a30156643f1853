// JSON as the text that it is: numbers keep every digit, which JSON.parse would round.
//
// Texts enter and leave; nothing here makes a value of them. Whoever calls has checked that they are JSON.

const SPACE = /[\s]/;

function skip(text, at) {
  while (at < text.length && SPACE.test(text[at])) at += 1;
  return at;
}

/** Where the text literal that begins at `at` ends. */
function endOfString(text, at) {
  for (let i = at + 1; i < text.length; i += 1) {
    if (text[i] === "\\") i += 1;
    else if (text[i] === '"') return i + 1;
  }
  return text.length;
}

/** Where the value that begins at `at` ends. */
function endOfValue(text, at) {
  let depth = 0;
  for (let i = at; i < text.length; ) {
    const char = text[i];
    if (char === '"') {
      i = endOfString(text, i);
      if (!depth) return i;
      continue;
    }
    if (char === "{" || char === "[") depth += 1;
    else if (char === "}" || char === "]") {
      if (!depth) return i;
      depth -= 1;
      if (!depth) return i + 1;
    } else if (!depth && (char === "," || SPACE.test(char))) return i;
    i += 1;
  }
  return text.length;
}

/** The members of an object, as pairs of a name and the text of its value. */
export function members(text) {
  const found = [];
  let at = skip(text, 0) + 1;
  for (;;) {
    at = skip(text, at);
    if (text[at] === ",") at = skip(text, at + 1);
    if (text[at] !== '"') return found;
    const nameEnd = endOfString(text, at);
    const name = JSON.parse(text.slice(at, nameEnd));
    const begin = skip(text, skip(text, nameEnd) + 1);
    const end = endOfValue(text, begin);
    found.push([name, text.slice(begin, end)]);
    at = end;
  }
}

/** The text of one member's value; "" where there is none. */
export function member(text, wanted) {
  for (const [name, value] of members(text)) if (name === wanted) return value;
  return "";
}

/** What stands between an object's braces. */
export function inside(text) {
  const begin = skip(text, 0);
  return text.slice(begin + 1, endOfValue(text, begin) - 1).trim();
}

/** JSON on indented lines. */
export function pretty(text) {
  let out = "";
  let depth = 0;
  const line = () => "\n" + "  ".repeat(depth);
  for (let i = 0; i < text.length; ) {
    const char = text[i];
    if (char === '"') {
      const end = endOfString(text, i);
      out += text.slice(i, end);
      i = end;
      continue;
    }
    i += 1;
    if (SPACE.test(char)) continue;
    if (char === "{" || char === "[") {
      const next = skip(text, i);
      if (text[next] === "}" || text[next] === "]") {
        out += char + text[next];
        i = next + 1;
      } else {
        depth += 1;
        out += char + line();
      }
    } else if (char === "}" || char === "]") {
      depth -= 1;
      out += line() + char;
    } else if (char === ",") out += char + line();
    else if (char === ":") out += ": ";
    else out += char;
  }
  return out;
}
