import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

/**
 * A worker image as the plug-in looks for it, with nothing in it that boots: for a lab in which the program of a worker VM runs as a process.
 * The version decides the content, so that two versions differ.
 */
export function putWorkerImage(folder: string, version: string, mebibytes = 4): void {
  fs.mkdirSync(folder, { recursive: true });
  const raw = path.join(folder, 'content.raw');
  const pattern = createHash('sha512').update(version).digest();
  fs.writeFileSync(raw, Buffer.alloc(mebibytes * 1024 * 1024, pattern));
  const name = `tidemark-worker-${version}`;
  const file = path.join(folder, `${name}.qcow2`);
  execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, `${file}.new`]);
  fs.rmSync(raw);
  fs.renameSync(`${file}.new`, file);
  const sha256 = createHash('sha256').update(fs.readFileSync(file)).digest('hex');
  fs.writeFileSync(path.join(folder, `${name}.json`), JSON.stringify({ version, sha256, file: `${name}.qcow2` }));
}
