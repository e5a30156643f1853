/**
 * Pages as on slow phones and far networks: a processor that is so many times slower, answers that come so much later.
 * What a flow does before a page is ready for it, or reads before it is there, shows itself then.
 */

/** Slow a page down: `slow` times, and by `latency` ms for each answer. */
export async function slowly(page, { slow = 1, latency = 0 }) {
  if (slow === 1 && !latency) return;
  const session = await page.context().newCDPSession(page);
  const set = async () => {
    if (slow > 1) await session.send("Emulation.setCPUThrottlingRate", { rate: slow });
    if (!latency) return;
    await session.send("Network.enable");
    await session.send("Network.emulateNetworkConditions", { offline: false, latency, downloadThroughput: -1, uploadThroughput: -1 });
  };
  await set();
  // another site is another process, which knows nothing of it
  page.on("framenavigated", (frame) => frame === page.mainFrame() && set().catch(() => {}));
}
