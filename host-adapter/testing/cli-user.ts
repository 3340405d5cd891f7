import path from 'node:path';
import { PassThrough } from 'node:stream';
import { runCli } from '../cli/cli';
import type { TestInstallation } from './test-installation';

/** The command line in this process, without a terminal; its login is kept in `folder`. */
export async function runCliIn(folder: string, argv: readonly string[]): Promise<{ code: number; out: string; err: string }> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  let out = '';
  let err = '';
  stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
  const code = await runCli([...argv], {
    env: { TIDEMARK_CLI_CONFIG: path.join(folder, 'cli.json') },
    stdin: new PassThrough() as never,
    stdout: stdout as never,
    stderr: stderr as never,
    on: () => undefined,
    removeListener: () => undefined,
  });
  await new Promise((resolve) => setImmediate(resolve));
  return { code, out, err };
}

/** Logs in at a test installation as its first administrator. Throws when that is refused. */
export async function loginWithCli({ endpoints, folder }: TestInstallation): Promise<void> {
  const { code, err } = await runCliIn(folder, [
    ...['login', '--server', endpoints.console, '--ca', path.join(folder, 'ca.pem')],
    ...['--password-file', path.join(folder, 'initial-admin-password')],
  ]);
  if (code !== 0) throw new Error(`the login ended with ${code}: ${err}`);
}
