import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

const root = path.resolve(__dirname, '..', '..', '..');

/** The real image, from packages; does nothing when it is there already. Takes about a minute otherwise. */
export function buildWorkerImage(): void {
  execFileSync('python3', [path.join(root, 'scripts', 'worker-image', 'main.py')], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
}

/** A folder with an image that boots nothing, for worker VMs that run as processes. `contentMib` of noise make its upload last. */
export function emptyWorkerImage(folder: string, version = '0.0.1', contentMib = 0): string {
  fs.mkdirSync(folder, { recursive: true });
  const file = path.join(folder, `tidemark-worker-${version}.qcow2`);
  if (contentMib === 0) execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', file, '16M']);
  else {
    const noise = path.join(folder, 'noise.raw');
    fs.writeFileSync(noise, randomBytes(contentMib * 1024 * 1024));
    execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', noise, file]);
    fs.rmSync(noise);
  }
  const sha256 = createHash('sha256').update(fs.readFileSync(file)).digest('hex');
  fs.writeFileSync(file.replace(/qcow2$/, 'json'), JSON.stringify({ version, sha256 }));
  return folder;
}
