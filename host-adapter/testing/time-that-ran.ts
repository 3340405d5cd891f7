/** Milliseconds that this process really ran since `startClock`: what a machine stalls meanwhile is nobody's fault. */
export function startClock(): { elapsedMs(): number; stop(): void } {
  const everyMs = 50;
  let [ranMs, lookedAt] = [0, performance.now()];
  const look = () => {
    const now = performance.now();
    ranMs += Math.min(now - lookedAt, 10 * everyMs);
    lookedAt = now;
  };
  const timer = setInterval(look, everyMs);
  return {
    elapsedMs: () => {
      look();
      return ranMs;
    },
    stop: () => clearInterval(timer),
  };
}
