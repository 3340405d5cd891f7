import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { loggerTo } from '../../common/log/logger';
import { SupervisedChild } from './supervised-child';

const script = `
const [, , mode, file] = process.argv;
require('node:fs').appendFileSync(file, process.pid + '\\n');
if (mode === 'crash') process.exit(3);
console.log(JSON.stringify({ ready: 'x', pid: process.pid }));
process.stdin.on('end', () => process.exit(0)).resume();
if (mode === 'stubborn') process.on('SIGTERM', () => undefined);
`;

describe('SupervisedChild', () => {
  let folder: string;
  beforeEach(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-child-'));
    fs.writeFileSync(path.join(folder, 'child.js'), script);
  });
  afterEach(() => fs.rmSync(folder, { recursive: true }));

  const starts = () =>
    fs.existsSync(path.join(folder, 'starts')) ? fs.readFileSync(path.join(folder, 'starts'), 'utf8').trim().split('\n') : [];
  const supervise = (mode: () => string) =>
    new SupervisedChild({
      name: 'x',
      script: path.join(folder, 'child.js'),
      prepare: async () => [mode(), path.join(folder, 'starts')],
      logFile: path.join(folder, 'log', 'x.log'),
      logger: loggerTo(() => undefined),
      firstDelayMs: 20,
      maxDelayMs: 50,
    });
  const until = async (what: () => boolean) => {
    for (const end = Date.now() + 120_000; !what();) {
      if (Date.now() > end) throw new TypeError('did not happen');
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };

  it('starts a program, tells when it is ready, and stops it', async () => {
    const child = supervise(() => 'run');
    await child.start();
    const { pid } = (await child.ready()) as { pid: number };
    expect(child.state).toEqual({ pid, ready: true, restarts: 0 });
    await child.stop();
    expect(() => process.kill(pid, 0)).toThrow();
  });

  it('starts it again after a kill, under a new preparation', async () => {
    let modes = 0;
    const child = supervise(() => {
      modes += 1;
      return 'run';
    });
    await child.start();
    const first = (await child.ready()) as { pid: number };
    process.kill(first.pid, 'SIGKILL');
    await until(() => child.state.ready && child.state.pid !== first.pid);
    expect(modes).toBe(2);
    expect(child.state.restarts).toBe(1);
    await child.stop();
  });

  it('goes on trying while it crashes, and not after a stop', async () => {
    const child = supervise(() => 'crash');
    await child.start();
    await until(() => starts().length >= 3);
    await child.stop();
    const count = starts().length;
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(starts().length).toBeLessThanOrEqual(count + 1);
  });

  it('tries again when the system could not start it', async () => {
    let starts = 0;
    const child = new SupervisedChild({
      name: 'x',
      script: path.join(folder, 'child.js'),
      prepare: async () => {
        starts += 1;
        // A command line that no system takes.
        return ['run', path.join(folder, 'starts'), ...(starts < 3 ? ['x'.repeat(3_000_000)] : [])];
      },
      logFile: path.join(folder, 'log', 'x.log'),
      logger: loggerTo(() => undefined),
      firstDelayMs: 5,
      maxDelayMs: 10,
    });
    await child.start();
    await expect(child.ready()).resolves.toMatchObject({ ready: 'x' });
    expect(starts).toBe(3);
    await child.stop();
  });

  it('waits for a child that was not ready yet', async () => {
    const child = supervise(() => (starts().length === 0 ? 'crash' : 'run'));
    await child.start();
    await expect(child.ready()).resolves.toMatchObject({ ready: 'x' });
    await child.stop();
  });
});
