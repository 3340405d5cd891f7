import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { bootCost } from './boot-cost';

describe('what a start has taken', () => {
  let folder: string;
  beforeEach(() => (folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-proc-'))));
  afterEach(() => fs.rmSync(folder, { recursive: true }));
  const put = (uptime: string, stat: string) => {
    fs.writeFileSync(path.join(folder, 'uptime'), uptime);
    fs.writeFileSync(path.join(folder, 'stat'), stat);
  };

  it('is told apart into computing and waiting, over all CPUs', () => {
    put('20.50 31.00\n', 'cpu  600 0 300 2900 200 0 5\ncpu0 1 2 3 4 5\ncpu1 1 2 3 4 5\nintr 5\n');
    expect(bootCost(folder)).toEqual({ seconds: 20.5, computedSeconds: 10 });
  });

  it('is not guessed', () => {
    expect(bootCost(path.join(folder, 'nowhere'))).toBeUndefined();
    put('what\n', 'cpu  1 2 3 4 5\ncpu0 1\n');
    expect(bootCost(folder)).toBeUndefined();
    put('20.50 31.00\n', 'nothing\n');
    expect(bootCost(folder)).toBeUndefined();
  });

  it('can be had of this machine', () => {
    expect(bootCost()?.seconds).toBeGreaterThan(0);
  });
});
