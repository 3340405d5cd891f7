import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

const suite = 'bookworm';
/** What a Debian machine has on which our packages are installed: systemd, and Python for the scripts. */
const packages = ['systemd', 'systemd-sysv', 'dbus', 'python3', 'libstdc++6'];
const leftOut = ['man', 'doc', 'locale', 'info'].map((name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`);

/**
 * A Debian tree with systemd, made once from packages (half a minute) and kept below `cacheFolder`. Never written to: start machines from copies.
 * @returns its folder
 */
export function debianTree(cacheFolder: string): string {
  const recipe = createHash('sha256')
    .update([suite, ...packages, ...leftOut].join(' '))
    .digest('hex')
    .slice(0, 16);
  const tree = path.join(cacheFolder, `systemd-${recipe}`);
  if (fs.existsSync(tree)) return tree;
  fs.mkdirSync(cacheFolder, { recursive: true });
  const making = fs.mkdtempSync(path.join(cacheFolder, 'making-'));
  try {
    const archive = path.join(making, 'tree.tar');
    const options = ['--quiet', '--variant=minbase', '--mode=root', '--aptopt=Apt::Install-Recommends "false"', ...leftOut];
    execFileSync('mmdebstrap', [...options, `--include=${packages.join(',')}`, suite, archive], { stdio: ['ignore', 'ignore', 'inherit'] });
    const unpacked = path.join(making, 'tree');
    fs.mkdirSync(unpacked);
    execFileSync('tar', ['-x', '-f', archive, '-C', unpacked, '--exclude=./dev/*']);
    fs.renameSync(unpacked, tree);
  } catch (error) {
    // Somebody else may have made it in the meantime.
    if (!fs.existsSync(tree)) throw error;
  } finally {
    fs.rmSync(making, { recursive: true, force: true });
  }
  return tree;
}
