/** The program itself, in a process of its own: which of the two `plugin`, `mover` and `worker` it is asked about. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';

const program = path.join(__dirname, 'tidemark.js');
const run = (...args: string[]) => spawnSync(process.execPath, [program, ...args], { encoding: 'utf8' });

describe('tidemark', () => {
  it.each([
    ['plugin', '--help'],
    ['mover', '--help'],
    ['worker', '--help'],
    ['worker', '-h'],
  ])('%s %s shows the commands and the role', (noun, option) => {
    const { status, stdout, stderr } = run(noun, option);
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(
      new RegExp(`Usage: tidemark ${noun} \\[options\\] \\[command\\][^]*enrol[^]*usage: tidemark ${noun} \\[--config FILE\\]`),
    );
  });

  it('server --help shows the role, and worker list --help the command alone', () => {
    expect(run('server', '--help')).toMatchObject({ status: 0, stdout: expect.stringMatching(/^usage: tidemark server/) });
    const list = run('worker', 'list', '--help');
    expect(list.stdout).toMatch(/^Usage: tidemark worker list/);
    expect(list.stdout).not.toContain('--end-with-parent');
  });
});
