/** What is mounted where, from /proc/self/mountinfo (proc(5)). */
import fs from 'node:fs/promises';
import path from 'node:path';

export interface MountEntry {
  readonly mountPoint: string;
  /** e.g. `nfs4`, `cifs`, `fuse.sshfs`, `ext4`. */
  readonly type: string;
  readonly source: string;
}

/** The mount that a folder lies on; of several on top of each other the one that is seen. */
export function mountOf(folder: string, mountinfo: string): MountEntry | undefined {
  let found: MountEntry | undefined;
  for (const line of mountinfo.split('\n')) {
    const [before = '', after = ''] = line.split(' - ', 2);
    const mountPoint = unescaped(before.split(' ')[4] ?? '');
    const [type = '', source = ''] = after.split(' ');
    if (mountPoint === '' || type === '') continue;
    // Later lines lie on top of earlier ones.
    if (isBelow(folder, mountPoint) && mountPoint.length >= (found?.mountPoint.length ?? 0))
      found = { mountPoint, type, source: unescaped(source) };
  }
  return found;
}

/** As {@link mountOf}, of now; the folder's links are followed, and what mounts on first use is mounted. Throws what the file system says. */
export async function currentMountOf(folder: string): Promise<MountEntry | undefined> {
  const real = await fs.realpath(folder);
  await fs.readdir(real);
  return mountOf(real, await fs.readFile('/proc/self/mountinfo', 'utf8'));
}

/** What is mounted at exactly this folder, whose parent is there. What is mounted is not touched: its server may be away. */
export async function mountAt(point: string): Promise<MountEntry | undefined> {
  const real = path.join(await fs.realpath(path.dirname(point)), path.basename(point));
  const found = mountOf(real, await fs.readFile('/proc/self/mountinfo', 'utf8'));
  return found?.mountPoint === real ? found : undefined;
}

function isBelow(folder: string, mountPoint: string): boolean {
  return folder === mountPoint || folder.startsWith(mountPoint === path.sep ? mountPoint : `${mountPoint}${path.sep}`);
}

/** Blank, tab, newline and backslash stand there as three octal digits. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
