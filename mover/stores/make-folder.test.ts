import fs from 'node:fs';
import path from 'node:path';
import { temporaryFolder } from '../testing/test-mover';
import { makeFolder } from './make-folder';

describe('makeFolder', () => {
  test('makes what is missing, and is fine with what is there', async () => {
    using scratch = temporaryFolder();
    const folder = path.join(scratch.folder, 'a', 'b', 'c');
    await makeFolder(folder);
    await makeFolder(folder);
    expect(fs.statSync(folder).mode & 0o777).toBe(0o700);
  });

  test('answers where there can be no folder', async () => {
    using scratch = temporaryFolder();
    const file = path.join(scratch.folder, 'file');
    fs.writeFileSync(file, '');
    fs.symlinkSync(path.join(scratch.folder, 'gone', 'gone'), path.join(scratch.folder, 'dangling'));
    await expect(makeFolder(file)).rejects.toMatchObject({ code: 'ENOTDIR' });
    await expect(makeFolder(path.join(file, 'a'))).rejects.toMatchObject({ code: 'ENOTDIR' });
    await expect(makeFolder(path.join(scratch.folder, 'dangling'))).rejects.toMatchObject({ code: 'ENOENT' });
    // The parent is there, and says that there is no such folder.
    await expect(makeFolder('/proc/nothing/at-all')).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
