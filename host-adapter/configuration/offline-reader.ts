import { spawn } from 'node:child_process';
import path from 'node:path';
import { packageRoot } from '../../common/lifecycle/process-info';
import { CommonErrors } from '../../common/errors/common-errors';
import { TidemarkError } from '../../common/errors/tidemark-error';

const program = path.join(packageRoot, 'dist', 'mover', 'offline', 'main.js');

/**
 * Runs the mover's offline reader, which reads a repository without any server. `args` name files, never secrets. Resolves with the JSON object that it printed.
 * Throws what it says, under its code.
 */
export async function readOffline(args: readonly string[]): Promise<Readonly<Record<string, unknown>>> {
  const child = spawn(process.execPath, [program, ...args, '--json'], { stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  const [line = ''] = stdout.trim().split('\n').slice(-1);
  let answer: { error?: { code: string; message: string } } & Record<string, unknown> = {};
  try {
    answer = JSON.parse(line) as typeof answer;
  } catch {
    // Refused before it began: the text says why.
  }
  if (code === 0) return answer;
  if (answer.error)
    throw new TidemarkError(
      { code: answer.error.code, kind: 'failure', retry: 'after-operator', status: 'FAILED_PRECONDITION' },
      answer.error.message,
    );
  throw CommonErrors.ARGUMENT_INVALID({ field: 'options', problem: stderr.trim().split('\n')[0] ?? 'not understood' });
}
