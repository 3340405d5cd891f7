import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { clockCell, resourceCells, skewOf } from './machine-checks';

const mib = 1024 * 1024;

describe('the clock', () => {
  const sentAt = new Date('2026-01-02T03:04:05Z');
  const later = (ms: number) => new Date(sentAt.getTime() + ms);

  it('is compared with half the round trip in mind', () => {
    expect(skewOf(sentAt, later(100), 200)).toBe(0);
    expect(skewOf(sentAt, later(7_000), 4_000)).toBe(5_000);
    expect(skewOf(sentAt, later(-60_000), undefined)).toBe(-60_000);
  });

  it.each([
    [0, 'passed', ''],
    [5_000, 'passed', ''],
    [-5_001, 'warning', 'CLOCK_SKEW'],
    [60_000, 'warning', 'CLOCK_SKEW'],
    [3_600_000, 'failed', 'CLOCK_SKEW'],
  ])('%i ms away is %s', (skewMs, verdict, code) => {
    const cell = clockCell(skewMs, 12, 'backup:8446');
    expect(cell).toMatchObject({ verdict, code, target: 'backup:8446', latencyMs: 12 });
    expect(cell.advice !== '').toBe(code !== '');
  });

  it('says which side is ahead', () => {
    expect(clockCell(3_600_000, undefined, 'p:1').detail).toBe("3600 s ahead of the plug-in's clock");
    expect(clockCell(-1_200, 8, 'p:1').detail).toBe("1.2 s behind the plug-in's clock, measured within 4 ms");
  });
});

describe('memory and scratch space', () => {
  it('are judged by the rule of a worker VM', async () => {
    // 2 GiB for 4 tasks, of which the kernel keeps some.
    const [enough, scratch] = await resourceCells(os.tmpdir(), 4, 1_950 * mib, 900 * mib);
    expect(enough).toMatchObject({ verdict: 'passed', target: 'memory' });
    expect(scratch).toMatchObject({ verdict: 'passed', target: 'scratch' });
    const [less] = await resourceCells(os.tmpdir(), 8, 1_950 * mib, 900 * mib);
    expect(less).toMatchObject({ verdict: 'warning', code: 'MEMORY_LOW' });
    expect(less?.advice).toContain('3072 MiB');
  });

  it('fail where nothing can be written', async () => {
    const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-scratch-')), 'a-file');
    fs.writeFileSync(file, '');
    const [, scratch] = await resourceCells(file, 4, 2_048 * mib, 900 * mib);
    expect(scratch).toMatchObject({ verdict: 'failed', code: 'SCRATCH_FULL' });
    fs.rmSync(path.dirname(file), { recursive: true });
  });
});
