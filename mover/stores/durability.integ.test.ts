/** The order of system calls that docs/formats/directory.md promises, as the kernel saw them (strace). */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { temporaryFolder } from '../testing/test-mover';

const child = path.join(__dirname, '..', 'testing', 'store-child.js');
const calls = 'openat,write,pwrite64,writev,pwritev,ftruncate,fsync,fdatasync,rename,renameat,renameat2,link,linkat,mkdir,mkdirat,unlink';

/** What would survive a power cut after each system call. */
class Disk {
  /** Files with changes that were not synced. */
  private readonly dirty = new Set<string>();
  /** Names that were made and whose folder was not synced since. */
  private readonly loose = new Set<string>();
  readonly problems: string[] = [];
  published = 0;

  constructor(private readonly root: string) {}

  made(name: string): void {
    this.loose.add(name);
  }

  changed(file: string): void {
    this.dirty.add(file);
    if (this.isVisible(file)) this.problems.push(`${file} was changed under its final name`);
  }

  synced(file: string): void {
    this.dirty.delete(file);
    for (const name of this.loose) if (path.dirname(name) === file) this.loose.delete(name);
  }

  named(from: string, to: string): void {
    if (!this.isVisible(to)) return;
    this.published += 1;
    if (this.dirty.has(from)) this.problems.push(`${to} became visible before ${from} was synced`);
    this.loose.add(to);
  }

  told(name: string): void {
    for (let at = path.join(this.root, name); at !== this.root; at = path.dirname(at))
      if (this.loose.has(at)) this.problems.push(`${name} was told of before the folder of ${at} was synced`);
  }

  private isVisible(file: string): boolean {
    return file.startsWith(`${this.root}/`) && !file.startsWith(`${this.root}/tmp/`);
  }
}

/** Plays a trace on a disk. Lines are whole, because only calls that succeeded are traced. */
function play(trace: string, disk: Disk): void {
  for (const line of trace.split('\n')) {
    const call = /^\d+ +(\w+)\((.*)\) += /.exec(line);
    if (!call) continue;
    const [, name = '', words = ''] = call;
    const quoted = [...words.matchAll(/"([^"]*)"/g)].map((match) => match[1] ?? '');
    const file = /^\d+<([^>]*)>/.exec(words)?.[1] ?? '';
    const [first = '', second = ''] = quoted;
    if (name === 'write' && first.startsWith('told ')) disk.told(first.slice('told '.length).replace(/\\n$/, ''));
    else if (/^(p?writev?|pwrite64|ftruncate)$/.test(name)) disk.changed(file);
    else if (name === 'openat' && words.includes('O_CREAT')) disk.made(first);
    else if (name.startsWith('mkdir')) disk.made(first);
    else if (/^f(data)?sync$/.test(name)) disk.synced(file);
    else if (/^(rename|link)/.test(name)) disk.named(first, second);
  }
}

test('every object is synced before it gets its name, and its folders before anybody is told', () => {
  using scratch = temporaryFolder();
  const folder = path.join(scratch.folder, 'repository');
  const trace = path.join(scratch.folder, 'trace');
  fs.mkdirSync(folder);
  execFileSync(
    'strace',
    ['-f', '-y', '-s', '64', '-e', `trace=${calls}`, '-e', 'status=successful', '-o', trace, process.execPath, child, folder],
    {
      stdio: ['ignore', 'ignore', 'inherit'],
    },
  );
  const text = fs.readFileSync(trace, 'utf8');
  const disk = new Disk(folder);
  play(text, disk);
  expect(disk.problems).toEqual([]);
  expect(disk.published).toBe(6);

  // The test sees what is missing: without the syncs each object would be lost in one way or another.
  const without = (pattern: RegExp) => {
    const worse = new Disk(folder);
    play(
      text
        .split('\n')
        .filter((line) => !pattern.test(line))
        .join('\n'),
      worse,
    );
    return worse.problems.length;
  };
  expect(without(/ f(data)?sync\(\d+<[^>]*\/tmp\/child\./)).toBeGreaterThanOrEqual(6);
  expect(without(/ fsync\(\d+<[^>]*\/(points|packs|writers)[^>]*>/)).toBeGreaterThanOrEqual(4);
});
