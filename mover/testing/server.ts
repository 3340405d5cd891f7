/** What starting servers of others takes. */
/** Waits until `look` says so; what it throws means not yet. The time is for what hangs: a busy machine must not reach it. */
export async function until(what: string, timeoutMs: number, look: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + timeoutMs;
  let last: unknown;
  while (performance.now() < end) {
    try {
      if (await look()) return;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error(`${what} did not come up`, { cause: last });
}
