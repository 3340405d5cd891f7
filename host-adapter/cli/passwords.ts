import fs from 'node:fs';
import { createInterface } from 'node:readline';
import { usage } from './cli-failure';
import type { CliProcess } from './context';

export interface PasswordOptions {
  readonly passwordFile?: string;
  readonly passwordStdin?: boolean;
}

/** A password from a file, from standard input, or typed without echo; never from the command line. */
export async function readPassword(process: CliProcess, options: PasswordOptions, prompt: string): Promise<string> {
  if (options.passwordFile !== undefined) {
    try {
      return fs.readFileSync(options.passwordFile, 'utf8').replace(/\r?\n$/, '');
    } catch (error) {
      throw usage(`--password-file: ${(error as Error).message}`);
    }
  }
  if (options.passwordStdin === true) {
    let text = '';
    for await (const chunk of process.stdin) text += String(chunk);
    return text.replace(/\r?\n$/, '');
  }
  if (!process.stdin.isTTY) throw usage('give the password with --password-file FILE or --password-stdin');
  return typed(process, prompt);
}

function typed(process: CliProcess, prompt: string): Promise<string> {
  process.stderr.write(prompt);
  process.stdin.setRawMode(true);
  return new Promise((resolve, reject) => {
    let text = '';
    const end = (finish: () => void) => {
      process.stdin.setRawMode(false);
      process.stdin.removeListener('data', onData);
      process.stdin.pause();
      process.stderr.write('\n');
      finish();
    };
    const onData = (data: Buffer) => {
      for (const character of data.toString('utf8')) {
        if (character === '\r' || character === '\n') return end(() => resolve(text));
        if (character === '\u0003') return end(() => reject(usage('no password given')));
        if (character === '\u007f') text = text.slice(0, -1);
        else text += character;
      }
    };
    process.stdin.on('data', onData);
  });
}

/** A yes or no question on the terminal; false when nobody is there to answer. */
export function confirm(process: CliProcess, question: string): Promise<boolean> {
  if (!process.stdin.isTTY) return Promise.resolve(false);
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  return new Promise((resolve) =>
    lines.question(`${question} [y/N] `, (answer) => {
      lines.close();
      resolve(/^y(es)?$/i.test(answer.trim()));
    }),
  );
}
