import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { becomeSoleProcess } from './sole-process';

describe('becomeSoleProcess', () => {
  let folder: string;
  beforeEach(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-sole-'));
  });
  afterEach(() => {
    fs.rmSync(folder, { recursive: true, force: true });
  });

  it('is refused on a folder that another has, whatever the folder is called', async () => {
    const alias = path.join(folder, 'alias');
    const data = path.join(folder, 'data');
    const release = await becomeSoleProcess(data);
    fs.symlinkSync(data, alias);
    let waited = 0;
    const second = becomeSoleProcess(alias, { waitMs: 250, waiting: () => (waited += 1) });
    await expect(second).rejects.toMatchObject({ code: 'DATA_FOLDER_IN_USE' });
    expect(waited).toBe(1);
    await (
      await becomeSoleProcess(path.join(folder, 'other'))
    )();
    await release();
    await (
      await becomeSoleProcess(data)
    )();
  });

  it('waits for a process that ends, also by SIGKILL', async () => {
    const program = `require(${JSON.stringify(require.resolve('./sole-process'))}).becomeSoleProcess(process.argv[1]).then(() => {
      process.stdout.write('held');
      setInterval(() => undefined, 1000);
    });`;
    const child = spawn(process.execPath, ['-e', program, folder], { stdio: ['ignore', 'pipe', 'inherit'] });
    await new Promise((resolve) => child.stdout.once('data', resolve));
    const kill = () => setTimeout(() => child.kill('SIGKILL'), 200);
    const release = await becomeSoleProcess(folder, { waitMs: 120_000, waiting: kill });
    expect(child.killed).toBe(true);
    await release();
  });
});
