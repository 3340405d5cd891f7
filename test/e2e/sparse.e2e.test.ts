/** A large sparse disk costs what is in it, a change costs what changed, and memory does not follow the size of the disk. */
import fs from 'node:fs';
import path from 'node:path';
import { peakMemoryBytes } from '../harness/child';
import { Site } from '../harness/site';

const mib = 1024 * 1024;
const gib = 1024 * mib;

/** Bytes of all files below a folder; who works in it may take some away meanwhile. */
function folderBytes(folder: string): number {
  return fs
    .readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((name) => fs.statSync(path.join(folder, name), { throwIfNoEntry: false }))
    .reduce((sum, stat) => sum + (stat?.isFile() === true ? stat.size : 0), 0);
}

describe('a 40 GiB disk with 1 GiB of data', () => {
  let site: Site;

  beforeAll(async () => {
    site = await Site.start({
      plan: { vms: [{ name: 'big', cluster: 'Level46', disks: [{ name: 'big-a', sizeMib: 40 * 1024, format: 'cow' }] }] },
    });
    await site.lab.control('DELETE', '/captures');
    await site.lab.startVm('big');
    for (let part = 0; part < 16; part += 1) await site.dirty('big', 'big-a', part * 2500, 64, part + 1);
    await site.installation.cli('job', 'create', 'big', '--repository', 'main', '--vm', 'big');
  }, 900_000);
  afterAll(async () => {
    await site[Symbol.asyncDispose]();
  }, 900_000);

  it('is read as 1 GiB, then as 10 MiB, below 400 MiB of memory', async () => {
    const full = await site.run('big');
    const first = full.tasks[0]?.disks[0]?.counters;
    expect(full.tasks[0]?.failure).toBeNull();
    expect(first?.readBytes).toBeGreaterThanOrEqual(gib);
    expect(first?.readBytes).toBeLessThan(1.1 * gib);

    for (let part = 0; part < 10; part += 1) await site.dirty('big', 'big-a', 100 + part * 3900, 1, 100 + part);
    const before = folderBytes(site.repository);
    const incremental = await site.run('big');
    const second = incremental.tasks[0]?.disks[0];
    expect(second?.mode).toBe('incremental');
    expect(second?.counters.readBytes).toBeLessThanOrEqual(20 * mib);
    expect(second?.counters.transferredBytes).toBeLessThanOrEqual(21 * mib);
    expect(second?.counters.storedBytes).toBeLessThanOrEqual(21 * mib);
    // Everything that was written, index pages, manifest and caches included.
    expect(folderBytes(site.repository) - before).toBeLessThanOrEqual(24 * mib);

    const peaks = (['worker', 'mover'] as const).map(
      (role) => [role, Math.round(peakMemoryBytes(site.installation.childPid(role)) / mib)] as const,
    );
    for (const [role, peakMib] of peaks) expect([role, peakMib < 400 ? 'below 400 MiB' : peakMib]).toEqual([role, 'below 400 MiB']);
  }, 900_000);
});
