/**
 * Runs mount(8) and umount(8) from a shell that was started before anything was mounted. A process that has files open on a share whose server is away must
 * start no other: between fork and exec the child closes its copies of them, which for NFS means waiting for what was written, and libuv blocks the whole event
 * loop until exec is through (seen with Linux 6.1: the mover stood still for minutes, and could not even unmount what it waited for).
 */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';

export interface MountResult {
  /** 127: there is no such program; 137: it was killed, for it took too long. */
  readonly code: number;
  /** Both streams. */
  readonly said: string;
}

/** Each command is its id, its time limit in seconds, the number of its words, and the words, a line each. Answered by a line: id, exit code, what was said. */
const script = `while IFS= read -r id && IFS= read -r limit && IFS= read -r count; do
  set --
  while [ "$count" -gt 0 ]; do
    IFS= read -r word
    set -- "$@" "$word"
    count=$((count - 1))
  done
  {
    said=$(timeout -s KILL "$limit" "$@" 2>&1 < /dev/null)
    printf '%s %s %s\\n' "$id" "$?" "$(printf %s "$said" | head -c 2000 | tr '\\n' '\\t')"
  } &
done`;

export class MountHelper {
  private shell: ChildProcessByStdio<Writable, Readable, null> | undefined;
  private readonly waiting = new Map<string, (result: MountResult) => void>();
  private commands = 0;

  /** Words without line breaks. Resolves whatever the program does. */
  run(limitMs: number, ...words: readonly string[]): Promise<MountResult> {
    if (words.some((word) => word.includes('\n'))) return Promise.resolve({ code: 1, said: 'a name has a line break' });
    const shell = (this.shell ??= this.start());
    const id = String(this.commands++);
    return new Promise((resolve) => {
      this.waiting.set(id, resolve);
      keepAlive(shell, true);
      shell.stdin.write([id, String(limitMs / 1000), String(words.length), ...words, ''].join('\n'));
    });
  }

  private start(): ChildProcessByStdio<Writable, Readable, null> {
    const shell = spawn('/bin/sh', ['-c', script], { stdio: ['pipe', 'pipe', 'ignore'], env: { ...process.env, LC_ALL: 'C' } });
    createInterface({ input: shell.stdout }).on('line', (line) => {
      const [, id = '', code = '', said = ''] = /^(\d+) (\d+) (.*)$/s.exec(line) ?? [];
      this.answer(id, { code: Number(code), said: said.replaceAll('\t', '\n') });
      if (this.waiting.size === 0) keepAlive(shell, false);
    });
    const ended = () => {
      if (this.shell === shell) this.shell = undefined;
      for (const id of [...this.waiting.keys()]) this.answer(id, { code: 1, said: 'the helper for mounting ended' });
    };
    shell.once('exit', ended);
    shell.once('error', ended);
    shell.stdin.once('error', ended);
    return shell;
  }

  private answer(id: string, result: MountResult): void {
    const resolve = this.waiting.get(id);
    this.waiting.delete(id);
    resolve?.(result);
  }
}

/** A helper that has nothing to do does not keep the process from ending; it ends with it. */
function keepAlive(shell: ChildProcessByStdio<Writable, Readable, null>, on: boolean): void {
  for (const part of [shell, shell.stdin, shell.stdout] as unknown as { ref?(): void; unref?(): void }[]) {
    if (on) part.ref?.();
    else part.unref?.();
  }
}
