import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { MountHelper } from './mount-helper';

describe('the helper for mounting', () => {
  test('runs programs beside each other, and tells what they said', async () => {
    const helper = new MountHelper();
    const [slow, words, failing, missing] = await Promise.all([
      helper.run(120_000, 'sh', '-c', 'sleep 0.3; echo late'),
      helper.run(120_000, 'printf', '%s|', 'with blank', "quote's", '$HOME', '', '*'),
      helper.run(120_000, 'sh', '-c', 'echo one; echo two >&2; exit 32'),
      helper.run(120_000, '/no/such/program'),
    ]);
    expect(slow).toEqual({ code: 0, said: 'late' });
    expect(words).toEqual({ code: 0, said: "with blank|quote's|$HOME||*|" });
    expect(failing).toEqual({ code: 32, said: 'one\ntwo' });
    expect(missing.code).toBe(127);
  });

  test('kills what takes too long, and refuses what would be another word', async () => {
    const helper = new MountHelper();
    expect(await helper.run(300, 'sleep', '600')).toMatchObject({ code: 137 });
    expect(await helper.run(300, 'echo', 'a\nb')).toMatchObject({ code: 1 });
    expect(await helper.run(120_000, 'echo', 'again')).toEqual({ code: 0, said: 'again' });
  });

  test('does not keep a process from ending', async () => {
    const script = `const { MountHelper } = require(${JSON.stringify(path.join(__dirname, 'mount-helper.js'))});
      new MountHelper().run(20000, 'echo', 'done').then(({ said }) => console.log(said));`;
    expect((await promisify(execFile)(process.execPath, ['-e', script], { timeout: 120_000 })).stdout).toBe('done\n');
  });
});
