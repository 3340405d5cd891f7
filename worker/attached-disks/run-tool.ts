import { spawn } from 'node:child_process';

/**
 * Runs a tool of util-linux, for what Node.js has no system call for. True when it succeeded, false when it failed, is not there, took longer than its
 * patience or was aborted. Never rejects. Resolves when the tool is gone, so that it holds no device any more; except for one that hangs in
 * the kernel, which cannot even be killed and is not waited for.
 */
export function runTool(command: string, args: readonly string[], patienceMs: number, signal?: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) return resolve(false);
    const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;
    const child = spawn(command, args, { stdio: 'ignore', env: { PATH } });
    const kill = () => child.kill('SIGKILL');
    const end = (good: boolean) => {
      clearTimeout(late);
      signal?.removeEventListener('abort', kill);
      resolve(good);
    };
    const late = setTimeout(() => {
      kill();
      child.unref();
      end(false);
    }, patienceMs);
    signal?.addEventListener('abort', kill, { once: true });
    child.once('error', () => end(false));
    child.once('close', (code) => end(code === 0));
  });
}
