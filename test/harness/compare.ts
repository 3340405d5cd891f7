import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** `qemu-img compare` of two raw images; undefined when they are identical, else what it says. */
export async function imageDifference(left: string, right: string): Promise<string | undefined> {
  try {
    await run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', left, right]);
    return undefined;
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string };
    return `${stdout ?? ''}${stderr ?? ''}`.trim() || String(error);
  }
}

/** SHA-256 of every file inside an ext4 image, by path. Nothing is mounted; works on a copy whose journal was replayed. */
export async function fileChecksums(image: string): Promise<Map<string, string>> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-files-'));
  try {
    const copy = path.join(folder, 'image');
    await run('cp', ['--sparse=always', image, copy]);
    // Exit code 1 means "journal replayed, errors corrected": a live file system is always like that.
    await run('e2fsck', ['-fy', copy]).catch((error: { code?: number }) => {
      if ((error.code ?? 8) > 1) throw error;
    });
    const tree = path.join(folder, 'tree');
    fs.mkdirSync(tree);
    await run('debugfs', ['-R', `rdump / ${tree}`, copy], { maxBuffer: 64 * 1024 * 1024 });
    const sums = new Map<string, string>();
    for (const name of fs.readdirSync(tree, { recursive: true, encoding: 'utf8' }).sort()) {
      const file = path.join(tree, name);
      if (fs.lstatSync(file).isFile()) sums.set(name, createHash('sha256').update(fs.readFileSync(file)).digest('hex'));
    }
    return sums;
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}
