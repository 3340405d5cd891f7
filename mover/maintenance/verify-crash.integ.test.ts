import { execFile } from 'node:child_process';
import { createCipheriv } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { packName } from '../repository/blocks/pack-table';
import { randomFrom } from '../testing/test-disk';
import { temporaryFolder } from '../testing/test-mover';
import { TestRepository } from '../testing/test-repository';
import { ledgerBelow, readsFile, verifyPeriodMs } from '../testing/verify-child';
import { Verifier } from './verifier';

const child = path.join(__dirname, '..', 'testing', 'verify-child.js');
const block = 65_536;
const size = 600 * block;
const lives = 6;

/** Does not compress. */
function noise(seed: number): Buffer {
  const key = Buffer.alloc(16);
  key.writeUInt32BE(seed);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(block));
}

const blocksOf = (first: number, count: number) => new Map(Array.from({ length: count }, (_, i) => [i, noise(first + i)] as const));

/** Resolves with the signal that ended it. */
function killed(folder: string, killAt: number): Promise<string | null> {
  return new Promise((resolve) => {
    execFile(process.execPath, [child, folder, String(killAt)], { timeout: 120_000 }, (error) => resolve(error?.signal ?? null));
  });
}

/** True when what was read of a pack, in any of the lives, covers these bytes. */
function isRead(folder: string, name: string, from: number, to: number): boolean {
  const ranges = fs
    .readFileSync(readsFile(folder), 'utf8')
    .split('\n')
    .filter((line) => line.startsWith(`${name} `))
    .map((line) => line.split(' ').slice(1).map(Number) as [number, number])
    .sort(([a], [b]) => a - b);
  let at = from;
  for (const [offset, length] of ranges) if (offset <= at) at = Math.max(at, offset + length);
  return at >= to;
}

test('a verification killed at random moments goes on from its notes, and notes nothing that it did not read', async () => {
  using scratch = temporaryFolder();
  const { folder } = scratch;
  let damagedPack: string;
  {
    // Two packs that take two reads each, and small ones.
    await using test = await TestRepository.open(folder, { packTargetBytes: 4_600_000 });
    await test.backup(size, blocksOf(1, 130));
    for (let i = 0; i < 8; i++) await test.backup(size, blocksOf(1000 + 10 * i, 2));
    const { index } = test.repository;
    const place = index.find(test.digestOf(noise(1031)));
    damagedPack = index.packs.idOf(place?.pack ?? -1);
    const file = path.join(folder, 'repository', packName(damagedPack));
    const bytes = fs.readFileSync(file);
    bytes[(place?.offset ?? 0) + 1000] = (bytes[(place?.offset ?? 0) + 1000] as number) ^ 1;
    fs.writeFileSync(file, bytes);
    expect(Math.max(...index.packs.ids().map((id) => index.packs.lengthOf(index.packs.add(id))))).toBeGreaterThan(4 * 1024 * 1024);
  }
  const random = randomFrom(20261121);
  let noted = new Set<string>();
  for (let life = 0; life < lives || noted.size < 3; life++) {
    expect(await killed(folder, 1 + Math.floor(random() * 22))).toBe('SIGKILL');
    await using test = await TestRepository.open(folder);
    const { index } = test.repository;
    const ledger = ledgerBelow(folder, test);
    const now = new Set(index.packs.ids().filter((id) => ledger.verifiedAt(id) !== undefined));
    ledger.close();
    for (const id of noted) expect(now).toContain(id);
    expect(now).not.toContain(damagedPack);
    for (const id of now)
      for (const { offset, storedLength } of (await index.readList(id)).entries)
        expect(isRead(folder, packName(id), offset, offset + storedLength)).toBe(true);
    noted = now;
  }
  await using test = await TestRepository.open(folder);
  const total = test.repository.index.packs.count;
  expect(noted.size).toBeLessThan(total - 1);
  const ledger = ledgerBelow(folder, test);
  const rest = new Verifier(test.repository, new AbortController().signal, { ledger, periodMs: verifyPeriodMs });
  await rest.run(undefined);
  expect(rest.progress).toMatchObject({ skippedPacks: noted.size, checkedPacks: total - noted.size });
  expect(rest.findings.map(({ code, objectName }) => [code, objectName])).toEqual([['BLOCK_CORRUPT', packName(damagedPack)]]);
  expect(test.repository.index.packs.ids().filter((id) => ledger.verifiedAt(id) === undefined)).toEqual([damagedPack]);
  ledger.close();
}, 600_000);
