import { execFile, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';

test('storage that hangs leaves the mover threads for other files', async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-threads-'));
  try {
    // Opening a named pipe that nobody writes to holds a thread, as a share whose server is away does.
    const pipe = path.join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    const script = `require(${JSON.stringify(path.join(__dirname, 'main.js'))});
      const fs = require('node:fs');
      for (let i = 0; i < 12; i++) fs.open(${JSON.stringify(pipe)}, () => {});
      fs.stat('/', () => { fs.writeSync(1, 'goes on'); process.kill(process.pid, 'SIGKILL'); });`;
    const ended = promisify(execFile)(process.execPath, ['-e', script], { timeout: 170_000, killSignal: 'SIGKILL' });
    await expect(ended).rejects.toMatchObject({ stdout: 'goes on' });
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}, 180_000);
