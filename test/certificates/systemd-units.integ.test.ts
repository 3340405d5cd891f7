import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const root = path.resolve(__dirname, '..', '..', '..');
const units = path.join(root, 'scripts', 'systemd');
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-units-'));
const names = fs.readdirSync(units).filter((name) => /\.(service|path)$/.test(name));

/** Where a package puts the programs, and where they are here. */
const installed: readonly (readonly [string, string])[] = [
  ['/usr/bin/tidemark ', `${path.join(root, 'scripts', 'tidemark')} `],
  ['/usr/lib/tidemark/certificate/', `${path.join(root, 'scripts', 'certificate')}/`],
];

function verify(files: readonly string[]) {
  return spawnSync('systemd-analyze', ['verify', '--man=no', '--recursive-errors=yes', ...files], { encoding: 'utf8' });
}

describe('systemd units', () => {
  beforeAll(() => {
    for (const name of names) {
      let text = fs.readFileSync(path.join(units, name), 'utf8');
      for (const [there, here] of installed) text = text.replaceAll(there, here);
      fs.writeFileSync(path.join(folder, name), text);
    }
  });
  afterAll(() => fs.rmSync(folder, { recursive: true }));

  it('are there for every role, and for certificates that are replaced from outside', () => {
    const roles = ['server', 'plugin', 'mover', 'worker', 'all-in-one', 'certificates'].map((role) => `tidemark-${role}.service`);
    expect(names.sort()).toEqual([...roles, 'tidemark-certificates.path'].sort());
  });

  it('are understood by systemd, every line of them', () => {
    const { status, stderr } = verify(names.map((name) => path.join(folder, name)));
    expect(stderr).toBe('');
    expect(status).toBe(0);
  });

  it('would not pass with a setting that does not exist', () => {
    const wrong = path.join(folder, 'wrong.service');
    fs.writeFileSync(wrong, '[Service]\nExecStart=/bin/true\nProtectEverything=yes\n');
    expect(verify([wrong]).status).not.toBe(0);
  });

  it('give the roles little to do harm with', () => {
    for (const role of ['server', 'plugin', 'mover', 'worker', 'all-in-one']) {
      const words = ['security', '--offline=true', '--no-pager', path.join(folder, `tidemark-${role}.service`)];
      const told = execFileSync('systemd-analyze', words, { encoding: 'utf8' });
      // 0 is closed, 10 is open; a unit without any of it has 9.6.
      const exposure = Number(/Overall exposure level for \S+: ([\d.]+)/.exec(told)?.[1]);
      expect([role, exposure < 3]).toEqual([role, true]);
    }
  });
});
