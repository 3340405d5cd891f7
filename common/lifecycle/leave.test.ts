import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const leave = path.join(__dirname, 'leave.js');

/** Opens a named pipe that nobody writes to, which holds a thread as a dead server does, and leaves. Node's own end would wait for it. */
function run(script: string): Promise<{ code: number | null; signal: string | null; said: string }> {
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
  return new Promise((resolve) => child.once('exit', (code, signal) => resolve({ code, signal, said })));
}

describe('leaving', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-leave-'));
  const pipe = path.join(folder, 'pipe');
  beforeAll(() => execFileSync('mkfifo', [pipe]));
  afterAll(() => fs.rmSync(folder, { recursive: true }));
  const load = `const { leaveWith } = require(${JSON.stringify(leave)}); const fs = require('node:fs');`;

  test('ends with the code', async () => {
    expect(await run(`${load} setInterval(() => {}, 1000); leaveWith(3);`)).toEqual({ code: 3, signal: null, said: '' });
  });

  test('waits a while for calls on files', async () => {
    const writer = `setTimeout(() => fs.openSync(${JSON.stringify(pipe)}, 'r+'), 300);`;
    const script = `${load} fs.promises.open(${JSON.stringify(pipe)}); ${writer} leaveWith(4);`;
    expect(await run(script)).toEqual({ code: 4, signal: null, said: '' });
  });

  test('waits as long when the process was stopped for a while meanwhile', async () => {
    const asleep = 'const { now } = performance; performance.now = () => now.call(performance) + 3_600_000;';
    const writer = `setTimeout(() => fs.openSync(${JSON.stringify(pipe)}, 'r+'), 300);`;
    const script = `${load} fs.promises.open(${JSON.stringify(pipe)}); ${writer} leaveWith(4); ${asleep}`;
    expect(await run(script)).toEqual({ code: 4, signal: null, said: '' });
  });

  test('does not wait for ever for a file system that hangs', async () => {
    expect(await run(`${load} fs.open(${JSON.stringify(pipe)}, () => {}); leaveWith(5);`)).toEqual({
      code: null,
      signal: 'SIGKILL',
      said: expect.stringContaining('does not answer') as string,
    });
  });
});
