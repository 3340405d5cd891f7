/** Polls until the condition holds; fails with the text after the time. Tests wait for facts, never for time. */
export async function eventually(what: string, condition: () => boolean | Promise<boolean>, timeoutMs = 150_000): Promise<void> {
  const until = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > until) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
