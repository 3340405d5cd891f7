/** Programs of the image, and how they are called. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const execute = promisify(execFile);

/** Standard output. Rejects with the program's own words. */
export async function run(program: string, args: readonly string[], timeoutMs = 30_000): Promise<string> {
  const { stdout } = await execute(program, [...args], { timeout: timeoutMs, maxBuffer: 4 * 1024 * 1024 });
  return stdout;
}

/** The first line that a failed program wrote, for the console. */
export function complaint(error: unknown): string {
  const { stderr, message } = (error ?? {}) as { stderr?: string; message?: string };
  return (stderr?.trim() || message || String(error)).split('\n')[0] ?? '';
}
