// Listens to /api/mixdown/live: server-sent events by fetch, because a request of this page names its token in a
// header, and because what the server says when it refuses is worth showing. It comes back by itself, with the id
// of the last message that it has seen, so that nothing is lost between.

const SILENCE_MS = 40_000;
const LONGEST_PAUSE_MS = 15_000;

export class Stream {
  /**
   * @param {object} options
   * @param {string} options.url what to listen to
   * @param {string} options.csrf the token of this page
   * @param {string} options.after the id to go on from
   * @param {(kind: string, text: string, id: string) => void} options.onMessage
   * @param {(state: string, text: string) => void} options.onState "open", "lost" (it tries again) or "ended"
   */
  constructor({ url, csrf, after, onMessage, onState }) {
    Object.assign(this, { url, csrf, after, onMessage, onState });
    this.pause = 1000;
    this.controller = null;
  }

  open() {
    if (this.controller) return;
    clearTimeout(this.timer);
    this.controller = new AbortController();
    this.listen(this.controller);
  }

  close() {
    clearTimeout(this.timer);
    clearTimeout(this.watch);
    this.controller?.abort();
    this.controller = null;
  }

  async listen(controller) {
    let told = "";
    try {
      const headers = { Accept: "text/event-stream", "X-CSRF-Token": this.csrf };
      if (this.after) headers["Last-Event-ID"] = this.after;
      const answer = await fetch(this.url, { headers, cache: "no-store", signal: controller.signal });
      if (!answer.ok) {
        told = await refusal(answer);
        if (answer.status < 500) return this.end(controller, told);
      } else {
        this.pause = 1000;
        this.onState("open", "");
        await this.read(answer.body.getReader(), controller);
      }
    } catch (error) {
      if (error.name !== "AbortError" && error.name !== "TypeError") console.error(error);
    }
    if (this.controller !== controller) return;
    this.close();
    this.onState("lost", told);
    this.timer = setTimeout(() => this.open(), this.pause);
    this.pause = Math.min(LONGEST_PAUSE_MS, this.pause * 2);
  }

  async read(reader, controller) {
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      clearTimeout(this.watch);
      this.watch = setTimeout(() => controller.abort(), SILENCE_MS);
      const { value, done } = await reader.read();
      if (done || this.controller !== controller) return;
      const blocks = (rest + decoder.decode(value, { stream: true })).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) this.take(block);
    }
  }

  take(block) {
    let kind = "message";
    let id = "";
    let text = "";
    for (const line of block.split("\n")) {
      if (line.startsWith("data: ")) text = line.slice(6);
      else if (line.startsWith("event: ")) kind = line.slice(7);
      else if (line.startsWith("id: ")) id = line.slice(4);
    }
    if (id) this.after = id;
    if (text) this.onMessage(kind, text, id);
  }

  end(controller, text) {
    if (this.controller !== controller) return;
    this.close();
    this.onState("ended", text);
  }
}

async function refusal(answer) {
  if (answer.status === 401) return "You are not signed in any more.";
  try {
    return (await answer.json()).error || `The server answered ${answer.status}.`;
  } catch {
    return `The server answered ${answer.status}.`;
  }
}
